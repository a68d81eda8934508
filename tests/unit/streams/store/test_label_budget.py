"""Labels that may be asked for on a day."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from stream_rows import CONFIG, new_database

from redistill.streams.store.label_budget import Budget, budget_of
from redistill.streams.store.tables import label_requests
from redistill.times import DAY, SECOND

MIDNIGHT = 20_000 * DAY


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sa.Connection]:
    db = new_database(f"sqlite:///{tmp_path / 'r.db'}")
    with db.begin() as opened:
        for i, (model, at, rows) in enumerate(
            [("credit", MIDNIGHT - 1, 50), ("credit", MIDNIGHT, 30), ("other", MIDNIGHT, 9)]
        ):
            opened.execute(
                sa.insert(label_requests).values(
                    request_id=str(i), model=model, version="7", why="harm", asked_at=at,
                    first_served_at=0, last_served_at=1, p_include=0.5, rows=rows, cost=0.0,
                    budget=100, budget_left=0,
                )
            )  # fmt: skip
        yield opened
    db.dispose()


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({}, 0),
        ({"requests_per_day": 100}, 100),
        ({"requests_per_day": 100, "label_cost": 0.5, "label_cost_per_day": 20.0}, 40),
        ({"requests_per_day": 100, "label_cost": 0.5, "label_cost_per_day": 2_000.0}, 100),
        ({"requests_per_day": 100, "label_cost_per_day": 20.0}, 100),  # they cost nothing
    ],
)
def test_rows_and_costs_bound_a_day(
    conn: sa.Connection, changes: dict[str, float], allowed: int
) -> None:
    config = dataclasses.replace(CONFIG, **changes)
    budget = budget_of(conn, config, MIDNIGHT + SECOND)
    assert budget == Budget(allowed=allowed, used=30)
    assert budget.left == max(0, allowed - 30)


@pytest.mark.parametrize(("at", "used"), [(-1, 50), (0, 30), (DAY - 1, 30), (DAY, 0)])
def test_a_day_begins_at_midnight_utc(conn: sa.Connection, at: int, used: int) -> None:
    assert budget_of(conn, CONFIG, MIDNIGHT + at).used == used
