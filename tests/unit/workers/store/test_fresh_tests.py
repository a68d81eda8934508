"""Candidates that have faced fresh rows: counted once each, in order, and no fourth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import job_worker
import loop
import pytest
import sqlalchemy as sa
from job_worker import INCIDENT
from loop import NOW

from redistill.streams.store.database import Database
from redistill.workers.store import fresh_tests, job_queue
from redistill.workers.store.fresh_tests import FreshTest, NumberTaken
from redistill.workers.store.tables import fresh_tests as rows


@pytest.fixture
def conn(database_url: str) -> Iterator[sa.Connection]:
    database: Database = loop.opened(database_url)
    with database.begin() as conn:
        loop.register(conn, loop.spec())
        job_worker.incident_with_job(conn)
        yield conn
    database.dispose()


def candidate(number: int, name: str = "", **fields: object) -> FreshTest:
    return FreshTest(
        number=number, sha256=name or f"c{number}", version="v1", since=NOW, recipe="warm",
        job_id=job_queue.job_id_of(INCIDENT, 1), e_value=200.0, at=NOW + number, **fields,  # type: ignore[arg-type]
    )  # fmt: skip


def test_candidates_are_counted_in_the_order_in_which_they_faced_rows(conn: sa.Connection) -> None:
    first, second = candidate(1), candidate(2)
    assert fresh_tests.enter(conn, INCIDENT, first)
    assert fresh_tests.enter(conn, INCIDENT, second)
    assert fresh_tests.of_incident(conn, INCIDENT) == (first, second)
    assert fresh_tests.of_incident(conn, "another") == ()


def test_candidate_that_is_judged_again_is_the_same_test(conn: sa.Connection) -> None:
    first = candidate(1)
    fresh_tests.enter(conn, INCIDENT, first)
    fresh_tests.enter(conn, INCIDENT, candidate(2))
    assert not fresh_tests.enter(conn, INCIDENT, replace(first, at=NOW + 99))
    assert fresh_tests.of_incident(conn, INCIDENT)[0].at == first.at


def test_candidate_that_is_judged_again_was_asked_for_what_it_was_asked_for_last(
    conn: sa.Connection,
) -> None:
    """The policy may have changed while it waited."""
    first, second = candidate(1), candidate(2)
    fresh_tests.enter(conn, INCIDENT, first)
    fresh_tests.enter(conn, INCIDENT, second)
    fresh_tests.enter(conn, INCIDENT, replace(first, e_value=300.0))
    assert [t.e_value for t in fresh_tests.of_incident(conn, INCIDENT)] == [300.0, 200.0]


@pytest.mark.parametrize("change", [{"version": "v2"}, {"since": NOW + 1}])
def test_same_bytes_against_others_or_on_other_rows_are_another_test(
    conn: sa.Connection, change: dict[str, object]
) -> None:
    first = candidate(1)
    fresh_tests.enter(conn, INCIDENT, first)
    other = replace(first, number=2, **change)  # type: ignore[arg-type]
    assert fresh_tests.enter(conn, INCIDENT, other)


@pytest.mark.parametrize(
    ("number", "name", "why"),
    [
        (1, "new", "judged as number 1 of its incident and is number 2"),
        (3, "new", "judged as number 3 of its incident and is number 2"),
        (2, "c1", "judged as number 2 of its incident and is number 1"),
    ],
)
def test_number_that_is_not_a_candidates_own_is_refused(
    conn: sa.Connection, number: int, name: str, why: str
) -> None:
    fresh_tests.enter(conn, INCIDENT, candidate(1))
    with pytest.raises(NumberTaken, match=why):
        fresh_tests.enter(conn, INCIDENT, candidate(number, name))
    assert conn.execute(sa.select(sa.func.count()).select_from(rows)).scalar_one() == 1
