"""Candidates that have faced the fresh rows of their incident are counted.

No old row changes. Of incidents that were open before, nobody knows how many candidates there were:
they begin with the first.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision: str | None = "0005"
branch_labels = None
depends_on = None

Big = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "fresh_tests",
        sa.Column("incident_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("since", Big, nullable=False),
        sa.Column("recipe", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("e_value", sa.Float(), nullable=False),
        sa.Column("at", Big, nullable=False),
        sa.ForeignKeyConstraint(
            ["incident_id"],
            ["incidents.incident_id"],
            name=op.f("fk_fresh_tests_incident_id"),
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name=op.f("fk_fresh_tests_job_id")),
        sa.PrimaryKeyConstraint("incident_id", "number", name=op.f("pk_fresh_tests")),
        sa.UniqueConstraint(
            "incident_id",
            "sha256",
            "version",
            "since",
            name=op.f("uq_fresh_tests_incident_id_sha256_version_since"),
        ),
    )
