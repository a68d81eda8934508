"""Lag that is late, and lag that grows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from operational import Watched, watched
from structlog.testing import capture_logs

from redistill.streams.store import properties as store
from redistill.streams.store.process_rows import SILENT_US
from redistill.times import MINUTE, SECOND
from redistill.workers.alerts.operational.checks import consumer_lag
from redistill.workers.alerts.operational.checks.consumer_lag import STEPS, trend


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[Watched]:
    with watched(database_url, tmp_path / "home") as made:
        yield made


def test_late_opens_at_two_minutes_and_ends_at_half_a_minute(world: Watched) -> None:
    said = []
    for age, fires in ((119, False), (120, True), (31, True), (30, False), (119, False)):
        world.lag("s", [("predictions", 12_345, age * SECOND), ("labels", 0, None)])
        assert world.firing(consumer_lag.late) == (["predictions"] if fires else [])
        found = world.look(consumer_lag.late)
        assert found is not None
        said.append(found["predictions"].said)
    assert said[1] == "predictions: 12,345 records wait to be counted, the oldest for 2 min"


def test_what_is_never_fetched_is_late_by_the_time_for_which_it_was_seen(world: Watched) -> None:
    world.lag("s", [("labels", 1, None)])
    assert world.firing(consumer_lag.late) == []
    for _ in range(3):
        world.now += MINUTE
        world.lag("s", [("labels", 1, None)])
        world.firing(consumer_lag.late)
    assert world.opened == {"labels"}
    world.lag("s", [("labels", 0, None)])
    assert world.firing(consumer_lag.late) == []


def test_nothing_is_known_of_the_lag_of_a_worker_that_died(world: Watched) -> None:
    assert world.look(consumer_lag.late) is None
    world.lag("s", [("labels", 9, 5 * MINUTE)])
    assert world.firing(consumer_lag.late) == ["labels"]
    assert world.firing(consumer_lag.late, later=2 * SILENT_US) == ["labels"]
    assert world.look(consumer_lag.growing) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"labels": 3}', '{"labels": [1]}', '{"x": [{}, 1]}'])
def test_lag_of_a_worker_that_cannot_be_read_hides_no_other(world: Watched, text: str) -> None:
    world.lag("s", [("labels", 9, 5 * MINUTE)])
    world.process("broken", "stream", started=MINUTE, seen=0)
    with world.database.begin() as conn:
        store.put(conn, "lag:broken", text)
    with capture_logs() as lines:
        assert world.firing(consumer_lag.late) == ["labels"]
        assert world.look(consumer_lag.growing) is not None
    said = [(x["action"], x["what"], x["row"]) for x in lines]
    assert said == [("alert_unreadable", "lag", "broken")], "once for both checks"


def test_growing_opens_after_five_minutes_and_ends_when_it_falls_as_often(world: Watched) -> None:
    after = []
    behind = [1_000 * n for n in (1, 2, 3, 4, 5, 6, 7, 8, 7, 6, 5, 4, 3)]
    for n in behind:
        world.lag("s", [("labels", n, None)])
        after.append(world.firing(consumer_lag.growing) == ["labels"])
        world.now += MINUTE
    assert after.index(True) == STEPS + 1, "five steps between six full minutes"
    assert after[STEPS + 1 :] == [True] * 5 + [False] * 2


def test_growing_says_by_how_much(world: Watched) -> None:
    for n in range(8):
        world.lag("s", [("labels", 2_000 + 100 * n, None)])
        found = world.look(consumer_lag.growing)
        world.now += MINUTE
    assert found is not None
    assert found["labels"].said == (
        "labels: 2,700 records wait to be counted, 500 more than 5 minutes ago, and the lag grows"
    )


@given(st.lists(st.integers(0, 999), max_size=30))
def test_a_lag_without_trend_or_a_small_one_never_grows(noise: list[int]) -> None:
    falling = [(m, 10_000 - 1_000 * m + n) for m, n in enumerate(noise)]
    assert trend(falling) <= 0
    assert trend([(m, n) for m, n in enumerate(noise) if m % 2]) == 0, "minutes are missing"
