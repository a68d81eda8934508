"""How much may be deleted, whoever asks and however often."""

from __future__ import annotations

from collections.abc import Iterator

import loop
import pytest
import sqlalchemy as sa
from loop import NOW

from redistill.streams.store.database import Database
from redistill.streams.store.tables import counters
from redistill.times import DAY, HOUR, MINUTE
from redistill.workers.store import deletion_budget


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = loop.opened(database_url)
    with opened.begin() as conn:
        for model, rows in (("a", 300), ("b", 100)):
            names = [{"model": model, "name": str(i), "value": 0} for i in range(rows)]
            conn.execute(sa.insert(counters), names)
    yield opened
    opened.dispose()


def left(database: Database, model: str | None, now: int = NOW, *, spend: int = 0) -> int:
    with database.begin() as conn:
        n = deletion_budget.left(conn, counters, model, now=now)
        deletion_budget.spend(conn, counters, model, spend, now=now)
    return n


def test_a_tenth_of_the_model_and_of_the_table(database: Database) -> None:
    assert left(database, "a", spend=30) == 30
    assert left(database, "b", spend=10) == 10
    assert left(database, None) == 0, "forty of four hundred are gone"


def test_allowance_is_measured_anew_an_hour_after_the_last_deletion(database: Database) -> None:
    assert left(database, "a", spend=20) == 30
    assert left(database, "a", NOW + 50 * MINUTE, spend=10) == 10
    assert left(database, "a", NOW + HOUR) == 0, "or sixty minutes could see two tenths"
    assert left(database, "a", NOW + 50 * MINUTE + HOUR) == 30


@pytest.mark.parametrize("later", [40 * DAY, -40 * DAY])
def test_count_of_a_wrong_clock_holds_nobody_up(database: Database, later: int) -> None:
    assert left(database, "a", NOW, spend=30) == 30
    assert left(database, "a", NOW + later) == 30
