"""Sealing at the upgrade: what an older program left is accepted once, and nothing forged with it."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from stream_rows import new_database

from redistill.streams.errors import StoreUnusable
from redistill.streams.monitor.detectors import ConfidenceWatch
from redistill.streams.monitor.outcomes import AccuracyState
from redistill.streams.monitor.seal import Place, fingerprint, is_sealed, unseal
from redistill.streams.monitor.state import InputState
from redistill.streams.monitor.subwindows import Counted
from redistill.streams.monitor.verdicts import Recent
from redistill.streams.store import tables as t
from redistill.streams.store.database import Database
from redistill.streams.store.state_key import claim
from redistill.workers.errors import DatabaseError
from redistill.workers.store import sealing
from redistill.workers.store.sealing import Sealed, seal_states, take_new_key
from redistill.workers.store.tables import audit

KEY, OTHER = b"k" * 32, b"o" * 32


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    db = new_database(database_url)
    yield db
    db.dispose()


def old_input(
    version: str = "1",
    partition: int = 0,
    *,
    watched: bool = True,
    key: bytes = KEY,
    **changes: Any,
) -> bytes:
    """An input state as 0.1 stored it: River's pickle after an HMAC of its own, and no seal."""
    watch = ConfidenceWatch(1e-5)
    watch.update([0.9, 0.8])
    state = InputState(
        model="m", version=version, partition=("t", partition), counted=Counted(rows=7),
        recent=Recent(confidence=watch if watched else None),
    )  # fmt: skip
    place = Place("input", "m", version, "t", partition)
    plain = msgspec.msgpack.decode(unseal(state.to_bytes(KEY), KEY, place))
    del plain["opened_before"]
    if watched:
        pickled = plain["confidence"]["adwin"]
        mac = hmac.new(key, b"redistill/river/" + pickled, hashlib.sha256).digest()
        plain["confidence"]["adwin"] = mac + pickled
    return msgspec.msgpack.encode({**plain, "format": 2, **changes})


def old_accuracy(version: str = "1", **changes: Any) -> bytes:
    place = Place("accuracy", "m", version)
    body = unseal(AccuracyState(version=version, n=3).to_bytes(KEY, model="m"), KEY, place)
    return msgspec.msgpack.encode({**msgspec.msgpack.decode(body), "format": 2, **changes})


def put(db: Database, state: bytes, version: str = "1", partition: int | None = 0) -> None:
    row: dict[str, Any] = {"model": "m", "version": version, "state": state}
    with db.begin() as conn:
        if partition is None:
            conn.execute(sa.insert(t.accuracy_states).values(**row, last_seq=3, n=3))
        else:
            row |= {"topic_id": "t", "partition": partition}
            conn.execute(sa.insert(t.input_states).values(**row, rows=7))


def blobs(db: Database) -> list[bytes]:
    with db.read() as conn:
        return [
            bytes(blob)
            for states in (t.input_states, t.accuracy_states)
            for blob in conn.execute(
                sa.select(states.c.state).order_by(*states.primary_key.columns)
            ).scalars()
        ]


def test_old_states_are_sealed_once_and_go_on(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "BATCH", 2)
    for version in ("1", "2"):
        for partition in range(3):
            put(db, old_input(version, partition), version, partition)
        put(db, old_accuracy(version), version, None)
    put(db, old_input("3", watched=False), "3")
    assert seal_states(db, KEY) == Sealed(sealed=9)
    sealed = blobs(db)
    state = InputState.from_bytes(sealed[1], KEY, model="m", version="1", partition=("t", 1))
    assert (state.counted.rows, state.tracked.before) == (7, 0)
    assert state.recent.confidence is not None
    assert (state.recent.confidence.n, state.recent.confidence.adwin.width) == (2, 2)
    assert AccuracyState.from_bytes(sealed[-1], KEY, model="m", version="2").n == 3
    with db.begin() as conn:
        claim(conn, KEY)
    put(db, old_input("4"), "4")
    assert seal_states(db, KEY) == Sealed(), "the old form is accepted once"
    assert not is_sealed(blobs(db)[7])
    assert seal_states(db, None) == Sealed()


def test_sealing_that_was_killed_goes_on_where_it_was(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "BATCH", 1)
    for partition in range(3):
        put(db, old_input(partition=partition), partition=partition)
    batches = sealing._batches(db, "input", KEY)
    next(batches)
    assert [is_sealed(blob) for blob in blobs(db)] == [True, False, False]
    with pytest.raises(StoreUnusable, match="db upgrade"), db.begin() as conn:
        claim(conn, KEY)
    first = blobs(db)[0]
    assert seal_states(db, KEY) == Sealed(sealed=2)
    assert blobs(db)[0] == first


@pytest.mark.parametrize(
    "forged",
    [
        old_input("2"),
        old_input(partition=1),
        old_input(model="n"),
        old_input(key=OTHER),
        old_input(format=3),
        old_input(format="2"),
        old_input(confidence={"adwin": "text"}),
        old_input(confidence=[1]),
        old_input()[:-9],
        b"",
        b"\xc1",
        b"\xc1seal\x01" + bytes(40),
        msgspec.msgpack.encode([1, 2]),
    ],
    ids=["version", "partition", "model", "key", "newer", "format", "text", "list", "short", "empty",
         "C1", "seal", "array"],
)  # fmt: skip
def test_what_is_not_ours_or_not_of_its_row_stays_closed(db: Database, forged: bytes) -> None:
    put(db, forged)
    put(db, old_input("9"), "9")
    assert seal_states(db, KEY) == Sealed(sealed=1, refused=1)
    assert blobs(db)[0] == forged
    with db.begin() as conn:
        claim(conn, KEY)


def test_accuracy_state_of_another_version_stays_closed(db: Database) -> None:
    put(db, old_accuracy("2"), "1", None)
    put(db, old_accuracy(format=9), "3", None)
    assert seal_states(db, KEY) == Sealed(refused=2)


def test_machine_without_the_key_or_with_another_one_seals_nothing(db: Database) -> None:
    assert seal_states(db, None) == Sealed(), "there is nothing to seal"
    put(db, old_input())
    before = blobs(db)
    with pytest.raises(DatabaseError, match="which is not here"):
        seal_states(db, None)
    with pytest.raises(DatabaseError, match="with the key of the stream workers"):
        seal_states(db, OTHER)
    assert blobs(db) == before
    assert seal_states(db, KEY) == Sealed(sealed=1)


def test_lost_key_is_given_up_by_a_person_and_detectors_start_anew(db: Database) -> None:
    put(db, old_input())
    take_new_key(db, OTHER, actor="cli:ann")
    with db.read() as conn:
        (entry,) = conn.execute(sa.select(audit)).all()
    assert (entry.actor, entry.action) == ("cli:ann", "states.new_key")
    assert fingerprint(OTHER) in entry.body
    assert seal_states(db, OTHER) == Sealed()
    with db.begin() as conn:
        claim(conn, OTHER)
    with pytest.raises(StoreUnusable), db.begin() as conn:
        claim(conn, KEY)
    assert not is_sealed(blobs(db)[0])
