"""The promise about roll backs: judged, repeated only on a machine that others held."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from redistill.workers.demo.processes import DemoProcesses
from redistill.workers.demo.runner import DemoFailed, ScenarioRunner
from redistill.workers.demo.scenes import safeguards
from redistill.workers.demo.scenes.safeguards import PointerSwap
from redistill.workers.demo.screen import JsonScreen


@pytest.fixture
def told() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def runner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: io.StringIO
) -> Iterator[ScenarioRunner]:
    processes = DemoProcesses(tmp_path, seed=0, broker=None)
    monkeypatch.setattr(safeguards, "serving", lambda runner: "2")
    yield ScenarioRunner(processes, JsonScreen(told))
    processes.close()


def script(monkeypatch: pytest.MonkeyPatch, *moves: tuple[float, float | None]) -> list[str]:
    """The moves that will be seen, as (seconds, share that others took); returns their names."""
    left, asked = list(moves), []

    def move(_: ScenarioRunner, what: str, *__: Any) -> PointerSwap:
        asked.append(what)
        seconds, others = left.pop(0)
        return PointerSwap(swapped={"north": 0.1, "west": seconds}, others=others)

    monkeypatch.setattr(safeguards, "_move", move)
    return asked


def test_a_move_in_time_is_made_once_however_busy_the_machine_is(
    runner: ScenarioRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = script(monkeypatch, (0.5, 0.9), (2.0, 0.9))
    out = safeguards.roll_back_and_forward(runner)
    assert asked == ["rolled_back", "forward"]
    assert out["forward"] == {"north": 0.1, "west": 2.0}


def test_a_late_move_is_made_again_where_others_held_the_processors(
    runner: ScenarioRunner, monkeypatch: pytest.MonkeyPatch, told: io.StringIO
) -> None:
    asked = script(monkeypatch, (2.3, 0.61), (0.5, 0.0), (0.7, 0.2), (0.6, 0.2))
    out = safeguards.roll_back_and_forward(runner)
    assert asked == ["rolled_back", "forward"] * 2
    assert max(out["rolled_back"].values()) == 0.7
    assert "served after 2.3 s; the promise is 2 s; other programs took 61%" in told.getvalue()


@pytest.mark.parametrize("others", [None, 0.1])
def test_a_late_move_fails_where_the_demo_had_the_machine(
    runner: ScenarioRunner, monkeypatch: pytest.MonkeyPatch, others: float | None
) -> None:
    script(monkeypatch, (2.3, others), (0.5, 0.9))
    with pytest.raises(DemoFailed, match=r"served after 2\.3 s; the promise is 2 s$"):
        safeguards.roll_back_and_forward(runner)


def test_a_promise_that_is_never_kept_fails_and_says_who_held_the_processors(
    runner: ScenarioRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = script(monkeypatch, *[(2.3, 0.61)] * 6)
    with pytest.raises(DemoFailed, match="other programs took 61% of this machine's processors"):
        safeguards.roll_back_and_forward(runner)
    assert len(asked) == 2 * safeguards.SWAP_TRIES
