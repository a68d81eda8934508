"""People are told: what is wrong with the installation itself, what each channel was told, who has
taken what upon themselves, and which processes are alive.

No old row changes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision: str | None = "0006"
branch_labels = None
depends_on = None

Big = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "operational_alerts",
        sa.Column("alert_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("said", sa.Text(), nullable=False),
        sa.Column("remedy", sa.Text(), nullable=False),
        sa.Column("opened_at", Big, nullable=False),
        sa.Column("updated_at", Big, nullable=False),
        sa.Column("resolved_at", Big, nullable=True),
        sa.Column("open_mark", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("alert_id", name=op.f("pk_operational_alerts")),
        sa.UniqueConstraint(
            "kind",
            "subject",
            "open_mark",
            name=op.f("uq_operational_alerts_kind_subject_open_mark"),
        ),
    )
    op.create_table(
        "alert_holds",
        sa.Column("alert_key", sa.Text(), nullable=False),
        sa.Column("acknowledged_at", Big, nullable=True),
        sa.Column("acknowledged_by", sa.Text(), nullable=True),
        sa.Column("snoozed_until", Big, nullable=True),
        sa.Column("snoozed_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("alert_key", name=op.f("pk_alert_holds")),
    )
    op.create_table(
        "alert_deliveries",
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("alert_key", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("told", sa.Text(), nullable=True),
        sa.Column("told_state", sa.Text(), nullable=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("since", Big, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("not_before", Big, nullable=False),
        sa.Column("wanted_at", Big, nullable=False),
        sa.Column("sent_at", Big, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("channel", "alert_key", name=op.f("pk_alert_deliveries")),
    )
    op.create_table(
        "storm_members",
        sa.Column("alert_key", sa.Text(), nullable=False),
        sa.Column("storm_key", sa.Text(), nullable=False),
        sa.Column("joined_at", Big, nullable=False),
        sa.PrimaryKeyConstraint("alert_key", name=op.f("pk_storm_members")),
    )
    op.create_table(
        "processes",
        sa.Column("process_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("started_at", Big, nullable=False),
        sa.Column("seen_at", Big, nullable=False),
        sa.Column("ready", sa.Boolean(), nullable=False),
        sa.Column("said", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("process_id", name=op.f("pk_processes")),
    )
