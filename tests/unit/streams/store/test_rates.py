"""Rates fall at once and rise slowly, and each rate of joining is stored with its period."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from stream_rows import CONFIG, new_database

from redistill.streams.store.database import Database
from redistill.streams.store.rates import MEASURE_SECONDS, QUIET_SECONDS, RateRaiser, set_rate
from redistill.streams.store.tables import input_states, join_rates, model_locks
from redistill.times import SECOND, to_us

MODEL = CONFIG.model
LIMITED = dataclasses.replace(CONFIG, join_rows_per_second=1_000, feature_rows_per_second=500)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = new_database(f"sqlite:///{tmp_path / 'rates.db'}")
    yield db
    db.dispose()


@pytest.fixture
def conn(db: Database) -> Iterator[sa.Connection]:
    with db.begin() as conn:
        yield conn


def exponents(conn: sa.Connection) -> tuple[int, int]:
    row = conn.execute(sa.select(model_locks)).one()
    return row.join_exponent, row.feature_exponent


def periods(conn: sa.Connection) -> list[tuple[int, int]]:
    query = sa.select(join_rates.c.since, join_rates.c.exponent).order_by(join_rates.c.since)
    return [(since, exponent) for since, exponent in conn.execute(query)]


def test_rate_only_falls_unless_the_join_step_says_otherwise(conn: sa.Connection) -> None:
    set_rate(conn, MODEL, join=3, feature=4, now=10)
    set_rate(conn, MODEL, join=1, feature=2, now=20)  # a worker that sees less traffic than another
    assert exponents(conn) == (3, 4)
    set_rate(conn, MODEL, join=1, feature=2, now=30, lower=True)
    assert exponents(conn) == (1, 2)


def test_join_rate_begins_a_period_when_it_changes_and_only_then(conn: sa.Connection) -> None:
    set_rate(conn, MODEL, join=3, now=10)
    set_rate(conn, MODEL, join=3, now=20)
    set_rate(conn, MODEL, feature=5, now=30)
    set_rate(conn, MODEL, join=2, now=40, lower=True)
    assert periods(conn) == [(10, 3), (40, 2)]


class Traffic:
    """Counts rows as stream workers do, and measures as the housekeeper does."""

    def __init__(self, conn: sa.Connection, *, join_cap: float = 5_000) -> None:
        self.conn, self.raiser = conn, RateRaiser(join_cap=join_cap)
        self.now, self.rows = to_us(1_000), 10**7  # all that was ever served
        conn.execute(
            sa.insert(input_states).values(
                model=MODEL, version="7", topic_id="t", partition=0, state=b"", rows=self.rows
            )
        )
        self.measure()

    def measure(self) -> bool:
        return self.raiser.measure(self.conn, LIMITED, now=self.now)

    def run(self, seconds: float, *, per_second: float) -> list[bool]:
        """Let time pass; what each measurement said."""
        raised = []
        for _ in range(round(seconds / MEASURE_SECONDS)):
            self.now += to_us(MEASURE_SECONDS)
            self.rows += round(per_second * MEASURE_SECONDS)
            self.conn.execute(sa.update(input_states).values(rows=self.rows))
            raised.append(self.measure())
        return raised


def test_rate_rises_one_step_after_a_quiet_minute(conn: sa.Connection) -> None:
    set_rate(conn, MODEL, join=3, feature=3, now=0)
    traffic = Traffic(conn)
    assert not any(traffic.run(QUIET_SECONDS, per_second=10))
    assert traffic.run(MEASURE_SECONDS, per_second=10) == [True]
    assert exponents(conn) == (2, 2)
    assert periods(conn) == [(0, 3), (traffic.now, 2)]
    assert not any(traffic.run(QUIET_SECONDS, per_second=10))  # the next step waits as long


def test_traffic_in_between_begins_the_minute_anew(conn: sa.Connection) -> None:
    set_rate(conn, MODEL, join=3, feature=3, now=0)
    traffic = Traffic(conn)
    traffic.run(QUIET_SECONDS, per_second=10)
    traffic.run(MEASURE_SECONDS, per_second=10_000)
    assert not any(traffic.run(QUIET_SECONDS, per_second=10))
    assert exponents(conn) == (3, 3)


def test_rate_stays_where_twice_as_many_rows_would_not_fit(conn: sa.Connection) -> None:
    set_rate(conn, MODEL, join=1, feature=1, now=0)
    traffic = Traffic(conn)
    assert not any(traffic.run(3 * QUIET_SECONDS, per_second=750))  # 75% of the cap of join rows
    assert exponents(conn) == (1, 1)


def test_database_may_take_less_than_the_model_asks_for(conn: sa.Connection) -> None:
    set_rate(conn, MODEL, join=1, feature=1, now=0)
    traffic = Traffic(conn, join_cap=100)
    assert not any(traffic.run(3 * QUIET_SECONDS, per_second=90))
    assert exponents(conn)[0] == 1


def test_feature_rows_are_never_kept_at_a_larger_rate_than_join_rows(conn: sa.Connection) -> None:
    set_rate(conn, MODEL, join=2, feature=2, now=0)
    traffic = Traffic(conn, join_cap=10)  # too much for join rows, little for feature rows
    traffic.run(3 * QUIET_SECONDS, per_second=100)
    join, feature = exponents(conn)
    assert (join, feature) == (2, 2)


def test_model_without_a_rate_is_left_alone(conn: sa.Connection) -> None:
    traffic = Traffic(conn)
    assert not any(traffic.run(2 * QUIET_SECONDS, per_second=1))
    assert periods(conn) == []


def test_measurements_are_ten_seconds_apart(conn: sa.Connection) -> None:
    set_rate(conn, MODEL, join=3, feature=3, now=0)
    traffic = Traffic(conn)
    for _ in range(round(2 * QUIET_SECONDS)):  # every second: most calls do not measure
        traffic.now += SECOND
        raised = traffic.measure()
        if raised:
            break
    assert exponents(conn) == (2, 2)
    assert traffic.now - to_us(1_000) == to_us(QUIET_SECONDS + MEASURE_SECONDS)
