"""A batch is written whole, or not at all where another worker has moved on; on both databases."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from stream_rows import CONFIG, label, new_database, prediction, record, watch

from redistill.streams.engine.dead_letters import dead_letter
from redistill.streams.engine.label_rows import label_row
from redistill.streams.errors import WireError
from redistill.streams.store import flush as flush_module
from redistill.streams.store import tables as t
from redistill.streams.store.batch import (
    FeatureBlob,
    FlushBatch,
    Flushed,
    Gap,
    JoinRows,
    OffsetsMoved,
    Partition,
    ProfileRow,
    Progress,
    StateRow,
    Unregistered,
    WindowRow,
)
from redistill.streams.store.database import Database
from redistill.streams.store.flush import flush
from redistill.streams.wire.codec import Record, decode

P0 = Partition("topic-id-p", 0)
L0 = Partition("topic-id-l", 0)
NOW = 1_800_000_000_000_000


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    db = new_database(database_url)
    watch(db)
    yield db
    db.dispose()


def progress(end: int, *, expected: int | None = None, **more: int) -> Progress:
    """A partition that was read up to ``end``, each offset a row."""
    begin = expected or 0
    counts = {"first_offset": 0, "counted": end - begin, "rows": end - begin} | more
    return Progress(topic="predictions", expected=expected, next_offset=end, **counts)


def joins(*ids: int, prediction: str = "repay") -> JoinRows:
    n = len(ids)
    return JoinRows(
        id_hash=list(ids), version=["7"] * n, prediction=[prediction] * n, score=[0.75] * n,
        slices=[None] * n, served_at=[NOW] * n, topic_id=[P0.topic_id] * n,
        partition=[P0.number] * n, window=[0] * n,
    )  # fmt: skip


def labels(n: int) -> list[dict[str, object]]:
    return [label_row(label(i), i, state="waiting") for i in range(n)]


def state(rows: int) -> StateRow:
    return StateRow(
        model="credit", version="7", partition=P0, state=b"frozen", rows=rows,
        first_served_at=NOW - 5, last_served_at=NOW,
    )  # fmt: skip


def row_of(db: Database, table: sa.Table, **where: object) -> sa.Row[tuple[object, ...]]:
    with db.read() as conn:
        query = sa.select(table).where(*(table.c[k] == v for k, v in where.items()))
        return conn.execute(query).one()


def count(db: Database, table: sa.Table) -> int:
    with db.read() as conn:
        return int(conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def test_all_of_a_batch_is_written_together(db: Database) -> None:
    batch = FlushBatch(
        progress={P0: progress(150), L0: progress(5)},
        states=[state(150)],
        windows=[
            WindowRow(
                model="credit", version="7", partition=P0, number=0, rows=100,
                first_served_at=NOW - 5, last_served_at=NOW,
            )
        ],
        joins={"credit": joins(*range(150))},
        labels=labels(5),
        features=[
            FeatureBlob(
                model="credit", version="7", first_served_at=NOW - 5, last_served_at=NOW,
                rows=150, data=b"arrow",
            )
        ],
        gaps=[Gap(partition=P0, topic="predictions", first=3, last=9)],
        counters={("credit", "rows_unknown"): 2},
    )  # fmt: skip
    assert flush(db, batch, now=NOW) == Flushed(join_rows=150, labels=5, findings=0)
    offsets = row_of(db, t.offsets, topic_id=P0.topic_id)
    assert (offsets.first_offset, offsets.next_offset, offsets.counted, offsets.rows) == (
        0, 150, 150, 150,
    )  # fmt: skip
    stored = row_of(db, t.input_states)
    assert (stored.rows, stored.first_served_at, stored.state) == (150, NOW - 5, b"frozen")
    join = row_of(db, t.join_rows, id_hash=3)
    assert (join.model, join.version, join.prediction, join.score) == ("credit", "7", "repay", 0.75)
    assert (join.topic_id, join.partition) == P0
    window = row_of(db, t.windows)
    assert (window.rows, window.topic_id, window.partition) == (100, *P0)
    blob = row_of(db, t.feature_rows)
    assert (blob.rows, blob.bytes, blob.data) == (150, 5, b"arrow")
    gap = row_of(db, t.gaps)
    assert (gap.topic_id, gap.partition, gap.first, gap.last) == (*P0, 3, 9)
    assert count(db, t.labels) == 5
    assert row_of(db, t.counters, name="rows_unknown").value == 2


def test_second_flush_goes_on_where_the_first_ended(db: Database) -> None:
    for expected, end in ((None, 10), (10, 20)):
        batch = FlushBatch(progress={P0: progress(end, expected=expected)}, states=[state(end)])
        assert isinstance(flush(db, batch, now=NOW), Flushed)
    assert row_of(db, t.offsets).counted == 20
    assert row_of(db, t.input_states).rows == 20


def test_another_worker_that_moved_the_offset_makes_the_batch_void(db: Database) -> None:
    quick = FlushBatch(progress={P0: progress(4), L0: progress(0)}, states=[state(4)])
    assert isinstance(flush(db, quick, now=NOW), Flushed)
    slow = FlushBatch(
        progress={P0: progress(10), L0: progress(1)}, states=[state(10)], labels=labels(1)
    )
    assert flush(db, slow, now=NOW) == OffsetsMoved((L0, P0))
    assert row_of(db, t.offsets, topic_id=P0.topic_id).next_offset == 4
    assert row_of(db, t.input_states).rows == 4
    assert count(db, t.labels) == 0
    again = FlushBatch(progress={P0: progress(10, expected=4)}, states=[state(10)])
    assert isinstance(flush(db, again, now=NOW), Flushed)
    assert row_of(db, t.offsets, topic_id=P0.topic_id).counted == 10
    assert row_of(db, t.input_states).rows == 10


def test_flush_tried_again_writes_once(db: Database) -> None:
    batch = FlushBatch(progress={P0: progress(10)})
    assert isinstance(flush(db, batch, now=NOW), Flushed)
    # the first answer was lost: the second try finds the offset moved, and writes nothing
    assert isinstance(flush(db, batch, now=NOW), OffsetsMoved)
    assert row_of(db, t.offsets).counted == 10


def test_first_of_two_rows_with_one_id_wins_and_is_counted(db: Database) -> None:
    first, second = joins(1), joins(1, prediction="default")
    for name in JoinRows.__slots__:
        getattr(first, name).extend(getattr(second, name))
    flush(db, FlushBatch(progress={P0: progress(2)}, joins={"credit": first}), now=NOW)
    later = {"credit": joins(1, prediction="default")}
    flush(db, FlushBatch(progress={P0: progress(3, expected=2)}, joins=later), now=NOW)
    assert row_of(db, t.join_rows).prediction == "repay"
    assert row_of(db, t.counters, name="rows_duplicate").value == 2
    assert row_of(db, t.counters, name="rows_conflicting").value == 2


def test_a_label_whose_flush_waited_for_the_database_is_as_young_as_its_flush(db: Database) -> None:
    flush(db, FlushBatch(progress={L0: progress(1)}, labels=labels(1)), now=NOW + 3_600_000_000)
    assert row_of(db, t.labels).received_at == NOW + 3_600_000_000


def test_many_labels_are_written_at_once(db: Database) -> None:
    most = 5_000 if db.is_sqlite else 20_000
    batch = FlushBatch(progress={L0: progress(most)}, labels=labels(most))
    assert flush(db, batch, now=NOW) == Flushed(join_rows=0, labels=most, findings=0)
    assert count(db, t.labels) == most


def test_dead_letters_are_announced_once_each(db: Database) -> None:
    letter = dead_letter(
        "predictions", 0, record(prediction(1), 1)._replace(value=b"{no json"),
        WireError("malformed", "no JSON"),
    )  # fmt: skip
    for expected, end in ((None, 1), (1, 2)):
        batch = FlushBatch(progress={P0: progress(end, expected=expected)}, dead=[letter])
        assert isinstance(flush(db, batch, now=NOW), Flushed)
    sent = row_of(db, t.outbox)
    headers = [(k, v.encode()) for k, v in json.loads(sent.headers).items()]
    assert sent.topic == "dlq"
    assert decode(Record("dlq", 0, 0, 0, None, sent.value, headers)) == letter


def test_unregistered_versions_are_added_up_and_keep_the_larger_sample(db: Database) -> None:
    seen = [
        Unregistered(rows=30, first_seen_at=1, last_seen_at=2, sample=b"some"),
        Unregistered(rows=3, first_seen_at=3, last_seen_at=4),
        Unregistered(rows=5, first_seen_at=5, last_seen_at=6, sample=b"more of them"),
    ]
    for i, found in enumerate(seen):
        batch = FlushBatch(
            progress={P0: progress(i + 1, expected=i or None)}, unregistered={("o", "1"): found}
        )
        flush(db, batch, now=NOW)
    row = row_of(db, t.unregistered)
    assert (row.model, row.version, row.rows, row.sample) == ("o", "1", 38, b"more of them")


def test_rates_that_a_batch_obeys_are_stored_with_it(db: Database) -> None:
    batch = FlushBatch(
        progress={P0: progress(1)}, join_exponents={"credit": 4}, feature_exponents={"credit": 7}
    )
    flush(db, batch, now=NOW)
    lock, rate = row_of(db, t.model_locks), row_of(db, t.join_rates)
    assert (lock.join_exponent, lock.feature_exponent, rate.exponent) == (4, 7, 4)


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
    assert row_of(db, t.offsets).next_offset == 3


def test_profile_is_learned_once_and_never_replaces_a_given_one(db: Database) -> None:
    watch(db, dataclasses.replace(CONFIG, level="watch"), versions=("given",))
    with db.begin() as conn:
        conn.execute(sa.update(t.profiles).values(profile=b"given"))
    before = row_of(db, t.specs).revision
    for i, learned in enumerate((b"first", b"second")):
        rows = [
            ProfileRow(model="credit", version=version, profile=learned)
            for version in ("new", "given")
        ]
        batch = FlushBatch(progress={P0: progress(i + 1, expected=i or None)}, profiles=rows)
        assert isinstance(flush(db, batch, now=NOW), Flushed)
    row = row_of(db, t.profiles, version="new")
    assert (row.profile, row.provisional, row.base_error) == (b"first", True, None)
    assert row_of(db, t.profiles, version="given").profile == b"given"
    assert row_of(db, t.specs).revision == before + 1, "workers read it again"


def test_what_a_log_lost_after_it_was_counted_stays_counted(db: Database) -> None:
    """Its offsets belong to other records now, which are counted as well."""
    flush(db, FlushBatch(progress={P0: progress(40)}), now=NOW)
    gone_back = Progress(
        topic="predictions", expected=40, first_offset=25, next_offset=25, rewound=15
    )
    assert isinstance(flush(db, FlushBatch(progress={P0: gone_back}), now=NOW), Flushed)
    flush(db, FlushBatch(progress={P0: progress(50, expected=25)}), now=NOW)
    row = row_of(db, t.offsets)
    assert (row.next_offset, row.counted) == (50, 65)
    assert row.next_offset - row.first_offset == row.counted, "as check-history adds it up"


def test_labels_of_unregistered_models_have_room_and_no_more(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flush_module, "UNREGISTERED_LABELS", 3)
    end = None
    for first in (0, 2):
        new = [
            label_row(label(i, model="new"), i, state="unregistered", bound=True)
            for i in range(first, first + 2)
        ]
        mine = label_row(label(first), first, state="waiting")
        at = {L0: progress((end or 0) + 3, expected=end)}
        end = (end or 0) + 3
        flush(db, FlushBatch(progress=at, labels=[*new, mine]), now=NOW)
    with db.read() as conn:
        stored = conn.execute(sa.select(t.labels.c.model, t.labels.c.id)).all()
    assert sorted(map(tuple, stored)) == [
        ("credit", "row-0"), ("credit", "row-2"), ("new", "row-0"), ("new", "row-1"), ("new", "row-2"),
    ]  # fmt: skip
    assert row_of(db, t.counters, name="labels_unregistered_left_out").value == 1
