"""Labels say whether they came from the topic of their source, and processes what they know.

Labels that were read before did not: there were no such topics. A process of the last release, if
one still runs, says nothing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision: str | None = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    # A worker of the last release, which still runs, inserts rows without it.
    op.add_column(
        "labels", sa.Column("bound", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column(
        "processes", sa.Column("generation", sa.Integer(), nullable=False, server_default="1")
    )
    op.create_index(
        "ix_labels_unregistered",
        "labels",
        ["model"],
        sqlite_where=sa.text("state = 'unregistered'"),
        postgresql_where=sa.text("state = 'unregistered'"),
    )
