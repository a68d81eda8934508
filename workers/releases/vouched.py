"""Rows of a model that the audit vouches for, asked before anything follows from them: a pointer
moves, a job takes up its work, a version is added.

The repository writer asks again before it signs (``agreement``); rows that were changed while a job
ran, and put back before that, it would not see.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from redistill.workers.errors import Disagreement
from redistill.workers.releases import trail
from redistill.workers.releases.versions import raw
from redistill.workers.store import audit_key
from redistill.workers.store.tables import pointers

__all__ = ["want_vouched"]


def want_vouched(
    conn: sa.Connection, model: str, *, named: Iterable[str], spec_sha256: str | None = None
) -> None:
    """Refuse rows that are not what authentic audit entries say of them. Of a database that was
    opened without an audit key nothing is asked: nobody signs what is written there.

    Parameters
    ----------
    named
        Versions that something follows from.
    spec_sha256
        Hash of the specification as it was read; ``None``: nothing follows from it.

    Raises
    ------
    Disagreement
        Naming the row, and in what it is another.
    KeysError
        The audit key is not here, or is another one.
    """
    key = audit_key.known(conn)
    if key is None:
        if audit_key.of_file(conn) is not None and audit_key.is_unnamed(conn):
            raise Disagreement(
                "the row of facts that names the audit key is gone (after an upgrade of redistill:"
                " run `redistill db upgrade` where the signing keys are)"
            )
        return
    known = trail.read(conn, key, model)
    current = conn.execute(sa.select(pointers).where(pointers.c.model == model)).one_or_none()
    known.want_pointer(model, None if current is None else current._asdict())
    if spec_sha256 is not None and spec_sha256 != known.spec_sha256:
        raise Disagreement(f"the row of {model} in specs: it is not what was registered")
    for name in sorted(set(named)):
        row = raw(conn, model, name)
        if row is None:
            raise Disagreement(f"the row of {model} {name} in versions is gone")
        known.want(model, row)
        if row["sha256"] in known.barred:
            raise Disagreement(f"{model} {name} was barred, and its row in barred is gone")
