"""Labels count in the order in which they came, and what raised an alarm is known by rows.

Of old findings of harm it is found by the time that the label which opened them claimed: so it was
decided until now.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision: str | None = "0008"
branch_labels = None
depends_on = None

Big = sa.BigInteger().with_variant(sa.Integer, "sqlite")

RAISED = """
UPDATE findings SET raised_seq = (
    SELECT max(o.seq) FROM outcomes o
    WHERE o.model = findings.model AND o.version = findings.version
      AND o.observed_at <= findings.opened_at
) WHERE kind = 'accuracy'
"""


def upgrade() -> None:
    """Add the column, and the time at which a label came to the index of those that wait."""
    op.add_column("findings", sa.Column("raised_seq", Big, nullable=True))
    op.execute(sa.text(RAISED))
    op.drop_index("ix_labels_waiting", "labels")
    op.create_index("ix_labels_waiting", "labels", ["model", "state", "check_at", "received_at"])
