"""Columns that nobody read are gone: what they held stands elsewhere, or followed from it."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision: str | None = "0002"
branch_labels = None
depends_on = None

UNREAD = {
    "profiles": ("predecessor", "created_at"),
    "input_states": ("updated_at",),
    "accuracy_states": ("errors", "updated_at"),
    "windows": ("summary",),
    "model_locks": ("drained_at",),
    "findings": ("harmful", "updated_at"),
}
"""Columns by table. No foreign key leads to or from one of these tables: SQLite older than 3.35
cannot drop a column, so there the table is made anew, which foreign keys would forbid.
"""


def upgrade() -> None:
    """Drop the columns."""
    for table, columns in UNREAD.items():
        with op.batch_alter_table(table) as batch:
            for column in columns:
                batch.drop_column(column)
