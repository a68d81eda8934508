"""Rows and leases know when the database got them, and deletions are counted by the hour.

Adding the columns changes no row, so that this takes no longer for a large table but for the
indexes (a second per million rows). Old rows have no ``stored_at``: retention fills it in batches
while the workers run, and deletes none before.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision: str | None = "0004"
branch_labels = None
depends_on = None

Big = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add columns, indexes and the table."""
    for table in ("join_rows", "feature_rows", "input_states"):
        op.add_column(table, sa.Column("stored_at", Big, nullable=True))
    # 0: of an old lease it is not known, and it has run out by the time that anybody asks
    op.add_column("leases", sa.Column("renewed_at", Big, nullable=False, server_default="0"))
    # nobody but retention asked for it, and that goes by stored_at now
    op.drop_index("ix_join_rows_served_at", "join_rows")
    op.create_index("ix_join_rows_stored_at", "join_rows", ["stored_at"])
    op.create_index("ix_feature_rows_model_stored_at", "feature_rows", ["model", "stored_at"])
    op.create_index("ix_labels_model_received_at", "labels", ["model", "received_at"])
    op.create_index("ix_outcomes_model_made_at", "outcomes", ["model", "made_at"])
    op.create_table(
        "deletion_budgets",
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("allowed", Big, nullable=False),
        sa.Column("deleted", Big, nullable=False),
        sa.Column("last_at", Big, nullable=False),
        sa.PrimaryKeyConstraint("table_name", "model", name=op.f("pk_deletion_budgets")),
    )
