from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pyarrow as pa
import pytest
import sqlalchemy as sa
import structlog
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from crc32c import crc32c
from stream_rows import CONFIG, batch_record, chunk, label, new_database, prediction, record, watch

from redistill.streams.engine.accumulator import Accumulator
from redistill.streams.engine.fetched import chunks
from redistill.streams.store import tables as t
from redistill.streams.store.batch import FlushBatch, Flushed, OffsetsMoved, Partition, Progress
from redistill.streams.store.database import Database
from redistill.streams.store.flush import flush, store_findings
from redistill.streams.wire.block import Feature
from redistill.streams.wire.codec import Record, decode
from redistill.streams.wire.events import (
    DeadLetter,
    Detector,
    DriftFound,
    Impact,
    Statistic,
    Window,
)
from redistill.times import HOUR, to_seconds, utc

P0 = Partition("topic-id-p", 0)
L0 = Partition("topic-id-l", 0)
KEY = b"k" * 32
NOW = 1_800_000_000_000_000


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    db = new_database(database_url)
    watch(db)
    yield db
    db.dispose()


def make_pump(db: Database, *, start: int = 0, stored: int | None = None) -> Accumulator:
    accumulator = Accumulator(
        db,
        state_key=KEY,
        kinds={"predictions": "predictions", "labels": "labels"},
        clock=lambda: to_seconds(NOW),
    )
    accumulator.assign(P0, "predictions", stored=stored, start=start)
    accumulator.assign(L0, "labels", stored=None, start=0)
    return accumulator


def close(accumulator: Accumulator) -> FlushBatch:
    batch = accumulator.close()
    assert batch is not None
    return batch


def one(db: Database, table: sa.Table, **where: object) -> sa.Row[tuple[object, ...]]:
    with db.read() as conn:
        query = sa.select(table).where(*(table.c[k] == v for k, v in where.items()))
        return conn.execute(query).one()


def count(db: Database, table: sa.Table) -> int:
    with db.read() as conn:
        return int(conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def test_flush_writes_state_offsets_rows_and_labels_together(db: Database) -> None:
    accumulator = make_pump(db)
    accumulator.take(P0, chunk([record(prediction(i), i) for i in range(50)]))
    accumulator.take(P0, chunk([batch_record(range(50, 150), 50)]))
    accumulator.take(L0, chunk([record(label(i), i) for i in range(5)]))
    assert flush(db, close(accumulator), now=NOW) == Flushed(join_rows=150, labels=5, findings=0)
    offsets = one(db, t.offsets, topic_id=P0[0])
    assert (offsets.first_offset, offsets.next_offset, offsets.counted, offsets.rows) == (
        0,
        51,
        51,
        150,
    )
    state = one(db, t.input_states)
    assert (state.rows, state.first_served_at) == (150, 1772323200000000)
    join = one(db, t.join_rows, served_at=state.last_served_at)
    assert (join.version, join.prediction, join.score, join.window) == ("7", "repay", 0.75, 1)
    assert json.loads(join.slices) == {"region": "EU"}
    assert count(db, t.windows) == 1
    assert count(db, t.labels) == 5


def test_feature_rows_are_one_arrow_stream_per_version(db: Database) -> None:
    accumulator = make_pump(db)
    accumulator.take(P0, chunk([record(prediction(i), i) for i in range(20)]))
    flush(db, close(accumulator), now=NOW)
    row = one(db, t.feature_rows)
    table = pa.ipc.open_stream(io.BytesIO(row.data)).read_all()
    assert row.rows == table.num_rows == 20
    assert row.bytes == len(row.data)
    assert json.loads(table.schema.metadata[b"features"]) == ["income", "age", "region"]
    assert table.column_names == ["id", "id_hash", "served_at", "prediction", "score", "features"]
    first = table.to_pylist()[1]
    assert (first["id"], first["prediction"], first["features"]) == (
        "row-1",
        "repay",
        [1001, 21, 0],
    )


def test_second_flush_goes_on_where_the_first_ended(db: Database) -> None:
    accumulator = make_pump(db)
    for start in (0, 10):
        accumulator.take(P0, chunk([record(prediction(i), i) for i in range(start, start + 10)]))
        assert isinstance(flush(db, close(accumulator), now=NOW), Flushed)
    assert one(db, t.offsets, topic_id=P0[0]).counted == 20
    assert one(db, t.input_states).rows == 20


def test_another_worker_that_moved_the_offset_makes_the_batch_void(db: Database) -> None:
    slow, quick = make_pump(db), make_pump(db)
    slow.take(P0, chunk([record(prediction(i), i) for i in range(10)]))
    slow.take(L0, chunk([record(label(0), 0)]))
    quick.take(P0, chunk([record(prediction(i), i) for i in range(4)]))
    assert isinstance(flush(db, close(quick), now=NOW), Flushed)
    assert flush(db, close(slow), now=NOW) == OffsetsMoved((L0, P0))
    assert one(db, t.offsets, topic_id=P0[0]).next_offset == 4
    assert one(db, t.input_states).rows == 4
    assert count(db, t.labels) == 0
    slow.reset()
    slow.assign(P0, "predictions", stored=4, start=4)
    slow.take(
        P0, chunk([record(prediction(i), i) for i in range(10)])
    )  # the first four are skipped
    assert isinstance(flush(db, close(slow), now=NOW), Flushed)
    assert one(db, t.offsets, topic_id=P0[0]).counted == 10
    assert one(db, t.input_states).rows == 10


def test_flush_tried_again_writes_once(db: Database) -> None:
    accumulator = make_pump(db)
    accumulator.take(P0, chunk([record(prediction(i), i) for i in range(10)]))
    batch = close(accumulator)
    assert isinstance(flush(db, batch, now=NOW), Flushed)
    # the first answer was lost: the second try finds the offset moved, and writes nothing
    assert isinstance(flush(db, batch, now=NOW), OffsetsMoved)
    assert one(db, t.offsets, topic_id=P0[0]).counted == 10


def test_first_of_two_rows_with_one_id_wins_and_is_counted(db: Database) -> None:
    accumulator = make_pump(db)
    accumulator.take(P0, chunk([record(prediction(1), 0), record(prediction(1, right=False), 1)]))
    flush(db, close(accumulator), now=NOW)
    accumulator.take(P0, chunk([record(prediction(1, right=False), 2)]))
    flush(db, close(accumulator), now=NOW)
    assert one(db, t.join_rows).prediction == "repay"
    assert one(db, t.counters, name="rows_duplicate").value == 2
    assert one(db, t.input_states).rows == 3


def test_a_label_whose_flush_waited_for_the_database_is_as_young_as_its_flush(db: Database) -> None:
    accumulator = make_pump(db)
    accumulator.take(L0, chunk([record(label(0), 0)]))
    flush(db, close(accumulator), now=NOW + HOUR)
    assert one(db, t.labels).received_at == NOW + HOUR


def test_a_backlog_of_labels_is_written_in_parts(db: Database) -> None:
    accumulator = make_pump(db)
    most = 5_000 if db.is_sqlite else 20_000
    for start in range(0, 2 * most, 1_000):
        if accumulator.full:
            break
        accumulator.take(L0, chunk([record(label(i), i) for i in range(start, start + 1_000)]))
    batch = close(accumulator)
    assert len(batch.labels) == most
    assert isinstance(flush(db, batch, now=NOW), Flushed)
    assert count(db, t.labels) == most


def test_a_label_from_the_future_is_a_dead_letter(db: Database) -> None:
    accumulator = make_pump(db)
    now = utc(NOW)
    times = [now + timedelta(hours=23), now + timedelta(hours=25), datetime(9999, 1, 1, tzinfo=UTC)]
    accumulator.take(L0, chunk([record(label(i, observed_at=at), i) for i, at in enumerate(times)]))
    batch = close(accumulator)
    assert [row["id"] for row in batch.labels] == ["row-0"]
    assert [(letter.offset, letter.code) for letter in batch.dead] == [
        (1, "invalid_field"),
        (2, "invalid_field"),
    ]
    assert "9999-01-01" in batch.dead[1].reason
    flush(db, batch, now=NOW)
    assert one(db, t.offsets, topic_id=L0[0]).dead == 2


def test_a_flood_of_dead_letters_closes_the_batch(db: Database) -> None:
    accumulator = make_pump(db)
    good = record(prediction(1), 0)
    bad = [good._replace(offset=i, value=b"x" * 300_000) for i in range(80)]
    with structlog.testing.capture_logs() as logs:
        for start in range(0, 80, 20):
            if accumulator.full:
                break
            accumulator.take(P0, chunk(bad[start : start + 20]))
        assert accumulator.full
        dead = close(accumulator).dead
    assert 60 <= len(dead) <= 80  # 16 MiB in chunks of 256 KiB
    told = [line["event"] for line in logs]
    assert told == ["dead_letter"] * 20 + ["dead_letters"]
    assert logs[-1]["more"] == len(dead) - 20
    assert not accumulator.full


def test_a_piece_that_unpacks_to_a_flood_is_left_where_the_batch_is_full(db: Database) -> None:
    accumulator = make_pump(db)
    one_each = []
    for i in range(80):
        builder = DefaultRecordBatchBuilder(2, 4, 0, -1, -1, -1, 1 << 24)
        builder.append(0, timestamp=7, key=b"k", value=b"{" * 1_000_000, headers=[])
        one_each.append(i.to_bytes(8, "big") + bytes(builder.build())[8:])
    (whole,) = chunks(b"".join(one_each), 0, P0)
    assert whole.size < 80_000
    taken = []
    while (at := accumulator.position(P0) or 0) < whole.end:
        accumulator.take(P0, whole)
        assert accumulator.position(P0) != at
        batch = close(accumulator)
        taken.append(len(batch.dead))
        flush(db, batch, now=0)
    assert taken == [68, 12]
    row = one(db, t.offsets, topic_id=P0[0])
    assert (row.dead, row.skipped, row.next_offset) == (80, 0, 80)


def test_the_letter_of_a_batch_that_does_not_unpack_says_so(db: Database) -> None:
    accumulator = make_pump(db)
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
    assert [(letter.topic, letter.offset, letter.code) for letter in dead] == [
        (topic, i, "malformed") for topic in ("predictions", "labels") for i in range(3)
    ]
    assert all("a batch that does not decompress" in letter.reason for letter in dead)


def test_unreadable_records_become_dead_letters_once(db: Database) -> None:
    accumulator = make_pump(db)
    good = record(prediction(1), 0)
    bad = Record("predictions", 0, 1, 1_700_000_000_000, b"credit", b"{no json", good.headers)
    whole = record(label(1, id="aXb"), 0)
    nul = whole._replace(value=(whole.value or b"").replace(b"aXb", b"a\\u0000b"))
    accumulator.take(P0, chunk([good, bad]))
    accumulator.take(L0, chunk([nul]))
    batch = close(accumulator)
    flush(db, batch, now=NOW)
    row = one(db, t.offsets, topic_id=P0[0])
    assert (row.counted, row.dead, row.next_offset) == (1, 1, 2)
    with db.read() as conn:
        sent = conn.execute(sa.select(t.outbox).order_by(t.outbox.c.seq)).all()
    assert [s.topic for s in sent] == ["dlq", "dlq"]
    letter = decode(Record("dlq", 0, 0, 0, None, sent[0].value, _headers(sent[0].headers)))
    assert isinstance(letter, DeadLetter)
    assert (letter.topic, letter.partition, letter.offset, letter.value) == (
        "predictions",
        0,
        1,
        b"{no json",
    )
    assert letter.code == "malformed"


def _headers(text: str) -> list[tuple[str, bytes]]:
    return [(k, v.encode()) for k, v in json.loads(text).items()]


def test_unregistered_models_are_counted_and_sampled_without_state(db: Database) -> None:
    accumulator = make_pump(db)
    accumulator.take(
        P0, chunk([record(prediction(i, model="other", version="1"), i) for i in range(30)])
    )
    accumulator.take(P0, chunk([record(prediction(i, version="9"), 30 + i) for i in range(3)]))
    flush(db, close(accumulator), now=NOW)
    other, unregistered = (
        one(db, t.unregistered, model="other"),
        one(db, t.unregistered, model="credit"),
    )
    assert (other.rows, unregistered.rows, unregistered.version) == (30, 3, "9")
    assert count(db, t.input_states) == 0
    table = pa.ipc.open_stream(io.BytesIO(other.sample)).read_all()
    assert table.num_rows == 30
    assert table["feature.region"].to_pylist()[:2] == ["US", "EU"]
    assert one(db, t.offsets, topic_id=P0[0]).counted == 33


def test_model_registered_meanwhile_is_seen_without_a_restart(db: Database) -> None:
    accumulator = make_pump(db)
    accumulator.take(P0, chunk([record(prediction(0, version="8"), 0)]))
    flush(db, close(accumulator), now=NOW)
    watch(db, versions=("8",))
    accumulator.take(P0, chunk([record(prediction(1, version="8"), 1)]))
    flush(db, close(accumulator), now=NOW)
    assert one(db, t.input_states).version == "8"
    assert one(db, t.unregistered).rows == 1


def test_first_rows_after_a_registration_are_read_with_its_schema(db: Database) -> None:
    accumulator = make_pump(db)
    region = Feature(name="region", kind="category", values=("US", "MARS", "EU"))
    schema = dataclasses.replace(CONFIG.schema, features=(region, Feature(name="income")))
    watch(db, dataclasses.replace(CONFIG, model="other", schema=schema))
    accumulator.take(P0, chunk([record(prediction(i, model="other"), i) for i in range(3)]))
    flush(db, close(accumulator), now=NOW)
    stored = pa.ipc.open_stream(io.BytesIO(one(db, t.feature_rows).data)).read_all()
    assert json.loads(stored.schema.metadata[b"features"]) == ["region", "income"]
    assert stored["features"].to_pylist() == [[0, 1000], [2, 1001], [2, 1002]]


def test_lost_offsets_are_recorded_as_a_gap(db: Database) -> None:
    accumulator = make_pump(db)
    accumulator.take(P0, chunk([record(prediction(0), 0)]))
    accumulator.lost(P0, 1, 9)
    accumulator.take(
        P0, chunk([record(prediction(10), 10), record(prediction(12), 12)])
    )  # 11: a control record
    flush(db, close(accumulator), now=NOW)
    gap, row = one(db, t.gaps), one(db, t.offsets, topic_id=P0[0])
    assert (gap.first, gap.last) == (1, 9)
    assert (row.counted, row.skipped, row.next_offset) == (3, 10, 13)
    assert row.next_offset - row.first_offset == row.counted + row.dead + row.skipped


def test_stored_features_obey_privacy(db: Database) -> None:
    watch(db, dataclasses.replace(CONFIG, store_features=("age",)))
    accumulator = make_pump(db)
    accumulator.take(P0, chunk([record(prediction(i), i) for i in range(3)]))
    flush(db, close(accumulator), now=NOW)
    table = pa.ipc.open_stream(io.BytesIO(one(db, t.feature_rows).data)).read_all()
    assert json.loads(table.schema.metadata[b"features"]) == ["age"]
    assert table["features"].to_pylist() == [[20.0], [21.0], [22.0]]


def test_caps_thin_join_and_feature_rows_to_nested_uniform_samples(db: Database) -> None:
    config = dataclasses.replace(CONFIG, join_rows_per_second=20, feature_rows_per_second=1)
    watch(db, config)
    accumulator = make_pump(db)
    accumulator.take(P0, chunk([batch_record(range(4_000), 0)]))
    flush(db, close(accumulator), now=NOW)
    with db.read() as conn:
        hashes = conn.execute(sa.select(t.join_rows.c.id_hash)).scalars().all()
        lock = conn.execute(sa.select(t.model_locks)).one()
        rate = conn.execute(sa.select(t.join_rates)).one()
        blob = conn.execute(sa.select(t.feature_rows)).one()
    e = lock.join_exponent
    assert e >= 4
    assert rate.exponent == e
    assert 60 <= len(hashes) <= 200  # ten seconds of the cap at once
    assert all((h & (2**64 - 1)) >> (64 - e) == 0 for h in hashes)
    features = pa.ipc.open_stream(io.BytesIO(blob.data)).read_all()["id_hash"].to_pylist()
    assert 10 <= len(features) <= 60
    assert set(features) <= set(hashes)
    # every later row is judged by the same rate, on every worker
    other = make_pump(db, stored=1, start=1)
    other.take(P0, chunk([batch_record(range(4_000, 8_000), 1)]))
    later = close(other).joins["credit"].id_hash
    assert later
    assert all((h & (2**64 - 1)) >> (64 - e) == 0 for h in later)


def finding(revision: int, status: str = "open") -> DriftFound:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return DriftFound(
        finding_id=UUID(int=5),
        model="credit",
        version="7",
        status=status,  # type: ignore[arg-type]
        severity="warning",
        kind="quality",
        detector=Detector(name="missing"),
        statistic=Statistic(value=1, threshold=0),
        window=Window(start=at, end=at, rows=1),
        impact=Impact(
            metric="missing_rate",
            reference=0,
            current=1,
            low=None,
            high=None,
            basis="measured",
            n=1,
            harmful=None,
        ),
        reason="x",
        opened_at=at,
        at=at,
        revision=revision,
    )


def test_findings_are_stored_and_announced_once_a_revision(db: Database) -> None:
    with db.begin() as conn:
        assert store_findings(conn, [finding(0), finding(1, "update")], now=NOW) == 2
    with db.begin() as conn:
        assert store_findings(conn, [finding(0), finding(1), finding(2, "resolved")], now=NOW) == 1
    row = one(db, t.findings)
    assert (row.status, row.revision, row.opened_at) == ("resolved", 2, 1767225600000000)
    with db.read() as conn:
        sent = conn.execute(sa.select(t.outbox.c.topic, t.outbox.c.event_id)).all()
    assert [s.topic for s in sent] == ["drift"] * 3
    assert len({s.event_id for s in sent}) == 3


def test_batch_without_partitions_is_none(db: Database) -> None:
    accumulator = make_pump(db)
    flush(db, close(accumulator), now=NOW)  # registers where counting began
    assert one(db, t.offsets, topic_id=P0[0]).next_offset == 0
    assert accumulator.close() is None


def test_two_flushes_of_the_same_partition_leave_one_winner(db: Database) -> None:
    batches = [
        FlushBatch(
            progress={
                P0: Progress(topic="p", expected=None, first_offset=0, next_offset=n, counted=n)
            }
        )
        for n in (3, 5)
    ]
    assert isinstance(flush(db, batches[0], now=NOW), Flushed)
    assert flush(db, batches[1], now=NOW) == OffsetsMoved((P0,))
    assert one(db, t.offsets).next_offset == 3


def test_profile_is_learned_from_traffic_once_and_never_replaces_a_given_one(db: Database) -> None:
    watch(db, dataclasses.replace(CONFIG, level="watch"), versions=())
    accumulator = make_pump(db)
    before = one(db, t.specs).revision
    for i in range(21):
        accumulator.take(P0, chunk([batch_record(range(500 * i, 500 * (i + 1)), i, version="new")]))
    flush(db, close(accumulator), now=NOW)
    row = one(db, t.profiles, version="new")
    assert row.provisional
    assert one(db, t.specs).revision == before + 1
    accumulator.refresh()
    learned, base = accumulator.watched["credit"].profiles["new"]
    assert learned is not None
    assert (learned.provisional, base) == (True, None)
    # another partition learns one too: the first stands
    other = make_pump(db)
    partition = Partition("topic-id-p", 1)
    other.assign(partition, "predictions", stored=None, start=0)
    with db.begin() as conn:
        conn.execute(sa.update(t.profiles).values(profile=None))
        conn.execute(sa.update(t.specs).values(revision=t.specs.c.revision + 1))
    other.refresh()
    for i in range(21):
        rows = range(20_000 + 500 * i, 20_000 + 500 * (i + 1))
        other.take(partition, chunk([batch_record(rows, i, version="new")]))
    batch = close(other)
    with db.begin() as conn:
        conn.execute(sa.update(t.profiles).values(profile=row.profile))
    batch.progress = {partition: batch.progress[partition]}
    assert isinstance(flush(db, batch, now=NOW), Flushed)
    assert one(db, t.profiles, version="new").profile == row.profile
