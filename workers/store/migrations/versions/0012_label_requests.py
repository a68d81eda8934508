"""Where labels come from and who asked for them, rows that failed, prediction intervals, and
expected errors of a version.

Nothing of this was told before: older rows say so by NULL.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision: str | None = "0011"
branch_labels = None
depends_on = None

Big = sa.BigInteger().with_variant(sa.Integer, "sqlite")

NEW: dict[str, dict[str, type[sa.types.TypeEngine[str] | sa.types.TypeEngine[float]]]] = {
    "join_rows": {"failed": sa.Text, "predicted_low": sa.Float, "predicted_high": sa.Float},
    "labels": {"request_id": sa.Text, "arrival": sa.Text},
    "outcomes": {
        "request_id": sa.Text,
        "arrival": sa.Text,
        "slice_only": sa.Text,
        "predicted_low": sa.Float,
        "predicted_high": sa.Float,
    },
    "profiles": {"expected_error": sa.Text},
}


def upgrade() -> None:
    """Add the columns and the tables."""
    for table, columns in NEW.items():
        for name, kind in columns.items():
            op.add_column(table, sa.Column(name, kind(), nullable=True))
    op.create_table(
        "label_requests",
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("slice", sa.Text(), nullable=True),
        sa.Column("asked_at", Big, nullable=False),
        sa.Column("first_served_at", Big, nullable=False),
        sa.Column("last_served_at", Big, nullable=False),
        sa.Column("p_include", sa.Float(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("cost", sa.Float(), nullable=False),
        sa.Column("budget", sa.Integer(), nullable=False),
        sa.Column("budget_left", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("request_id", name="pk_label_requests"),
    )
    op.create_index("ix_label_requests_model_asked_at", "label_requests", ["model", "asked_at"])
    op.create_table(
        "label_request_rows",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("id_hash", Big, autoincrement=False, nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("served_at", Big, nullable=False),
        sa.Column("asked_at", Big, nullable=False),
        sa.PrimaryKeyConstraint("model", "id_hash", name="pk_label_request_rows"),
    )
    op.create_index("ix_label_request_rows_request_id", "label_request_rows", ["request_id"])
    op.create_table(
        "label_request_states",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("block_id", Big, nullable=False),
        sa.PrimaryKeyConstraint("model", "version", name="pk_label_request_states"),
    )
    op.create_index(  # the newest rows of a version are looked for each second
        "ix_feature_rows_model_version_block_id", "feature_rows", ["model", "version", "block_id"]
    )
