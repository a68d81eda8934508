"""How Alembic runs our migrations: on the connection, and in the transaction, that it is given.

There is no alembic.ini: ``redistill.workers.store.opening`` is the only one who calls it.
"""

from __future__ import annotations

from alembic import context

from redistill.workers.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
