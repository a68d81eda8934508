"""Repository metadata (TUF): made from rows, byte for byte, signed and written.

A change of a pointer raises versions in ``repository_roles`` in the caller's transaction
(``roles.point``). Whoever holds the lease ``repository`` then makes the documents from the rows
(:func:`make_documents`, pure) and writes them, ``timestamp.json`` last (:func:`publish_metadata`).
ed25519 signatures are deterministic: the same rows give the same bytes, and a crash anywhere in
between is repaired by doing it again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

from redistill.files import unfinished
from redistill.streams.client.release import POINTER_FILE
from redistill.streams.store import lease, properties
from redistill.streams.store.database import Database
from redistill.workers.releases.anchor import FIELD
from redistill.workers.releases.keys import Keys
from redistill.workers.releases.release_files import RepositoryLayout, write_whole
from redistill.workers.releases.roles import PREFIX, Role, anchored, tuf_time, versions_of

__all__ = [
    "LEASE",
    "OLD_VERSIONS",
    "make_documents",
    "mend",
    "outstanding",
    "publish_metadata",
    "published_versions",
    "stamped_version",
]

LEASE = "repository"
OLD_VERSIONS = 20
"""Superseded documents that stay for clients in the middle of a refresh."""

_Signed = TypeVar("_Signed", Snapshot, Targets, Timestamp)


@dataclass(frozen=True, slots=True)
class Documents:
    """Everything that clients read, besides the released files."""

    metadata: dict[str, bytes]
    """By file name; ``timestamp.json`` is the last."""
    pointers: dict[str, bytes]
    """By path below ``targets/``."""
    snapshot: int


def make_documents(
    roles: Mapping[str, Role], keys: Keys, *, present: Collection[str] = ()
) -> Documents:
    """Make every document that the rows ask for. Pure: the same rows and keys give the same bytes.

    Parameters
    ----------
    roles
        All roles, read in one transaction.
    keys
        What signs them.
    present
        Names of metadata files that are known to be there: they are not made again.

    Returns
    -------
    Documents
        ``timestamp.json`` and the pointers are always among them.
    """
    metadata: dict[str, bytes] = {}
    pointers: dict[str, bytes] = {}
    for text in roles["root"].body["documents"]:
        metadata[f"{json.loads(text)['signed']['version']}.root.json"] = text.encode()
    models = roles["targets"].body["models"]
    for model in models:
        role = roles[PREFIX + model]
        data = str(role.body["pointer"]).encode()
        target = TargetFile.from_data(f"{model}/{POINTER_FILE}", data, ["sha256"])
        pointers[f"{model}/{target.hashes['sha256']}.{POINTER_FILE}"] = data
        name = f"{role.version}.{role.name}.json"
        if name not in present:
            targets = {
                path: TargetFile(length=size, hashes={"sha256": sha256}, path=path)
                for path, (sha256, size) in role.body["files"].items()
            }
            signed = Targets(role.version, expires=tuf_time(role.expires_at), targets=targets)
            signed.targets[target.path] = target
            metadata[name] = _sign(signed, role.name, keys)
    top = roles["targets"]
    name = f"{top.version}.targets.json"
    if name not in present:
        key = keys.models.public_key
        delegated = {
            PREFIX + m: DelegatedRole(PREFIX + m, [key.keyid], 1, True, paths=[f"{m}/*"])
            for m in models
        }
        delegations = Delegations({key.keyid: key}, delegated) if models else None
        signed = Targets(top.version, expires=tuf_time(top.expires_at), delegations=delegations)
        metadata[name] = _sign(signed, "targets", keys)
    snapshot = roles["snapshot"]
    meta = {
        f"{role.name}.json": MetaFile(version=role.version)
        for role in roles.values()
        if role.name == "targets" or role.name.startswith(PREFIX)
    }
    metadata[f"{snapshot.version}.snapshot.json"] = _sign(
        Snapshot(snapshot.version, expires=tuf_time(snapshot.expires_at), meta=meta),
        "snapshot",
        keys,
    )
    stamp, anchor = roles["timestamp"], anchored(roles)
    metadata["timestamp.json"] = _sign(
        Timestamp(
            stamp.version,
            expires=tuf_time(stamp.expires_at),
            snapshot_meta=MetaFile(version=snapshot.version),
            unrecognized_fields={} if anchor is None else {FIELD: anchor.to_json()},
        ),
        "timestamp",
        keys,
    )
    return Documents(metadata, pointers, snapshot.version)


def outstanding(conn: sa.Connection, layout: RepositoryLayout) -> bool:
    """Whether the rows ask for something that clients cannot read yet."""
    newest = versions_of(conn, ("snapshot", "timestamp"))
    if not newest:
        return False
    published = properties.published_snapshot(conn)
    stamped = stamped_version(layout)
    return published != newest["snapshot"] or stamped != newest["timestamp"]


def publish_metadata(
    database: Database,
    layout: RepositoryLayout,
    roles: Mapping[str, Role],
    keys: Keys,
    *,
    token: int,
    clock: Callable[[], int],
) -> int:
    """Write what the rows ask for.

    ``timestamp.json`` is replaced inside a transaction that holds the lease's row: a holder that
    was taken for dead cannot put an old one over a new one.

    Parameters
    ----------
    roles
        The rows, as the signing guard saw them.
    token
        Of the lease ``repository``.
    clock
        Microseconds since 1970, asked when the lease is checked.

    Returns
    -------
    int
        Version of the snapshot that was published.

    Raises
    ------
    LeaseError
        Somebody else holds the lease by now.
    RegistryError
        A file could not be written; the next call does it again.
    """
    present = {p.name for p in layout.metadata.glob("*.json")}
    documents = make_documents(roles, keys, present=present)
    for path, data in documents.pointers.items():
        if not (layout.targets / path).exists():
            write_whole(layout.targets / path, data)
    last = documents.metadata.pop("timestamp.json")
    for name, data in documents.metadata.items():
        if name not in present:
            write_whole(layout.metadata / name, data)
    with database.begin() as conn:
        lease.check(conn, LEASE, token, clock())
        write_whole(layout.metadata / "timestamp.json", last)
        properties.put(conn, properties.PUBLISHED_SNAPSHOT, str(documents.snapshot))
    _remove_old(layout.metadata, {r.name: r.version for r in roles.values()})
    return documents.snapshot


def mend(layout: RepositoryLayout, roles: Mapping[str, Role], keys: Keys) -> list[str]:
    """Write documents again that are there but are not what the rows say.

    Returns
    -------
    list of str
        Their names. A wrong ``timestamp.json`` is left: another one has to be signed.
    """
    if not roles:
        return []
    for path in unfinished(layout.metadata):
        path.unlink(missing_ok=True)
    documents = make_documents(roles, keys)
    bad = []
    for folder, group in (
        (layout.metadata, documents.metadata),
        (layout.targets, documents.pointers),
    ):
        for name, data in group.items():
            path = folder / name
            if not path.exists() or path.read_bytes() == data:
                continue
            if name != "timestamp.json":
                write_whole(path, data)
            elif stamped_version(layout) != roles["timestamp"].version:
                continue  # an older one, which publishing replaces
            bad.append(name)
    return bad


def published_versions(layout: RepositoryLayout) -> dict[str, int]:
    """Newest version of each role's metadata that clients may have seen."""
    newest = {"timestamp": stamped_version(layout)}
    for path in layout.metadata.glob("*.*.json"):
        number, _, name = path.name.removesuffix(".json").partition(".")
        if number.isdigit():
            newest[name] = max(newest.get(name, 0), int(number))
    return newest


def _sign(signed: _Signed, role: str, keys: Keys) -> bytes:
    metadata: Metadata[_Signed] = Metadata(signed)
    metadata.sign(keys.signer(role))
    return metadata.to_bytes(JSONSerializer(compact=True))


def stamped_version(layout: RepositoryLayout) -> int:
    """Version of the timestamp that clients see now; 0 if there is none that can be read."""
    path = layout.metadata / "timestamp.json"
    try:
        return int(json.loads(path.read_bytes())["signed"]["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _remove_old(folder: Path, current: Mapping[str, int]) -> None:
    for path in folder.glob("*.*.json"):
        number, _, name = path.name.removesuffix(".json").partition(".")
        if (
            number.isdigit()
            and name != "root"
            and int(number) < current.get(name, 0) - OLD_VERSIONS
        ):
            path.unlink(missing_ok=True)
