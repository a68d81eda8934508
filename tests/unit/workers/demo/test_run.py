"""A run of the demo: what it refuses, what it tells when something fails, and its summary."""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from redistill.workers.demo import run as demo
from redistill.workers.demo.runner import DemoFailed
from redistill.workers.demo.screen import JsonScreen
from redistill.workers.errors import UsageError
from redistill.workers.exit_codes import ExitCode


@pytest.fixture(autouse=True)
def same_handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def accuracy(measured: float, n: int, truth: float) -> dict[str, Any]:
    return {"measured": {"accuracy": measured, "n": n}, "truth": {"accuracy": truth}}


FIGURES: dict[str, Any] = {
    "before": accuracy(0.963, 82, 0.939),
    "during": accuracy(0.615, 166, 0.597),
    "after": accuracy(0.941, 68, 0.945),
    "detection": {"seconds": 3.1, "labels": 18},
    "repair": {
        "seconds": 3.7, "cpu_seconds": 1.9, "size_ratio": 0.06, "latency_ratio": 0.39,
        "veil_to_published_seconds": 6.9, "published_to_served_seconds": {"a": 0.5, "b": 1.43},
    },
    "killed": {
        "down_seconds": 7.0,
        "rollback": {"rolled_back": {"a": 0.79}, "forward": {"a": 1.34, "b": 1.0}},
    },
    "closing": {"counted": 10528},
}  # fmt: skip


def test_a_folder_that_is_not_empty_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep")
    with pytest.raises(UsageError, match="--keep wants a new folder"):
        demo.run(JsonScreen(io.StringIO()), seed=0, broker=None, keep=tmp_path)


def test_a_scenario_that_fails_is_told_and_keeps_its_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(runner: Any) -> dict[str, Any]:
        raise DemoFailed("not within 5 s: an incident")

    monkeypatch.setattr(demo, "play", fail)
    out = io.StringIO()
    status = demo.run(JsonScreen(out), seed=0, broker=None, keep=tmp_path / "kept")
    told = [json.loads(line) for line in out.getvalue().splitlines()]
    assert status == ExitCode.REFUSED
    assert told[-1]["event"] == "failed"
    assert told[-1]["text"].startswith("not within 5 s: an incident (logs in ")
    assert (tmp_path / "kept" / "logs").is_dir()


def test_a_scenario_that_happens_ends_with_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "play", lambda runner: dict(FIGURES))
    out = io.StringIO()
    assert demo.run(JsonScreen(out), seed=0, broker=None, keep=tmp_path / "kept") == 0
    last = json.loads(out.getvalue().splitlines()[-1])
    assert last["event"] == "summary"
    assert last["wall_seconds"] >= 0


def test_the_summary_tells_the_worst_of_the_services() -> None:
    text = demo.summary(FIGURES | {"wall_seconds": 52.0, "cpu_seconds": 50.0})
    lines = text.splitlines()
    assert lines[1] == "before   96.3% measured on 82 labels (truth 93.9%)"
    assert "published 6.9 s after the veil fell; served after 1.43 s more" in text
    assert "forward after 1.34 s" in text
    assert lines[-1] == "cost     52 s, 50 s of CPU"
