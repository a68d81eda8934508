"""Sealing of stored states: those of older programs are accepted once, at the upgrade.

Until 0.1 only River's pickle had an HMAC, and all else in a state could be changed, or moved to
another row. What is found in a database without the property ``state_key`` is sealed in batches, a
transaction each; then the property says that it is done, and nothing unsealed is read ever after.
Killed on the way, it goes on where it was. Nothing is unpickled here.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from redistill.streams.errors import StateError
from redistill.streams.monitor.seal import Place, fingerprint, is_sealed, seal, unseal
from redistill.streams.store import properties
from redistill.streams.store.database import Database, insert_ignore
from redistill.streams.store.state_key import STATE_KEY, any_states
from redistill.streams.store.tables import accuracy_states, input_states
from redistill.streams.store.tables import properties as table
from redistill.workers.errors import DatabaseError
from redistill.workers.store import audit

__all__ = ["Sealed", "seal_states", "take_new_key"]

BATCH = 50
"""States of one transaction: one that learns from wide rows has 4 MB."""
FORMATS = (1, 2)
"""Formats that had no seal."""
INPUT_FORMAT = 3
"""An input state without the HMAC that its pickle had of its own."""
RIVER = b"redistill/river/"
RIVER_MAC_BYTES = 32

PLACES = {
    "input": (input_states, ("model", "version", "topic_id", "partition")),
    "accuracy": (accuracy_states, ("model", "version")),
}


@dataclass(frozen=True, slots=True)
class Sealed:
    """What became of the states of an older program."""

    sealed: int = 0
    refused: int = 0
    """Not ours, or damaged: left as they are, and their detectors start anew."""


def seal_states(database: Database, key: bytes | None) -> Sealed:
    """Seal every state that an older program left; once.

    Parameters
    ----------
    key
        The state key of the stream workers; ``None``: it is not on this machine.

    Raises
    ------
    DatabaseError
        There are such states and no key, or a key that none of them was written under.
    """
    with database.read() as conn:
        if properties.get(conn, STATE_KEY) is not None or not any_states(conn):
            return Sealed()
        if key is None:
            raise DatabaseError(
                "the stored states of detectors have to be sealed with the state key, which is not"
                " here: run `redistill db upgrade` once more where it is (REDISTILL_STATE_KEY, or"
                " keys/state.key in the home of the stream worker). Stream workers do not start"
                " before; if the key is lost, --new-state-key lets the detectors start anew"
            )
        if not _written_under(conn, key):
            raise DatabaseError(
                "no stored state of a detector was written under the state key that is here: run"
                " `redistill db upgrade` with the key of the stream workers (REDISTILL_STATE_KEY,"
                " or keys/state.key in the home); if it is lost, --new-state-key lets the detectors"
                " start anew"
            )
    sealed = refused = 0
    for kind in PLACES:
        for done, left in _batches(database, kind, key):
            sealed, refused = sealed + done, refused + left
    with database.begin() as conn:
        conn.execute(insert_ignore(table).values(name=STATE_KEY, value=fingerprint(key)))
    return Sealed(sealed, refused)


def take_new_key(database: Database, key: bytes, *, actor: str) -> None:
    """States are sealed under this key from now on: those under the lost one start anew when their
    traffic comes. Who wanted that is in the audit chain."""
    with database.begin() as conn:
        told = {"before": properties.get(conn, STATE_KEY), "after": fingerprint(key)}
        properties.put(conn, STATE_KEY, fingerprint(key))
        audit.append(conn, actor, "states.new_key", "", told, database.clock())


def _written_under(conn: sa.Connection, key: bytes) -> bool:
    """Whether a state opens, or none has anything by which that could be told."""
    told = False
    stream = conn.execution_options(yield_per=BATCH)
    for kind, (states, names) in PLACES.items():
        columns = (states.c.state, *(states.c[name] for name in names))
        with stream.execute(sa.select(*columns)) as rows:
            for row in rows:
                opens = _opens(bytes(row.state), key, _place(kind, row))
                if opens:
                    return True
                told = told or opens is not None
    return not told


def _opens(data: bytes, key: bytes, place: Place) -> bool | None:
    """Whether a state was written under a key; ``None``: nothing in it tells."""
    if is_sealed(data):
        return _unsealed(data, key, place) is not None
    pickled = _river(_plain(data))
    return None if pickled is None else _authentic(pickled, key) is not None


def _batches(database: Database, kind: str, key: bytes) -> Iterator[tuple[int, int]]:
    """Sealed and refused states of each batch, in the order of their rows' keys."""
    states, names = PLACES[kind]
    order = [states.c[name] for name in names]
    query = sa.select(states.c.state, *order).order_by(*order).limit(BATCH).with_for_update()
    after: list[Any] | None = None
    while True:
        with database.begin() as conn:
            beyond = query if after is None else query.where(sa.tuple_(*order) > tuple(after))
            rows = conn.execute(beyond).all()
            if not rows:
                return
            after = [getattr(rows[-1], name) for name in names]
            changes, refused = [], 0
            for row in rows:
                data, place = bytes(row.state), _place(kind, row)
                new = _unsealed(data, key, place) if is_sealed(data) else _body(data, key, place)
                if new is None:
                    refused += 1
                elif not is_sealed(data):
                    at = {f"k_{name}": getattr(row, name) for name in names}
                    changes.append({"to": seal(new, key, place), **at})
            if changes:
                where = [states.c[name] == sa.bindparam(f"k_{name}") for name in names]
                conn.execute(
                    sa.update(states).where(*where).values(state=sa.bindparam("to")), changes
                )
        yield len(changes), refused


def _place(kind: str, row: Any) -> Place:
    if kind == "accuracy":
        return Place("accuracy", row.model, row.version)
    return Place("input", row.model, row.version, row.topic_id, row.partition)


def _unsealed(data: bytes, key: bytes, place: Place) -> bytes | None:
    try:
        return unseal(data, key, place)
    except StateError:
        return None


def _plain(data: bytes) -> dict[str, Any]:
    """What an unsealed state says; empty where it says nothing that an older program wrote."""
    try:
        plain = msgspec.msgpack.decode(data)
    except msgspec.MsgspecError:
        return {}
    return plain if isinstance(plain, dict) and plain.get("format") in FORMATS else {}


def _body(data: bytes, key: bytes, place: Place) -> bytes | None:
    """What of an unsealed state is to be sealed for its place; ``None``: it is not ours, or not of
    this place."""
    plain = _plain(data)
    if plain.get("version") != place.version:
        return None
    if place.kind == "accuracy":
        return data
    if (plain.get("model"), plain.get("partition")) != (
        place.model,
        [place.topic_id, place.partition],
    ):
        return None
    if plain.get("confidence") is not None:
        pickled = _river(plain)
        body = None if pickled is None else _authentic(pickled, key)
        if body is None:
            return None
        plain["confidence"]["adwin"] = body
    return msgspec.msgpack.encode({**plain, "format": INPUT_FORMAT, "opened_before": 0})


def _river(plain: dict[str, Any]) -> bytes | None:
    confidence = plain.get("confidence")
    pickled = confidence.get("adwin") if isinstance(confidence, dict) else None
    return pickled if isinstance(pickled, bytes) else None


def _authentic(pickled: bytes, key: bytes) -> bytes | None:
    """The pickle of River's object as 0.1 stored it: after an HMAC of its own."""
    mac, body = pickled[:RIVER_MAC_BYTES], pickled[RIVER_MAC_BYTES:]
    return (
        body
        if hmac.compare_digest(mac, hmac.new(key, RIVER + body, hashlib.sha256).digest())
        else None
    )
