"""Columns for records that kill a worker, and for counters that no longer grow."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"
branch_labels = None
depends_on = None

Big = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add the columns."""
    # nobody died at the offsets of an old row, as far as anybody knows
    op.add_column("offsets", sa.Column("tries", sa.Integer, nullable=False, server_default="0"))
    op.add_column("offsets", sa.Column("alone", Big, nullable=True))
    # when an old counter grew last is not known: retention counts from its first look
    op.add_column("counters", sa.Column("updated_at", Big, nullable=True))
