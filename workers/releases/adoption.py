"""Adoption: a person lets rows count that no MAC speaks for, or an audit chain that is not the one
of the anchor. It is in the audit chain itself, with who and why, and under the audit key.

Three occasions: an upgrade from a redistill without MACs (once), a restored backup, a lost audit
key.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from redistill.streams.store import properties
from redistill.streams.store.tables import specs
from redistill.workers.errors import KeysError
from redistill.workers.releases import anchor as anchors
from redistill.workers.releases import keys as keyring
from redistill.workers.releases import registry, roles, trail
from redistill.workers.releases.anchor import Stamp
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.releases.roles import Lifetimes
from redistill.workers.store import audit, audit_chain, audit_key
from redistill.workers.store.audit_chain import ACCEPTED, TAKEN_IN, AuditChain
from redistill.workers.store.audit_key import AUDIT_KEY
from redistill.workers.store.tables import audit as entries
from redistill.workers.store.tables import pointers, repository_roles, versions

__all__ = ["Adopted", "accept_restore", "is_due", "take_in"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Adopted:
    """What was taken as it stands."""

    entries: int
    """Of the audit chain."""
    models: int = 0
    versions: int = 0
    given_up: str = ""
    """The anchor that counts no more."""


def is_due(conn: sa.Connection) -> bool:
    """Whether there are audit entries of a redistill that made no MACs."""
    if properties.get(conn, AUDIT_KEY) is not None:
        return False
    return conn.execute(sa.select(entries.c.seq).limit(1)).first() is not None


def take_in(
    conn: sa.Connection,
    layout: RepositoryLayout,
    *,
    actor: str,
    now: int,
) -> Adopted:
    """Take in what an older redistill left, once.

    Parameters
    ----------
    conn
        A writing transaction of a database that was opened with the audit key.
    layout
        Where the repository lies, if it does here.

    Raises
    ------
    KeysError
        The repository is elsewhere, or its timestamp says that this was done before.
    """
    signed = conn.execute(sa.select(repository_roles.c.role).limit(1)).first() is not None
    stamp = _stamp(layout)
    if signed and stamp is None:
        raise KeysError(
            "the rows of releases are to be taken in under the audit key, and the signed"
            " repository is"
            " not here: run `redistill db upgrade` once more where the repair worker's home is"
        )
    if stamp is not None and stamp.anchor is not None:
        raise KeysError(
            "the row audit_key of facts is gone: this database has been taken in before, as the"
            " signed"
            f" anchor says ({stamp.anchor}). Put it back, or restore a backup; `redistill keys"
            " accept-restore --vouch --reason TEXT` takes the rows as they are"
        )
    _use_key_here(conn)
    done = audit_chain.verify(conn)
    body = {"vouched": True, "entries": done.entries, "head": done.head, "problem": done.problem}
    audit.append(conn, actor, TAKEN_IN, "", body, now)
    return _vouch(conn, done.entries, actor, now)


def accept_restore(
    conn: sa.Connection,
    layout: RepositoryLayout,
    *,
    reason: str,
    vouch: bool,
    new_key: bool,
    actor: str,
    now: int,
    lifetimes: Lifetimes,
) -> Adopted:
    """Let the audit chain count that is there, in place of the one of the signed anchor.

    Parameters
    ----------
    vouch
        Take all rows as they are, too: those that do not agree with the audit, and entries without
        a MAC. Everything that is signed is made anew from them.
    new_key
        The audit key that is here counts from now on (with ``vouch``).

    Raises
    ------
    KeysError
        The repository is not here, or the chain is damaged and nobody vouches for it.
    """
    stamp = _stamp(layout)
    if stamp is None:
        raise KeysError(
            f"there are no signing keys in {layout.keys}: run it where the repair worker's home is"
        )
    if new_key:
        _use_key_here(conn)
    if not vouch:
        _want_sound(conn)
    length, _ = audit.head(conn)
    gone = None if stamp.anchor is None else stamp.anchor.to_json()
    body = {"reason": reason, "anchor": gone, "vouched": vouch, "entries": length}
    _mend_head(conn)
    audit.append(conn, actor, ACCEPTED, "", body, now)
    given_up = "none" if stamp.anchor is None else str(stamp.anchor)
    if not vouch:
        return Adopted(entries=length, given_up=given_up)
    adopted = _vouch(conn, length, actor, now)
    for model in conn.execute(sa.select(pointers.c.model).order_by(pointers.c.model)).scalars():
        registry.sign_again(conn, model, now=now, lifetimes=lifetimes)
    roles.list_models(conn, now=now, lifetimes=lifetimes)
    return Adopted(
        entries=length, models=adopted.models, versions=adopted.versions, given_up=given_up
    )


def _vouch(conn: sa.Connection, length: int, actor: str, now: int) -> Adopted:
    names = sa.union(sa.select(specs.c.model), sa.select(versions.c.model)).order_by("model")
    models = list(conn.execute(names).scalars())
    count = 0
    for model in models:
        body = trail.as_it_stands(conn, model)
        count += len(body["versions"])
        audit.append(conn, actor, trail.ADOPTED, model, body, now)
    roles.follow_root(conn)  # an older redistill wrote another end
    return Adopted(entries=length, models=len(models), versions=count)


def _stamp(layout: RepositoryLayout) -> Stamp | None:
    """What clients read of the anchor; ``None``: there are no keys here."""
    if not keyring.exist(layout.keys):
        return None
    return anchors.published(layout, keyring.documents_in(layout.keys))


def _use_key_here(conn: sa.Connection) -> None:
    file = audit_key.of_file(conn)
    if file is None:
        raise KeysError("the database was opened without an audit key")
    properties.put(conn, AUDIT_KEY, file.key(make=True).fingerprint)


def _want_sound(conn: sa.Connection) -> None:
    key, chain = audit_key.known(conn), AuditChain()
    if key is None:
        raise KeysError("no audit key counts in this database: run `redistill db upgrade` first")
    chain.read(conn, key)
    if chain.problem is not None:
        raise KeysError(
            f"{chain.problem}: restore a sound backup; or, with --vouch, all rows count as they are"
        )


def _mend_head(conn: sa.Connection) -> None:
    """The head is that of the newest entry: the chain goes on from what is there."""
    newest = conn.execute(
        sa.select(entries.c.seq, entries.c.sha256).order_by(entries.c.seq.desc()).limit(1)
    ).one_or_none()
    if newest is None:
        properties.drop(conn, audit.HEAD)
    else:
        properties.put(conn, audit.HEAD, f"{newest.seq} {newest.sha256}")
