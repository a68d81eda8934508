"""What became of each request, and the rows whose labels are still wanted."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from stream_intake import NOW, StreamIntake
from stream_rows import CONFIG, new_database, prediction, watch

from redistill.streams.store.database import Database
from redistill.streams.store.request_draws import Draw
from redistill.streams.store.requestable_rows import newest
from redistill.streams.store.stored_requests import store_request
from redistill.streams.store.tables import feature_rows
from redistill.times import DAY
from redistill.workers.store.requested_labels import open_rows, progress

FIRST = ["id", "served_at", "prediction", "request_id", "p_include"]


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """Labels of rows 10 to 19 of 20 are asked for."""
    made = new_database(database_url)
    watch(made)
    StreamIntake(made).send(*map(prediction, range(20)))
    draw = Draw(
        request_id="11111111-2222-5333-8444-555555555555", version="7", first_served_at=0,
        last_served_at=NOW, p_include=0.5,
    )  # fmt: skip
    config = dataclasses.replace(CONFIG, requests_per_day=100)
    with made.begin() as conn:
        store_request(conn, config, draw, "harm", newest(conn, "credit", "7", 10), now=NOW)
    yield made
    made.dispose()


def wanted(db: Database, *, now: int = NOW, allowed: tuple[str, ...] | None = None) -> Any:
    with db.read() as conn:
        return open_rows(conn, "credit", CONFIG.schema, allowed=allowed, wait_days=30, now=now)


def test_rows_have_what_was_logged(db: Database) -> None:
    table = wanted(db)
    assert table.column_names == [*FIRST, "income", "age", "region"]
    logged = [prediction(i) for i in range(10, 20)]
    assert table["id"].to_pylist() == [p.id for p in logged]
    assert table["prediction"].to_pylist() == [p.prediction for p in logged]
    for name in ("income", "age", "region"):
        assert table[name].to_pylist() == [(p.features or {})[name] for p in logged]


def test_rows_that_are_no_longer_stored_are_wanted_all_the_same(db: Database) -> None:
    with db.begin() as conn:
        conn.execute(sa.delete(feature_rows))
    table = wanted(db)
    assert table.column_names == FIRST
    assert table["id"].to_pylist() == [f"row-{i}" for i in range(10, 20)]
    assert table["prediction"].null_count == 10


def test_features_stored_before_they_were_forbidden_are_not_written(db: Database) -> None:
    assert wanted(db, allowed=("age",)).column_names == [*FIRST, "age"]
    assert wanted(db, allowed=()).column_names == FIRST


def test_rows_that_no_label_can_reach_any_more_have_expired(db: Database) -> None:
    later = NOW + 31 * DAY
    assert wanted(db, now=later).num_rows == 0
    with db.read() as conn:
        (soon,) = progress(conn, "credit", wait_days=30, now=NOW)
        (late,) = progress(conn, "credit", wait_days=30, now=later)
    assert (soon.open, soon.answered, soon.expired) == (10, 0, 0)
    assert (late.open, late.answered, late.expired) == (0, 0, 10)
