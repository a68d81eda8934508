"""Workers of an older release that still run after the upgrade can store nothing more.

What they counted would be in no sum for ever: they do not count what they store and delete (0011).
``offsets.fence`` is ``next_offset`` once more, which the database checks: a stream worker that does
not write both cannot move an offset, so its whole flush fails and another worker reads the records.
A lease can only be asked for with ``renewed_at`` from now on, which 0.1 does not write: nothing of
its repair workers relays, retains, signs or works on jobs any more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision: str | None = "0012"
branch_labels = None
depends_on = None

Big = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add the fence, and take a default away."""
    op.add_column("offsets", sa.Column("fence", Big, nullable=True))
    op.execute(sa.text("UPDATE offsets SET fence = next_offset"))
    with op.batch_alter_table("offsets") as batch:
        batch.alter_column("fence", existing_type=Big, nullable=False)
        batch.create_check_constraint("ck_offsets_fence", "fence = next_offset")
    # a worker that holds a lease renews it by an update: nobody holds one after an upgrade
    op.execute(sa.text("UPDATE leases SET holder = '', token = token + 1, expires_at = 0"))
    with op.batch_alter_table("leases") as batch:
        batch.alter_column("renewed_at", existing_type=Big, server_default=None)
