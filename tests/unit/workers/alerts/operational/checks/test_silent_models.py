"""Models without rows, and without labels, against what is usual for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import loop
import pytest
from operational import NOW, Watched, watched

from redistill.streams.store.tables import input_states, labels, windows
from redistill.times import DAY, HOUR, MINUTE
from redistill.workers.alerts.operational.checks import silent_models


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[Watched]:
    with watched(database_url, tmp_path / "home") as made:
        with made.database.begin() as conn:
            loop.register(conn, loop.spec())
        yield made


def row(at: int) -> dict[str, object]:
    return {
        "model": "credit", "version": "v1", "topic_id": "t", "partition": 0, "state": b"",
        "rows": 1, "first_served_at": at, "last_served_at": at, "stored_at": at,
    }  # fmt: skip


def window(n: int, at: int) -> dict[str, object]:
    return {
        "model": "credit", "version": "v1", "topic_id": "t", "partition": 0, "number": n,
        "rows": 1, "first_served_at": at, "last_served_at": at, "closed_at": at,
    }  # fmt: skip


def label(at: int) -> dict[str, object]:
    return {
        "model": "credit", "id": f"i{at}", "source": "s", "observed_at": at, "id_hash": at,
        "label": "repay", "op": "set", "uniform": True, "received_at": at, "state": "joined",
        "check_at": 0,
    }  # fmt: skip


def test_no_data_is_judged_by_the_usual_gap(world: Watched) -> None:
    assert world.look(silent_models.no_data) == {}, "it was never served"
    world.insert(input_states, row(NOW))
    world.insert(windows, *(window(n, NOW - n * 6 * HOUR) for n in range(20)))
    assert world.firing(silent_models.no_data, later=12 * HOUR - 1) == []
    assert world.firing(silent_models.no_data, later=1) == ["credit"]
    found = world.look(silent_models.no_data, later=17 * HOUR)
    assert found is not None
    assert found["credit"].said == "credit: no row for 29 h, usually one within 6 h"
    assert found["credit"].model == "credit"
    world.update(input_states, stored_at=world.now)
    assert world.firing(silent_models.no_data, later=MINUTE) == []


def test_no_data_after_an_hour_where_it_is_not_known_what_is_usual(world: Watched) -> None:
    world.insert(input_states, row(NOW))
    assert world.firing(silent_models.no_data, later=HOUR - 1) == []
    assert world.firing(silent_models.no_data, later=2) == ["credit"]
    found = world.look(silent_models.no_data)
    assert found is not None
    assert found["credit"].said.endswith("and how often one comes is not known yet")


def test_labels_are_late_by_their_own_usual_gap_while_rows_come(world: Watched) -> None:
    world.insert(input_states, row(NOW))
    assert world.look(silent_models.labels_late) == {}, "it never had one"
    world.insert(labels, *(label(NOW - n * DAY) for n in range(10)))

    def firing(later: int) -> list[str]:
        world.update(input_states, stored_at=world.now + later)
        return world.firing(silent_models.labels_late, later=later)

    assert firing(47 * HOUR) == []
    assert firing(HOUR) == ["credit"]
    found = world.look(silent_models.labels_late)
    assert found is not None
    assert found["credit"].said == "credit: no label for 2 d, usually one within 24 h"
    assert world.firing(silent_models.labels_late, later=2 * HOUR) == ["credit"], (
        "without rows nothing is known"
    )
    world.insert(labels, label(world.now))
    assert firing(MINUTE) == []


def test_labels_of_a_model_that_is_not_served_are_not_late(world: Watched) -> None:
    world.insert(input_states, row(NOW))
    world.insert(labels, label(NOW))
    assert world.firing(silent_models.labels_late, later=30 * DAY) == []


def test_labels_are_late_after_a_day_where_it_is_not_known_what_is_usual(world: Watched) -> None:
    world.insert(input_states, row(NOW))
    world.insert(labels, label(NOW))
    for hours, late in ((23, []), (1, ["credit"])):
        world.update(input_states, stored_at=world.now + hours * HOUR)
        assert world.firing(silent_models.labels_late, later=hours * HOUR) == late
