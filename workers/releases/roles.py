"""Roles of the signed repository (TUF): their versions, expiries and contents, as rows.

They change in the transaction that moves a pointer; ``repository`` makes the documents from them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from redistill.streams.client.release import FileEntry, PointerFile, target_name
from redistill.streams.store.database import insert_ignore
from redistill.times import microseconds, utc
from redistill.workers.errors import KeysError, RegistryError
from redistill.workers.releases import keys as keyring
from redistill.workers.releases.anchor import Anchor
from redistill.workers.releases.keys import Keys
from redistill.workers.releases.release_files import PRIVATE_NAMES
from redistill.workers.store.tables import repository_roles as roles

__all__ = [
    "PREFIX",
    "Lifetimes",
    "Role",
    "anchor",
    "anchored",
    "ensure",
    "expiring",
    "follow_keys",
    "follow_root",
    "is_due",
    "lift",
    "list_models",
    "point",
    "pointer_text",
    "read_role",
    "read_roles",
    "renew",
    "root_end",
    "touch",
    "tuf_time",
    "valid_until",
    "versions_of",
    "with_anchor",
]

PREFIX = "m-"
"""Of the role of a model: names such as ``root`` are taken by TUF."""

OTHER_KEYS = (
    "this database's repository was made with other keys (its root metadata are not those of"
    " keys/root.json): put the old keys back"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lifetimes:
    """How long signed metadata are valid, in hours. They are signed again at half of it."""

    root: float = 24.0 * 365
    targets: float = 24.0 * 30
    """Of ``targets`` and of every model's role."""
    snapshot: float = 24.0 * 7
    timestamp: float = 24.0 * 7
    """How long clients believe a repository that nobody signs any more."""

    @classmethod
    def of_pointer(cls, hours: float) -> Lifetimes:
        """Lifetimes under which a pointer is believed for ``hours`` after the last signature."""
        return cls(targets=max(720.0, 2 * hours), snapshot=hours, timestamp=hours)

    def of(self, role: str) -> timedelta:
        """Lifetime of a role's metadata."""
        hours = self.targets if role.startswith(PREFIX) else getattr(self, role)
        return timedelta(hours=hours)


@dataclass(frozen=True, slots=True)
class Role:
    """A row of ``repository_roles``."""

    name: str
    version: int
    expires_at: int
    body: Mapping[str, Any]


def read_roles(conn: sa.Connection) -> dict[str, Role]:
    """All roles by name; empty before the first release."""
    rows = conn.execute(sa.select(roles).order_by(roles.c.role))
    return {r.role: Role(r.role, r.version, r.expires_at, json.loads(r.body)) for r in rows}


def read_role(conn: sa.Connection, name: str) -> Role | None:
    """One role; ``None`` before the first release."""
    r = conn.execute(sa.select(roles).where(roles.c.role == name)).one_or_none()
    return None if r is None else Role(r.role, r.version, r.expires_at, json.loads(r.body))


def versions_of(conn: sa.Connection, names: Iterable[str]) -> dict[str, int]:
    """Versions of some roles, without their contents."""
    rows = conn.execute(sa.select(roles.c.role, roles.c.version).where(roles.c.role.in_(names)))
    return {str(r.role): int(r.version) for r in rows}


def ensure(conn: sa.Connection, trust: bytes, *, now: int, lifetimes: Lifetimes) -> None:
    """Make the rows of a new repository from its root metadata; nothing to do for an old one.

    Raises
    ------
    RegistryError
        The database belongs to a repository with another root: its clients trust other keys.
    """
    text = trust.decode()
    if (known := _root(conn)) is None:
        for name, version, body in (
            ("root", int(json.loads(text)["signed"]["version"]), {"documents": [text]}),
            ("targets", 1, {"models": []}),
            ("snapshot", 1, {}),
            ("timestamp", 1, {}),
        ):
            conn.execute(
                insert_ignore(roles).values(
                    role=name,
                    version=version,
                    expires_at=_expiry(name, now, lifetimes),
                    body=_dump(body),
                )
            )
    elif text not in known:
        raise RegistryError(OTHER_KEYS)


def follow_keys(conn: sa.Connection, keys: Keys, *, now: int, lifetimes: Lifetimes) -> list[str]:
    """Take over what the keys folder has and the rows do not: a new root document, another key of a
    role. What a replaced key signed is signed anew.

    Returns
    -------
    list of str
        The roles whose keys are others.

    Raises
    ------
    RegistryError
        The rows' root documents are not those of these keys, nor their predecessors.
    """
    if (known := _root(conn)) is None:
        return []
    try:
        merged = keyring.merged([text.encode() for text in known], keys.documents)
    except KeysError as error:
        raise RegistryError(f"{OTHER_KEYS} ({error})") from error
    changed = keyring.replaced(known[-1].encode(), merged[-1])
    fresh = [document.decode() for document in merged]
    signs_models, body = keys.models.public_key.keyid, _body(conn, "targets")
    if body.get("models_key", signs_models) != signs_models:
        changed.append("models")
    raised = set(changed) & {"targets", "snapshot", "timestamp"}
    if "models" in changed:
        raised |= {"targets", *(PREFIX + model for model in body["models"])}
    if fresh != known:
        raised.add("timestamp")  # what is written is written for a new timestamp
        values = {"version": _version_of(merged[-1]), "body": _dump({"documents": fresh})}
        conn.execute(sa.update(roles).where(roles.c.role == "root").values(**values))
    follow_root(conn)
    if raised:
        for name in sorted({*raised, "snapshot", "timestamp"}, key=_lock_order):
            _raise_version(conn, name, now, lifetimes)
    if body.get("models_key") != signs_models:
        text = _dump({**body, "models_key": signs_models})
        conn.execute(sa.update(roles).where(roles.c.role == "targets").values(body=text))
    return changed


def follow_root(conn: sa.Connection) -> None:
    """The root's row ends when its newest document does: renewal is due by the row, and a row that
    ended later would keep the root from being renewed until clients refuse it."""
    if (known := _root(conn)) is not None:
        ends = _end_of(known[-1].encode())
        conn.execute(sa.update(roles).where(roles.c.role == "root").values(expires_at=ends))


def root_end(root: Role) -> int:
    """When the newest root document of a row ends, microseconds."""
    return _end_of(root.body["documents"][-1].encode())


def anchored(by_name: Mapping[str, Role]) -> Anchor | None:
    """What the timestamp's row anchors, or anchored when it was signed last."""
    stamp = by_name.get("timestamp")
    return None if stamp is None else Anchor.of(stamp.body.get("audit"))


def with_anchor(by_name: Mapping[str, Role], at: Anchor) -> dict[str, Role]:
    """Roles whose timestamp carries an anchor, as :func:`anchor` left the row."""
    stamp = by_name["timestamp"]
    return {**by_name, "timestamp": replace(stamp, body={**stamp.body, "audit": at.to_json()})}


def anchor(conn: sa.Connection, stamp: Role, at: Anchor) -> bool:
    """Put an anchor into the row of a timestamp that nobody has signed yet; false: it is another
    one by now."""
    done = conn.execute(
        sa.update(roles)
        .where(roles.c.role == "timestamp", roles.c.version == stamp.version)
        .values(body=_dump({**stamp.body, "audit": at.to_json()}))
    )
    return done.rowcount == 1


def touch(conn: sa.Connection, *, now: int, lifetimes: Lifetimes) -> None:
    """Have the timestamp signed anew, with nothing else new."""
    _raise_version(conn, "timestamp", now, lifetimes)


def point(
    conn: sa.Connection,
    pointer: PointerFile,
    files: Iterable[tuple[str, FileEntry]],
    *,
    now: int,
    lifetimes: Lifetimes,
) -> int:
    """Put a model's new pointer into the rows.

    Parameters
    ----------
    conn
        The transaction in which the pointer moves.
    pointer
        What services shall obey.
    files
        Name inside its release and entry of every file that services may fetch; private ones are
        left out.

    Returns
    -------
    int
        Version of the snapshot that will hold it: give it to the outbox as ``after_snapshot``.

    Raises
    ------
    RegistryError
        The repository was never made: there are no keys.
    """
    model = pointer.model
    # The row of the snapshot is what concurrent transactions queue at, in one order for all.
    snapshot = _raise_version(conn, "snapshot", now, lifetimes)
    _raise_version(conn, "timestamp", now, lifetimes)
    body = {
        "pointer": pointer.to_json().decode(),
        "files": {
            target_name(model, name, entry.sha256): [entry.sha256, entry.bytes]
            for name, entry in files
            if name not in PRIVATE_NAMES
        },
    }
    role = PREFIX + model
    inserted = conn.execute(
        insert_ignore(roles).values(
            role=role, version=1, expires_at=_expiry(role, now, lifetimes), body=_dump(body)
        )
    )
    if inserted.rowcount == 1:
        top = _body(conn, "targets")
        more = {**top, "models": sorted({*top["models"], model})}
        _raise_version(conn, "targets", now, lifetimes, more)
    else:
        _raise_version(conn, role, now, lifetimes, body)
    return snapshot


def list_models(conn: sa.Connection, *, now: int, lifetimes: Lifetimes) -> None:
    """Make the list of models anew from the roles that there are, after rows were put right."""
    if read_role(conn, "targets") is None:
        return
    names = conn.execute(sa.select(roles.c.role).where(roles.c.role.startswith(PREFIX))).scalars()
    models = sorted(name.removeprefix(PREFIX) for name in names)
    top = _body(conn, "targets")
    if top["models"] != models:
        _raise_version(conn, "targets", now, lifetimes, {**top, "models": models})
        for name in ("snapshot", "timestamp"):
            _raise_version(conn, name, now, lifetimes)


def renew(conn: sa.Connection, keys: Keys, *, now: int, lifetimes: Lifetimes) -> list[str]:
    """Raise every role that is past half of its life, so that it is signed anew.

    Returns
    -------
    list of str
        The roles renewed. The root is renewed where its key is at hand; else see :func:`expiring`.
    """
    if not (by_name := read_roles(conn)):
        return []
    due = [r.name for r in by_name.values() if is_due(r.name, r.expires_at, now, lifetimes)]
    if keys.root is None:
        due = [name for name in due if name != "root"]
    if not due:
        return []
    for name in sorted({*due, "snapshot", "timestamp"}, key=_lock_order):
        if name == "root" and keys.root is not None:
            documents = list(by_name["root"].body["documents"])
            expires = tuf_time(_expiry("root", now, lifetimes))
            fresh = keyring.renewed_root(documents[-1].encode(), *keys.roots, expires=expires)
            _raise_version(
                conn, "root", now, lifetimes, {"documents": [*documents, fresh.decode()]}
            )
        else:
            _raise_version(conn, name, now, lifetimes)
    return due


def expiring(by_name: Mapping[str, Role], *, now: int, lifetimes: Lifetimes) -> list[str]:
    """Roles past half of their life: after a renewal those whose key was not at hand."""
    return [r.name for r in by_name.values() if is_due(r.name, r.expires_at, now, lifetimes)]


def valid_until(conn: sa.Connection) -> int | None:
    """When clients stop believing the repository (microseconds); ``None`` before it was made."""
    value = conn.execute(sa.select(sa.func.min(roles.c.expires_at))).scalar_one()
    return None if value is None else int(value)


def lift(
    conn: sa.Connection, seen: Mapping[str, int], *, now: int, lifetimes: Lifetimes
) -> list[str]:
    """Raise roles above versions that clients have seen, after a backup was restored.

    Parameters
    ----------
    seen
        Newest published version by role.

    Returns
    -------
    list of str
        The roles that were behind.
    """
    behind = [
        role
        for role in read_roles(conn).values()
        if role.name != "root" and seen.get(role.name, 0) > role.version
    ]
    if behind:
        for role in behind:
            version = seen[role.name]
            conn.execute(sa.update(roles).where(roles.c.role == role.name).values(version=version))
        for name in sorted({*(r.name for r in behind), "snapshot", "timestamp"}, key=_lock_order):
            _raise_version(conn, name, now, lifetimes)
    return [r.name for r in behind]


def pointer_text(conn: sa.Connection, model: str) -> str | None:
    """The JSON of a model's signed pointer; ``None`` before the first."""
    text = conn.execute(
        sa.select(roles.c.body).where(roles.c.role == PREFIX + model)
    ).scalar_one_or_none()
    return None if text is None else str(json.loads(text)["pointer"])


def _raise_version(
    conn: sa.Connection,
    role: str,
    now: int,
    lifetimes: Lifetimes,
    body: Mapping[str, Any] | None = None,
) -> int:
    values: dict[str, Any] = {
        "version": roles.c.version + 1,
        "expires_at": _expiry(role, now, lifetimes),
    }
    if body is not None:
        values["body"] = _dump(body)
    version = conn.execute(
        sa.update(roles).where(roles.c.role == role).values(**values).returning(roles.c.version)
    ).scalar_one_or_none()
    if version is None:
        raise RegistryError(
            "nothing can be published yet: there are no signing keys; run `redistill keys init`"
        )
    return int(version)


def _root(conn: sa.Connection) -> list[str] | None:
    """Root documents, oldest first; ``None`` before the repository was made."""
    text = conn.execute(sa.select(roles.c.body).where(roles.c.role == "root")).scalar_one_or_none()
    return None if text is None else list(json.loads(text)["documents"])


def _end_of(document: bytes) -> int:
    return microseconds(keyring.read_root(document).signed.expires)


def _version_of(document: bytes) -> int:
    return int(json.loads(document)["signed"]["version"])


def _body(conn: sa.Connection, role: str) -> Any:
    return json.loads(
        conn.execute(sa.select(roles.c.body).where(roles.c.role == role)).scalar_one()
    )


def _lock_order(role: str) -> tuple[int, str]:
    """``point`` takes the snapshot's row first: everybody must."""
    order = {"snapshot": 0, "timestamp": 1}
    return order.get(role, 2), role


def is_due(role: str, expires_at: int, now: int, lifetimes: Lifetimes) -> bool:
    """Whether a role has to be signed anew: it is past half of its life, or would be believed for
    longer than it may (a clock was ahead, or the setting was lowered).

    Examples
    --------
    >>> lives = Lifetimes(timestamp=24.0)
    >>> [is_due("timestamp", round(h * 3.6e9), 0, lives) for h in (11, 13, 24, 25, -1)]
    [True, False, False, True, True]
    """
    left, life = tuf_time(expires_at) - tuf_time(now), lifetimes.of(role)
    return left < life / 2 or (role != "root" and left > life + timedelta(minutes=1))


def _expiry(role: str, now: int, lifetimes: Lifetimes) -> int:
    end = tuf_time(now) + lifetimes.of(role)
    return microseconds(end.replace(microsecond=0))


def tuf_time(us: int) -> datetime:
    """A time of SQL as TUF has it: whole seconds, UTC."""
    return utc(us).replace(microsecond=0)


def _dump(body: Mapping[str, Any]) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"))
