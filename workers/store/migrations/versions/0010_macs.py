"""Audit entries and release requests carry a MAC, made with a key that is not in SQL.

Older rows have none: `redistill db upgrade` takes them in once
(redistill.workers.releases.adoption). The columns have no default, so that a worker of an older
redistill that still runs cannot add a row: its transaction fails as a whole, and no pointer of its
moves.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision: str | None = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, and an index for what the audit says of one model."""
    for table in ("audit", "intents"):
        op.add_column(table, sa.Column("mac", sa.Text(), nullable=False, server_default=""))
        with op.batch_alter_table(table) as batch:
            batch.alter_column("mac", server_default=None)
    op.create_index("ix_audit_subject", "audit", ["subject", "seq"])
