"""The hub of a stream worker: records in, and what a flush has to write out; SQL is only read."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
import structlog
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from crc32c import crc32c
from stream_rows import CONFIG, batch_record, chunk, label, new_database, prediction, record, watch

from redistill.streams.engine import accumulator as module
from redistill.streams.engine.accumulator import Accumulator
from redistill.streams.engine.fetched import chunks
from redistill.streams.errors import StoreUnavailable
from redistill.streams.store import tables as t
from redistill.streams.store.batch import FlushBatch, Gap, NameLimits, Partition
from redistill.streams.store.database import Database
from redistill.streams.wire import predictions
from redistill.streams.wire.block import Feature
from redistill.times import microseconds

P0, L0 = Partition("topic-id-p", 0), Partition("topic-id-l", 0)
NOW = datetime(2027, 1, 15, tzinfo=UTC)


@dataclasses.dataclass
class Clock:
    """Seconds since 1970; moved by hand."""

    now: float = NOW.timestamp()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = new_database(f"sqlite:///{tmp_path / 'redistill.db'}")
    watch(db)
    yield db
    db.dispose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def accumulator(db: Database, clock: Clock) -> Accumulator:
    return assigned(db, clock)


def assigned(db: Database, clock: Clock, *, start: int = 0) -> Accumulator:
    made = Accumulator(
        db,
        state_key=b"k" * 32,
        kinds={"predictions": "predictions", "labels": "labels"},
        clock=clock,
    )
    made.assign(P0, "predictions", stored=start or None, start=start)
    made.assign(L0, "labels", stored=None, start=0)
    return made


def close(accumulator: Accumulator) -> FlushBatch:
    batch = accumulator.close()
    assert batch is not None
    return batch


def progress(
    batch: FlushBatch, partition: Partition = P0
) -> tuple[int | None, int, int, int, int, int]:
    p = batch.progress[partition]
    return (p.expected, p.next_offset, p.counted, p.dead, p.skipped, p.rows)


# --- offsets ------------------------------------------------------------------------------------


def test_rows_of_both_encodings_are_counted_sampled_and_their_offsets_move(
    accumulator: Accumulator,
) -> None:
    assert accumulator.take(P0, chunk([record(prediction(i), i) for i in range(50)])) == 50
    assert accumulator.take(P0, chunk([batch_record(range(50, 150), 50)])) == 100
    assert (accumulator.rows, accumulator.position(P0)) == (150, 51)
    batch = close(accumulator)
    assert progress(batch) == (None, 51, 51, 0, 0, 150)
    (state,) = batch.states
    assert (state.model, state.version, state.partition, state.rows) == ("credit", "7", P0, 150)
    assert [w.rows for w in batch.windows] == [CONFIG.window_rows]
    joins = batch.joins["credit"]
    assert len(joins) == 150
    assert (joins.prediction[1], joins.score[1], json.loads(joins.slices[1] or "")) == (
        "repay", 0.75, {"region": "EU"},
    )  # fmt: skip
    assert set(zip(joins.topic_id, joins.partition, strict=True)) == {P0}
    assert joins.window == [0] * 100 + [1] * 50
    assert accumulator.rows == 0


def test_each_batch_expects_sql_as_the_one_before_leaves_it(accumulator: Accumulator) -> None:
    seen = []
    for start in (0, 10):
        accumulator.take(P0, chunk([record(prediction(i), i) for i in range(start, start + 10)]))
        seen.append(progress(close(accumulator)))
    assert seen == [(None, 10, 10, 0, 0, 10), (10, 20, 10, 0, 0, 10)]


def test_first_batch_tells_where_counting_begins_and_the_next_nothing(
    accumulator: Accumulator,
) -> None:
    assert set(close(accumulator).progress) == {P0, L0}
    assert accumulator.close() is None


def test_what_was_counted_before_is_skipped(accumulator: Accumulator) -> None:
    twice = chunk([record(prediction(i), i) for i in range(10)])
    accumulator.take(P0, twice)
    assert accumulator.take(P0, twice) == 0
    assert accumulator.take(P0, chunk([record(prediction(i), i) for i in range(5, 15)])) == 5
    assert progress(close(accumulator)) == (None, 15, 15, 0, 0, 15)


def test_reset_forgets_all_that_was_not_flushed(accumulator: Accumulator, db: Database) -> None:
    accumulator.take(P0, chunk([record(prediction(i), i) for i in range(10)]))
    accumulator.take(L0, chunk([record(label(0), 0)]))
    accumulator.take(P0, chunk([record(prediction(0), 10)._replace(value=b"{")]))
    accumulator.take(P0, chunk([record(prediction(0, version="unheard of"), 11)]))
    accumulator.reset()
    assert accumulator.position(P0) is None
    assert accumulator.rows == 0
    accumulator.assign(P0, "predictions", stored=4, start=4)
    accumulator.take(P0, chunk([record(prediction(i), i) for i in range(10)]))
    batch = close(accumulator)
    assert progress(batch) == (4, 10, 6, 0, 0, 6)
    assert (batch.labels, batch.dead, batch.unregistered) == ([], [], {})
    assert (batch.states[0].rows, len(batch.joins["credit"])) == (6, 6)


def test_lost_offsets_are_a_gap_and_offsets_without_a_record_are_skipped(
    accumulator: Accumulator,
) -> None:
    accumulator.take(P0, chunk([record(prediction(0), 0)]))
    accumulator.lost(P0, 1, 9)
    accumulator.take(P0, chunk([record(prediction(10), 10), record(prediction(12), 12)]))
    batch = close(accumulator)
    assert batch.gaps == [Gap(partition=P0, topic="predictions", first=1, last=9)]
    assert progress(batch) == (None, 13, 3, 0, 10, 3)


# --- when a batch is full -----------------------------------------------------------------------


def test_join_rows_and_labels_fill_a_batch(accumulator: Accumulator) -> None:
    accumulator.take(P0, chunk([batch_record(range(2_500), 0)]))
    assert not accumulator.full
    for start in (0, 1_000):
        accumulator.take(L0, chunk([record(label(i), i) for i in range(start, start + 1_000)]))
    assert not accumulator.full
    accumulator.take(L0, chunk([record(label(i), i) for i in range(2_000, 2_500)]))
    assert accumulator.full
    assert len(close(accumulator).labels) == 2_500
    assert not accumulator.full


def test_rows_that_nobody_samples_fill_a_batch_as_well(
    accumulator: Accumulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FULL_ROWS", 100)
    accumulator.take(P0, chunk([batch_record(range(100), 0, version="unheard of")]))
    assert accumulator.full


def test_flood_of_dead_letters_fills_a_batch(accumulator: Accumulator) -> None:
    good = record(prediction(1), 0)
    bad = [good._replace(offset=i, value=b"x" * 300_000) for i in range(80)]
    for start in range(0, 80, 20):
        if accumulator.full:
            break
        accumulator.take(P0, chunk(bad[start : start + 20]))
    assert accumulator.full
    assert 60 <= len(close(accumulator).dead) <= 80  # 16 MiB in pieces of 256 KiB
    assert not accumulator.full


def test_chunk_that_unpacks_to_a_flood_is_left_where_the_batch_is_full(
    accumulator: Accumulator,
) -> None:
    one_each = []
    for i in range(80):
        builder = DefaultRecordBatchBuilder(2, 4, 0, -1, -1, -1, 1 << 24)
        builder.append(0, timestamp=7, key=b"k", value=b"{" * 1_000_000, headers=[])
        one_each.append(i.to_bytes(8, "big") + bytes(builder.build())[8:])
    (whole,) = chunks(b"".join(one_each), 0, P0)
    assert whole.size < 80_000
    batches = []
    while (at := accumulator.position(P0) or 0) < whole.end:
        accumulator.take(P0, whole)
        assert accumulator.position(P0) != at
        batches.append(close(accumulator))
    assert [len(batch.dead) for batch in batches] == [68, 12]
    assert [progress(batch)[1:5] for batch in batches] == [(68, 0, 68, 0), (80, 0, 12, 0)]


# --- what cannot be read ------------------------------------------------------------------------


def test_unreadable_records_become_dead_letters_and_the_rest_counts(
    accumulator: Accumulator,
) -> None:
    good = record(prediction(1), 0)
    whole = record(label(1, id="aXb"), 0)
    nul = whole._replace(value=(whole.value or b"").replace(b"aXb", b"a\\u0000b"))
    accumulator.take(P0, chunk([good, good._replace(offset=1, value=b"{no json")]))
    accumulator.take(L0, chunk([nul]))
    assert accumulator.rows == 3
    batch = close(accumulator)
    assert progress(batch) == (None, 2, 1, 1, 0, 1)
    assert progress(batch, L0) == (None, 1, 0, 1, 0, 0)
    assert [(d.topic, d.partition, d.offset, d.value[:8]) for d in batch.dead] == [
        ("predictions", 0, 1, b"{no json"), ("labels", 0, 0, b'{"id":"a'),
    ]  # fmt: skip
    assert batch.labels == []


def test_offsets_of_a_batch_that_does_not_unpack_say_so(accumulator: Accumulator) -> None:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 24)
    for i in range(3):
        builder.append(i, timestamp=7, key=b"k", value=b"{}", headers=[])
    raw = bytearray(builder.build())
    raw[22] |= 4  # says zstd, and is not
    raw[17:21] = crc32c(bytes(raw[21:])).to_bytes(4, "big")
    for partition in (P0, L0):
        (whole,) = chunks(bytes(raw), 0, partition)
        accumulator.take(partition, whole)
    dead = close(accumulator).dead
    assert [(d.topic, d.offset, d.code) for d in dead] == [
        (topic, i, "malformed") for topic in ("predictions", "labels") for i in range(3)
    ]
    assert all("a batch that does not decompress" in d.reason for d in dead)


def failing_on(row_id: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the monitor choke on one row."""
    real = module.observe

    def observe(state: Any, block: Any, **more: Any) -> Any:
        if row_id in list(block.ids):
            raise error
        return real(state, block, **more)

    monkeypatch.setattr(module, "observe", observe)


def test_rows_that_the_monitor_chokes_on_cost_their_own_block_only(
    accumulator: Accumulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_on("row-25", ZeroDivisionError("a defect"), monkeypatch)
    mixed = [
        batch_record(range(10), 0),
        *(record(prediction(i), 1 + i - 10) for i in range(10, 20)),
        batch_record(range(20, 30), 11),
        record(prediction(30), 12),
    ]
    accumulator.take(P0, chunk(mixed))
    batch = close(accumulator)
    assert progress(batch) == (None, 13, 12, 1, 0, 21)
    (letter,) = batch.dead
    assert (letter.offset, letter.code) == (11, "failed")
    assert letter.reason.startswith("ZeroDivisionError at test_accumulator.py:")
    assert letter.reason.endswith(": a defect")
    assert batch.states[0].rows == len(batch.joins["credit"]) == 21


def test_defect_is_told_once_a_minute_however_many_rows_show_it(
    accumulator: Accumulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_on("row-1", ZeroDivisionError("a defect"), monkeypatch)
    with structlog.testing.capture_logs() as lines:
        for offset in range(20):
            accumulator.take(P0, chunk([record(prediction(1), offset)]))
    assert len(close(accumulator).dead) == 20
    assert [x["action"] for x in lines if x["log_level"] == "error"] == ["block_failed"]


@pytest.mark.parametrize("error", [StoreUnavailable("away"), MemoryError()])
def test_what_is_no_fault_of_the_rows_is_passed_on(
    error: Exception, accumulator: Accumulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_on("row-1", error, monkeypatch)
    with pytest.raises(type(error)):
        accumulator.take(P0, chunk([record(prediction(i), i) for i in range(3)]))


# --- labels -------------------------------------------------------------------------------------


def test_label_from_the_future_is_a_dead_letter(accumulator: Accumulator) -> None:
    times = [NOW + timedelta(hours=23), NOW + timedelta(hours=25), datetime(9999, 1, 1, tzinfo=UTC)]
    accumulator.take(L0, chunk([record(label(i, observed_at=at), i) for i, at in enumerate(times)]))
    batch = close(accumulator)
    assert [row["id"] for row in batch.labels] == ["row-0"]
    assert [(d.offset, d.code) for d in batch.dead] == [(1, "invalid_field"), (2, "invalid_field")]


def test_labels_of_strangers_are_counted_or_ignored(db: Database, clock: Clock) -> None:
    watch(db, dataclasses.replace(CONFIG, label_sources=("ledger",)))
    accumulator = assigned(db, clock)
    some = [label(0), label(1, source="gossip"), label(2, model="nobodys")]
    accumulator.take(L0, chunk([record(e, i) for i, e in enumerate(some)]))
    batch = close(accumulator)
    assert [(row["id"], row["state"]) for row in batch.labels] == [
        ("row-0", "waiting"), ("row-1", "ignored"),
    ]  # fmt: skip
    assert batch.counters == {("", "labels_unknown"): 1}
    assert progress(batch, L0) == (None, 3, 3, 0, 0, 3)


def test_labels_of_a_topic_that_was_added_are_bound_to_its_source(
    db: Database, clock: Clock
) -> None:
    watch(db, dataclasses.replace(CONFIG, bound_sources=("ledger",)))
    kinds = {"predictions": "predictions", "labels": "labels"}
    accumulator = Accumulator(db, state_key=b"k" * 32, kinds=kinds, clock=clock)
    kinds["x.labels.ledger"] = "labels.ledger"
    own = Partition("topic-id-ledger", 0)
    accumulator.assign(L0, "labels", stored=None, start=0)
    accumulator.assign(own, "x.labels.ledger", stored=None, start=0)
    accumulator.take(L0, chunk([record(label(0), 0)]))
    accumulator.take(own, chunk([record(label(1), 0), record(label(2, source="gossip"), 1)]))
    batch = close(accumulator)
    assert [(row["id"], row["bound"], row["state"]) for row in batch.labels] == [
        ("row-0", False, "ignored"), ("row-1", True, "waiting"),
    ]  # fmt: skip
    assert [(d.topic, d.offset, d.code) for d in batch.dead] == [
        ("x.labels.ledger", 1, "invalid_field"),
    ]  # fmt: skip


# --- what is watched ----------------------------------------------------------------------------


def test_unregistered_rows_are_counted_and_sampled_without_a_state(
    accumulator: Accumulator,
) -> None:
    strangers = [record(prediction(i, model="other", version="1"), i) for i in range(30)]
    accumulator.take(P0, chunk(strangers))
    accumulator.take(P0, chunk([record(prediction(i, version="9"), 30 + i) for i in range(3)]))
    batch = close(accumulator)
    assert {key: u.rows for key, u in batch.unregistered.items()} == {
        ("other", "1"): 30, ("credit", "9"): 3,
    }  # fmt: skip
    assert batch.counters == {("", "rows_unknown"): 30, ("credit", "rows_unknown"): 3}
    assert (batch.states, batch.joins) == ([], {})
    sample = pa.ipc.open_stream(io.BytesIO(batch.unregistered["other", "1"].sample)).read_all()
    assert sample["feature.region"].to_pylist()[:2] == ["US", "EU"]
    assert progress(batch) == (None, 33, 33, 0, 0, 33)


def test_version_registered_meanwhile_is_known_without_a_restart(
    accumulator: Accumulator, db: Database
) -> None:
    accumulator.take(P0, chunk([record(prediction(0, version="8"), 0)]))
    assert close(accumulator).states == []
    watch(db, versions=("8",))
    accumulator.take(P0, chunk([record(prediction(1, version="8"), 1)]))
    assert [s.version for s in close(accumulator).states] == ["8"]
    assert set(accumulator.watched["credit"].profiles) == {"7", "8"}


def test_first_rows_after_a_registration_are_read_with_its_schema(
    accumulator: Accumulator, db: Database
) -> None:
    region = Feature(name="region", kind="category", values=("US", "MARS", "EU"))
    schema = dataclasses.replace(CONFIG.schema, features=(region, Feature(name="income")))
    watch(db, dataclasses.replace(CONFIG, model="other", schema=schema))
    accumulator.take(P0, chunk([record(prediction(i, model="other"), i) for i in range(3)]))
    (blob,) = close(accumulator).features
    stored = pa.ipc.open_stream(io.BytesIO(blob.data)).read_all()
    assert json.loads(stored.schema.metadata[b"features"]) == ["region", "income"]
    assert stored["features"].to_pylist() == [[0, 1000], [2, 1001], [2, 1002]]


def test_rates_in_sql_are_obeyed_after_a_refresh(accumulator: Accumulator, db: Database) -> None:
    with db.begin() as conn:
        conn.execute(
            sa.insert(t.model_locks).values(model="credit", join_exponent=2, feature_exponent=3)
        )
    accumulator.refresh()
    accumulator.take(P0, chunk([batch_record(range(1_000), 0)]))
    hashes = close(accumulator).joins["credit"].id_hash
    assert 150 < len(hashes) < 350
    assert all((h & (2**64 - 1)) >> 62 == 0 for h in hashes)


def test_profile_is_learned_from_traffic_of_a_version_without_one(
    db: Database, clock: Clock
) -> None:
    watch(db, dataclasses.replace(CONFIG, level="watch"), versions=())
    accumulator = assigned(db, clock)
    learned = []
    for i in range(21):
        rows = range(500 * i, 500 * (i + 1))
        accumulator.take(P0, chunk([batch_record(rows, i, version="new")]))
        learned += [(i, p.version) for p in close(accumulator).profiles]
    assert learned == [(19, "new")]  # told once, with the ten thousandth row


def test_state_goes_on_from_sql(accumulator: Accumulator, db: Database, clock: Clock) -> None:
    accumulator.take(P0, chunk([batch_record(range(30), 0)]))
    (state,) = close(accumulator).states
    with db.begin() as conn:
        conn.execute(
            sa.insert(t.input_states).values(
                model="credit", version="7", topic_id=P0.topic_id, partition=P0.number,
                state=state.state, rows=30,
            )
        )  # fmt: skip
    other = assigned(db, clock, start=1)
    other.take(P0, chunk([batch_record(range(30, 40), 1)]))
    assert [s.rows for s in close(other).states] == [40]


def test_state_that_cannot_be_read_is_built_anew_and_counted(
    accumulator: Accumulator, db: Database
) -> None:
    with db.begin() as conn:
        conn.execute(
            sa.insert(t.input_states).values(
                model="credit", version="7", topic_id=P0.topic_id, partition=P0.number,
                state=b"another key's", rows=30,
            )
        )  # fmt: skip
    accumulator.take(P0, chunk([batch_record(range(10), 0)]))
    batch = close(accumulator)
    assert [s.rows for s in batch.states] == [40], "what was served stays counted"
    assert batch.counters == {("credit", "states_rebuilt"): 1}


# --- the clock ----------------------------------------------------------------------------------


def test_tick_closes_a_window_whose_time_is_over(accumulator: Accumulator, clock: Clock) -> None:
    accumulator.take(P0, chunk([batch_record(range(50), 0)]))
    assert close(accumulator).windows == []
    clock.now += 2 * 86_400
    accumulator.tick()
    batch = close(accumulator)
    assert [(w.rows, w.partition) for w in batch.windows] == [(50, P0)]
    assert progress(batch) == (1, 1, 0, 0, 0, 0)


def test_tick_that_fails_for_one_model_goes_on_with_the_next(
    accumulator: Accumulator, db: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch(db, dataclasses.replace(CONFIG, model="other"))
    for i, model in enumerate(("credit", "other")):
        rows = [record(prediction(k, model=model), 50 * i + k) for k in range(50)]
        accumulator.take(P0, chunk(rows))
    close(accumulator)
    real = module.tick

    def tick(state: Any, now: int, *, profile: Any, config: Any) -> Any:
        if config.model == "credit":
            raise ZeroDivisionError
        return real(state, now, profile=profile, config=config)

    monkeypatch.setattr(module, "tick", tick)
    clock.now += 2 * 86_400
    accumulator.tick()
    assert [w.model for w in close(accumulator).windows] == ["other"]


# --- bounds -------------------------------------------------------------------------------------


def test_rows_of_times_that_cannot_be_move_no_window_and_are_said(db: Database) -> None:
    watch(db, dataclasses.replace(CONFIG, retention_days=30.0, wait_days=30.0))
    moment = prediction(50).served_at
    accumulator = assigned(db, Clock(moment.timestamp()))
    good = [record(prediction(i), i) for i in range(50)]
    was = prediction(50).served_at.isoformat().replace("+00:00", "Z").encode()
    for i, year in enumerate((b"0001", b"9999", b"1970"), 50):
        odd = record(prediction(50), i)
        value = (odd.value or b"").replace(was, year + b"-01-02T03:04:05Z")
        good.append(odd._replace(value=value))
    assert accumulator.take(P0, chunk(good)) == 50
    batch = close(accumulator)
    assert [(d.code, d.offset) for d in batch.dead] == [("invalid_field", i) for i in (50, 51, 52)]
    (state,) = batch.states
    first, last = (prediction(i).served_at for i in (0, 49))
    assert (state.first_served_at, state.last_served_at) == tuple(map(microseconds, (first, last)))
    assert max(batch.joins["credit"].served_at) == microseconds(last)


def test_what_is_wrong_with_rows_that_count_is_counted(accumulator: Accumulator) -> None:
    long = json.loads(record(prediction(0), 0).value or b"") | {"segment": {"region": "x" * 257}}
    accumulator.take(
        P0, chunk([record(prediction(0), 0)._replace(value=json.dumps(long).encode())])
    )
    batch = close(accumulator)
    assert batch.counters == {("credit", "invalid_segment"): 1}
    assert len(batch.joins["credit"]) == 1


def test_uuids_as_versions_make_no_state_each(db: Database, clock: Clock) -> None:
    watch(db, dataclasses.replace(CONFIG, level="watch"))
    accumulator = Accumulator(
        db, state_key=b"k" * 32, kinds={"predictions": "predictions"}, clock=clock,
        names=NameLimits(versions=3),
    )  # fmt: skip
    accumulator.assign(P0, "predictions", stored=None, start=0)
    rows = [record(prediction(i, version=f"uuid-{i}"), i) for i in range(20)]
    rows += [record(prediction(i), i) for i in range(20, 25)]
    assert accumulator.take(P0, chunk(rows)) == 25
    batch = close(accumulator)
    assert sorted(s.version for s in batch.states) == ["7", "uuid-0", "uuid-1", "uuid-2"]
    assert batch.counters == {("credit", "rows_unknown"): 17}
    assert len(batch.unregistered) == 17


def test_wide_batches_are_taken_in_parts_and_each_is_counted_once(
    db: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "MAX_CELLS", 50)
    accumulator = assigned(db, clock)
    records = [batch_record(range(10 * i, 10 * i + 10), i, version="79"[i % 2]) for i in range(9)]
    accumulator.take(P0, chunk(records))
    batch = close(accumulator)
    assert progress(batch)[1:3] == (9, 9)
    assert (len(batch.joins["credit"]), batch.unregistered["credit", "9"].rows) == (50, 40)
