"""Input states in memory: read from SQL once, stored when they changed, forgotten when unused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from stream_rows import CONFIG, new_database, prediction, record
from structlog.testing import capture_logs

from redistill.streams.engine import state_cache as module
from redistill.streams.engine.state_cache import StateCache
from redistill.streams.monitor.observe import observe
from redistill.streams.monitor.state import InputState
from redistill.streams.store import tables as t
from redistill.streams.store.batch import Partition, StateRow
from redistill.streams.store.database import Database
from redistill.streams.wire.codec import decode_predictions

KEY = b"k" * 32
P0, P1 = Partition("t", 0), Partition("t", 1)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = new_database(f"sqlite:///{tmp_path / 'redistill.db'}")
    yield db
    db.dispose()


def state(rows: int) -> InputState:
    """What the monitor has after so many rows."""
    records = [record(prediction(i), i) for i in range(rows)]
    (block,) = decode_predictions(records, lambda _: CONFIG.schema).blocks
    return observe(None, block, profile=None, config=CONFIG, partition=P0).state


def store(db: Database, row: StateRow) -> None:
    with db.begin() as conn:
        conn.execute(
            sa.insert(t.input_states).values(
                model=row.model, version=row.version, topic_id=row.partition.topic_id,
                partition=row.partition.number, state=row.state, rows=row.rows,
                first_served_at=row.first_served_at, last_served_at=row.last_served_at,
            )
        )  # fmt: skip


def change(cache: StateCache, rows: int, partition: Partition = P0, version: str = "7") -> None:
    cached = cache.get("credit", version, partition)
    cached.state, cached.dirty = state(rows), True


def test_state_is_read_from_sql_once_and_kept(db: Database) -> None:
    cache = StateCache(db, KEY)
    change(cache, 20)
    (row,) = cache.rows(P0)
    assert (row.rows, row.first_served_at) == (20, 1_772_323_200_000_000)
    store(db, row)
    again = StateCache(db, KEY)
    read = again.get("credit", "7", P0)
    assert read.state is not None
    assert (read.state.counted.rows, read.dirty) == (20, False)
    assert again.get("credit", "7", P0) is read
    assert again.get("credit", "7", P1).state is None
    assert again.get("credit", "8", P0).state is None


def test_only_what_changed_is_stored_and_once(db: Database) -> None:
    cache = StateCache(db, KEY)
    change(cache, 5)
    change(cache, 6, P1)
    cache.get("credit", "8", P0)
    assert (cache.changed(P0), cache.changed(P1)) == (True, True)
    assert [(row.version, row.partition, row.rows) for row in cache.rows(P0)] == [("7", P0, 5)]
    assert (cache.changed(P0), cache.changed(P1)) == (False, True)
    assert cache.rows(P0) == []
    assert {key for key, _ in cache} == {
        ("credit", "7", P0), ("credit", "7", P1), ("credit", "8", P0),
    }  # fmt: skip


def stored(db: Database, state: bytes, version: str = "7", partition: Partition = P0) -> None:
    row = StateRow(
        model="credit", version=version, partition=partition, state=state, rows=5,
        first_served_at=1, last_served_at=2,
    )  # fmt: skip
    store(db, row)


def test_state_that_does_not_open_starts_anew_where_it_was_and_is_named(db: Database) -> None:
    stored(db, state(5).to_bytes(b"another key".ljust(32)))
    with db.begin() as conn:
        at = {"model": "credit", "version": "7", "topic_id": "t", "partition": 0}
        conn.execute(
            sa.insert(t.windows).values(
                **at, number=3, rows=9, first_served_at=1, last_served_at=2, closed_at=3
            )
        )
    cache = StateCache(db, KEY)
    with capture_logs() as said:
        anew = cache.get("credit", "7", P0).state
    assert anew is not None
    assert (anew.counted.rows, anew.counted.first_served_at, anew.counted.window.number) == (
        5,
        1,
        4,
    )
    assert anew.tracked.before == 5
    (line,) = said
    assert (line["action"], line["log_level"]) == ("state_rebuilt", "error")
    assert (line["model"], line["version"], line["partition"]) == ("credit", "7", 0)
    assert "not authentic" in line["error"]
    assert cache.rebuilt == ["credit"]
    cache.next_batch()
    assert cache.rebuilt == []


def test_thousand_states_that_do_not_open_are_said_in_a_line(db: Database) -> None:
    for i in range(20):
        stored(db, b"garbage", version=str(i))
    cache = StateCache(db, KEY)
    with capture_logs() as said:
        for i in range(20):
            cache.get("credit", str(i), P0)
    assert [line["action"] for line in said] == ["state_rebuilt"]
    assert len(cache.rebuilt) == 20


@pytest.mark.parametrize("moved", ["model", "version", "partition", "topic"])
def test_state_of_another_row_does_not_open(db: Database, moved: str) -> None:
    own = state(5).to_bytes(KEY)
    to = {
        "model": ("debit", "7", P0), "version": ("credit", "8", P0),
        "partition": ("credit", "7", P1), "topic": ("credit", "7", Partition("again", 0)),
    }[moved]  # fmt: skip
    stored(db, own)
    with db.begin() as conn:
        conn.execute(
            sa.update(t.input_states).values(
                model=to[0], version=to[1], topic_id=to[2].topic_id, partition=to[2].number
            )
        )
    cache = StateCache(db, KEY)
    cache.get(*to)
    assert cache.rebuilt == [to[0]]


def test_memory_is_bounded_and_nothing_on_its_way_to_sql_is_forgotten(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT_STATES", 2)
    cache = StateCache(db, KEY)
    change(cache, 3, version="dirty")
    for version in ("a", "b", "c"):
        cache.get("credit", version, P0)

    def versions() -> list[str]:
        return [version for (_, version, _), _ in cache]

    cache.next_batch()
    cache.next_batch()
    assert versions() == ["dirty", "a", "b", "c"], "a batch with them may not be flushed yet"
    cache.get("credit", "c", P0)
    cache.next_batch()
    assert versions() == ["dirty", "b", "c"]
    cache.clear()
    assert versions() == []
