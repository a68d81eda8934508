"""How long a model is usually silent."""

from __future__ import annotations

from collections.abc import Iterator

import loop
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from redistill.streams.store.database import Database
from redistill.streams.store.tables import input_states, labels, windows
from redistill.times import DAY, HOUR, MINUTE
from redistill.workers.store import usual_gaps
from redistill.workers.store.usual_gaps import LEAST_US, longest_silence, usual

NOW = loop.NOW


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    database = loop.opened(database_url)
    with database.begin() as conn:
        loop.register(conn, loop.spec())
    yield database
    database.dispose()


def feed(db: Database, times: list[int], model: str = "credit") -> None:
    with db.begin() as conn:
        conn.execute(
            sa.insert(labels),
            [
                {
                    "model": model, "id": f"i{n}", "source": "s", "observed_at": at, "id_hash": n,
                    "label": "repay", "op": "set", "uniform": True, "received_at": at,
                    "state": "joined", "check_at": 0,
                }
                for n, at in enumerate(times)
            ],
        )  # fmt: skip


def of_labels(db: Database, model: str = "credit") -> int | None:
    with db.read() as conn:
        return usual_gaps.of_labels(conn, model, NOW)


def test_weekends_and_nights_are_usual_and_an_outage_is_not(db: Database) -> None:
    weekdays = [NOW - d * DAY for d in range(27) if d % 7 not in (5, 6)]
    feed(db, weekdays)
    assert of_labels(db) == 3 * DAY
    hours = [NOW - h * HOUR for h in range(27 * 24) if h % 24 < 16 and not 100 < h < 190]
    feed(db, hours, "night")
    assert of_labels(db, "night") == 9 * HOUR


def test_labels_of_an_hour_are_one(db: Database) -> None:
    start = (NOW // HOUR - 40) * HOUR
    feed(db, [start + i * MINUTE for i in range(60)])
    assert of_labels(db) is None
    feed(db, [start + i * HOUR + j * MINUTE for i in range(30) for j in range(5)], "dense")
    assert of_labels(db, "dense") == HOUR
    assert of_labels(db, "nobody") is None


def test_gaps_between_rows_are_those_between_windows_of_any_partition(db: Database) -> None:
    with db.begin() as conn:
        for number in range(12):
            for partition in (0, 1):
                at = NOW - number * 4 * HOUR + partition * HOUR
                conn.execute(
                    sa.insert(windows).values(
                        model="credit", version="v1", topic_id="t", partition=partition,
                        number=number, rows=9, first_served_at=at,
                        last_served_at=at + 30 * MINUTE, closed_at=at,
                    )
                )  # fmt: skip
    with db.read() as conn:
        gap = usual_gaps.of_rows(conn, "credit", NOW)
        assert usual_gaps.of_rows(conn, "other", NOW) is None
    assert gap == 2 * HOUR + 30 * MINUTE


def test_last_row_and_last_label_go_by_the_database_s_clock(db: Database) -> None:
    row = {
        "version": "v1", "topic_id": "t", "state": b"", "rows": 1, "first_served_at": 1,
        "last_served_at": NOW + DAY,
    }  # fmt: skip
    with db.begin() as conn:
        assert usual_gaps.last_rows(conn) == {}
        assert usual_gaps.last_label(conn, "credit") is None
        conn.execute(
            sa.insert(input_states),
            [
                row | {"model": "credit", "partition": 0, "stored_at": NOW},
                row | {"model": "credit", "partition": 1, "stored_at": NOW - 5},
                row | {"model": "stranger", "partition": 0, "stored_at": NOW},
            ],
        )
    feed(db, [NOW - 7, NOW - 3])
    with db.read() as conn:
        assert usual_gaps.last_rows(conn) == {"credit": NOW}
        assert usual_gaps.last_label(conn, "credit") == NOW - 3


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 20)), max_size=20))
def test_usual_gap_is_one_of_the_gaps(told: list[tuple[int, int]]) -> None:
    spans = [(first, first + length) for first, length in told]
    covered = {t for first, last in spans for t in range(first, last + 1)}
    gap = usual(spans)
    if gap is not None:
        assert any(
            t in covered and t + gap in covered and not covered & set(range(t + 1, t + gap))
            for t in covered
        )
    elif covered:
        assert covered == set(range(min(covered), max(covered) + 1)), "nothing lies between them"


@given(st.one_of(st.none(), st.integers(0, 28 * DAY)), st.integers(HOUR, DAY))
def test_no_silence_of_less_than_an_hour_is_worth_a_word(gap: int | None, unknown: int) -> None:
    assert longest_silence(gap, unknown=unknown) >= LEAST_US
