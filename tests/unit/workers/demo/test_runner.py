"""The runner waits for what has to happen, and says what did not."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from redistill.workers.demo.facts import Snapshot
from redistill.workers.demo.processes import DemoProcesses
from redistill.workers.demo.runner import DemoFailed, ScenarioRunner, cpu_seconds
from redistill.workers.demo.screen import JsonScreen


@pytest.fixture
def told() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def clock() -> list[float]:
    return [100.0]


@pytest.fixture
def runner(tmp_path: Path, told: io.StringIO, clock: list[float]) -> Iterator[ScenarioRunner]:
    def tick() -> float:
        clock[0] += 0.25
        return clock[0]

    processes = DemoProcesses(tmp_path, seed=0, broker=None)
    yield ScenarioRunner(processes, JsonScreen(told), clock=tick)
    processes.close()


def test_until_returns_what_the_check_found(runner: ScenarioRunner) -> None:
    answers: list[Any] = [None, False, None, 0]
    assert runner.until("an answer", lambda _: answers.pop(0), seconds=1_000) == 0
    assert runner.doing == "an answer"


def test_until_fails_in_words_when_the_time_is_over(runner: ScenarioRunner) -> None:
    with pytest.raises(DemoFailed, match="not within 5 s: an incident"):
        runner.until("an incident", lambda _: None, seconds=5)


def test_a_watch_sees_every_snapshot(runner: ScenarioRunner) -> None:
    seen: list[Snapshot] = []
    runner.watch = seen.append
    answers: list[Any] = [None, None, True]
    runner.until("a third look", lambda _: answers.pop(0), seconds=1_000)
    assert len(seen) == 3


def test_expect_goes_on_only_if_it_holds(runner: ScenarioRunner) -> None:
    runner.expect(True, "never said")
    with pytest.raises(DemoFailed, match="2 requests failed"):
        runner.expect(False, "2 requests failed")


def test_what_is_said_has_its_scene_and_time(runner: ScenarioRunner, told: io.StringIO) -> None:
    runner.enter("opening", "starting")
    runner.say("broker", "in memory", port=1)
    beat = json.loads(told.getvalue())
    assert (beat["scene"], beat["event"], beat["text"], beat["port"]) == (
        "opening", "broker", "in memory", 1,
    )  # fmt: skip
    assert beat["at"] > 0


def test_before_the_database_is_open_nothing_is_known(runner: ScenarioRunner) -> None:
    assert runner.snapshot() == Snapshot()
    assert runner.measured("1").n == 0


def test_pause_lets_the_time_go_by(runner: ScenarioRunner, clock: list[float]) -> None:
    before = clock[0]
    runner.pause("resting", 3.0)
    assert clock[0] - before >= 3.0


def test_cpu_seconds_only_grow() -> None:
    first = cpu_seconds()
    sum(range(100_000))
    assert cpu_seconds() >= first > 0
