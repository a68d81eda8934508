"""Of two labels with one key: which one stays, whoever comes first; on both databases."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from stream_rows import CONFIG, START, label, new_database, truth, watch

from redistill.streams.engine.label_rows import label_row
from redistill.streams.store import ledger, properties
from redistill.streams.store import tables as t
from redistill.streams.store.batch import FlushBatch
from redistill.streams.store.database import Database
from redistill.streams.store.flush import flush
from redistill.streams.store.join_step import join_labels
from redistill.streams.wire.hashing import id_hashes, signed
from redistill.times import MINUTE, SECOND, microseconds

NOW = microseconds(START) + 3_600 * SECOND
KEY = b"k" * 32


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    db = new_database(database_url)
    watch(db)
    yield db
    db.dispose()


def row(
    said: str | None = "repay", *, bound: bool = False, state: str = "waiting", i: int = 0
) -> dict[str, Any]:
    """A label, or with ``None`` its retraction: all of one row have one key."""
    op = "upsert" if said else "retract"
    event = label(i, label=said, op=op, version="7" if said else None, prediction=said)
    return label_row(event, i, state=state, bound=bound)


def stored(db: Database, rows: list[dict[str, Any]], *, now: int = NOW) -> Any:
    """What stands of one label after a flush."""
    flush(db, FlushBatch(labels=rows), now=now)
    with db.read() as conn:
        return conn.execute(sa.select(t.labels)).one()


def counted(db: Database) -> dict[str, int]:
    with db.read() as conn:
        return {r.name: r.value for r in conn.execute(sa.select(t.counters))}


def test_label_of_its_sources_topic_takes_the_place_of_one_that_anybody_wrote(db: Database) -> None:
    """Whoever guesses the key (id, source, time) cannot keep the label out, before or after."""
    true = row("repay", bound=True)
    forged = row("default", state="ignored")
    for n, rows in enumerate([[forged, true], [forged], [true], [forged | {"state": "waiting"}]]):
        found = stored(db, rows, now=NOW + n)
        assert (found.label, found.bound, found.state) == ("repay", True, "waiting")
        assert found.received_at == NOW, "sent again, it is the same"
    assert counted(db)["labels_duplicate"] == 4


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("together", [False, True])
def test_retraction_of_a_label_takes_its_place_in_whatever_order_they_come(
    db: Database, bound: bool, together: bool
) -> None:
    """A file that was imported, and is imported to be taken back, has the same times."""
    given, back = row("repay", bound=bound), row(None, bound=bound)
    for order in ([given, back], [back, given], [given]):  # as often as you like
        for rows in [order] if together else [[one] for one in order]:
            found = stored(db, rows)
    assert (found.op, found.label, found.bound) == ("retract", None, bound)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_nobody_takes_a_label_back_that_stands_on_its_sources_topic(
    db: Database, order: tuple[int, ...]
) -> None:
    true, forged = row("repay", bound=True), row(None, state="ignored")
    for n in order:
        found = stored(db, [[true, forged], [forged], [true]][n])
    assert (found.op, found.label, found.bound, found.state) == ("upsert", "repay", True, "waiting")


def many(n: int, *, first: int = 0, bound: bool = False, **how: Any) -> list[dict[str, Any]]:
    """Labels of one id, each of another time."""
    return [
        label_row(label(0, seconds=60.0 + first + k, **how), 0, state="waiting", bound=bound)
        for k in range(n)
    ]


def flushed(db: Database, rows: list[dict[str, Any]]) -> None:
    flush(db, FlushBatch(labels=rows), now=NOW)


def there(db: Database) -> Counter[tuple[str, bool]]:
    with db.read() as conn:
        rows = conn.execute(sa.select(t.labels.c.source, t.labels.c.bound)).all()
    return Counter((r.source, r.bound) for r in rows)


def test_of_one_id_there_are_so_many_labels_and_no_more(db: Database) -> None:
    """The join read a hundred thousand of them with each one that was new: six seconds in which
    nobody else could write."""
    for first in range(0, 400, 80):
        flushed(db, many(80, first=first))
    assert there(db) == {("ledger", False): 100}
    assert counted(db)["labels_over_limit"] == 300
    flushed(db, many(80) + many(5, source="analyst") + many(5, bound=True))
    assert there(db) == {("ledger", False): 95, ("ledger", True): 5, ("analyst", False): 5}
    flushed(db, many(200, first=5, bound=True))
    assert there(db)["ledger", True] == 100
    others = [label_row(label(1), 1, state="waiting")]
    flushed(db, others)
    assert there(db).total() == 106


def test_names_that_are_made_up_have_no_room_of_their_own(db: Database) -> None:
    for first in range(0, 1_200, 400):
        flushed(db, [many(1, source=f"made-up-{k}")[0] for k in range(first, first + 400)])
    assert there(db).total() == 1_000
    flushed(db, many(1, source="ledger", bound=True))
    assert there(db)["ledger", True] == 1


def test_labels_sent_twice_in_one_flush_use_up_no_room(db: Database) -> None:
    flushed(db, many(1) * 500 + many(50))
    assert there(db).total() == 50
    assert "labels_over_limit" not in counted(db)


def test_outcome_of_a_label_that_was_taken_back_loses_it(db: Database) -> None:
    """``label import FILE --retract`` of the file that gave the labels changed nothing."""
    with db.begin() as conn:
        salt = properties.salt(conn)
    events = [label(i, version="7", prediction=truth(i)) for i in range(20)]
    hashes = signed(id_hashes([e.id for e in events], salt)).tolist()
    given = [label_row(e, h, state="waiting") for e, h in zip(events, hashes, strict=True)]
    back = [
        label_row(label(i, label=None, op="retract"), h, state="waiting")
        for i, h in enumerate(hashes)
    ]
    for n, rows in enumerate((given, back, given)):
        flush(db, FlushBatch(labels=rows), now=NOW + 3 * n * MINUTE)
        join_labels(db, CONFIG, now=NOW + (3 * n + 2) * MINUTE, state_key=KEY)
    with db.read() as conn:
        outcomes = conn.execute(sa.select(t.outcomes.c.label, t.outcomes.c.correct)).all()
        states = Counter(conn.execute(sa.select(t.labels.c.state)).scalars())
    assert outcomes == [(None, 1)] * 20, "detectors keep what they saw"
    assert states == {"superseded": 20}
    found = counted(db)
    decided = sum(found.get(f"labels_{state}", 0) for state in ledger.DECIDED)
    assert decided - found[ledger.DECIDED_EXPIRED] == 20
