"""The demo's processes without starting them: what they would be given, and what is read back."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from redistill.workers.demo import world
from redistill.workers.demo.processes import SERVICES, DemoProcesses
from redistill.workers.demo.runner import DemoFailed, ScenarioRunner, Truth
from redistill.workers.demo.screen import JsonScreen
from redistill.workers.demo.world import ServiceStats, Tally, World
from redistill.workers.errors import WorkersError


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[DemoProcesses]:
    made = DemoProcesses(tmp_path, seed=0, broker=None)
    yield made
    made.close()


def stats(name: str, *tallies: Tally) -> ServiceStats:
    return ServiceStats(
        service=name, at=time.time(), requests=sum(t.rows for t in tallies), failed=0, version="1",
        epoch=1, tallies=list(tallies), logged=0, sent=0, dropped=0,
    )  # fmt: skip


def tally(scene: str, version: str, rows: int, correct: int, first: float = 5.0) -> Tally:
    return Tally(scene=scene, version=version, rows=rows, correct=correct, first=first, last=9.0)


def test_no_setting_of_the_user_reaches_the_demo(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("REDISTILL_REQUIRE", raising=False)  # the tests' own, no setting
    monkeypatch.setenv("REDISTILL_DATABASE", "postgresql://u:p@production/redistill")
    monkeypatch.setenv("REDISTILL_KAFKA_USERNAME", "me")
    monkeypatch.setenv("REDISTILL_KAFKA_PASSWORD", "secret")
    processes = DemoProcesses(tmp_path, seed=0, broker="127.0.0.1:1")
    given = {k: v for k, v in processes.env("command").items() if k.startswith("REDISTILL_")}
    assert set(given) == {
        "REDISTILL_HOME", "REDISTILL_NAMESPACE", "REDISTILL_BROKER", "REDISTILL_WEB_PORT"
    }  # fmt: skip
    assert given["REDISTILL_HOME"].startswith(str(tmp_path))
    assert processes.namespace.startswith("demo-")


def test_latest_truth_is_the_newest_rows_of_all_services(processes: DemoProcesses) -> None:
    for n, name in enumerate(SERVICES):
        lines = [
            json.dumps({"id": f"{name}-{i}", "at": 10 * i + n, "label": "3"}) for i in range(5)
        ]
        half = '{"id": "cut'  # being written
        (processes.world_folder / f"truth-{name}.jsonl").write_text("\n".join([*lines, half]))
    rows = processes.latest_truth(4)
    assert [r["id"] for r in rows] == ["west-3", "north-4", "south-4", "west-4"]


def test_labels_are_handed_over_as_csv(processes: DemoProcesses) -> None:
    path = processes.write_labels([("a-1", "9"), ("a-2", "4")])
    with path.open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"id": "a-1", "label": "9"}, {"id": "a-2", "label": "4"}
        ]  # fmt: skip


def test_world_is_replaced_as_a_whole(processes: DemoProcesses) -> None:
    processes.set_world(World(scene="veil", haze=0.65))
    assert world.read_world(processes.world_folder) == World(scene="veil", haze=0.65)
    processes.set_world(World(scene="holiday", priors={0: 0.35}))
    processes.close_services()
    assert world.read_world(processes.world_folder) == World(
        scene="holiday", priors={0: 0.35}, closing=True
    )


def test_truth_is_summed_over_services_by_scene_and_version(processes: DemoProcesses) -> None:
    runner = ScenarioRunner(processes, JsonScreen(io.StringIO()))
    assert runner.scene_began("veil") is None
    world.write(
        processes.world_folder / "stats-north.json",
        stats("north", tally("veil", "1", 100, 40, 7.0)),
    )
    world.write(
        processes.world_folder / "stats-south.json",
        stats(
            "south", tally("veil", "1", 50, 20), tally("veil", "r1", 30, 29), tally("x", "1", 9, 9)
        ),
    )
    assert runner.truth("veil") == Truth(correct=89, rows=180)
    assert runner.truth("veil", "1") == Truth(correct=60, rows=150)
    assert runner.scene_began("veil") == 5_000_000


def test_waiting_ends_at_the_deadline_and_says_for_what(processes: DemoProcesses) -> None:
    runner = ScenarioRunner(processes, JsonScreen(io.StringIO()))
    with pytest.raises(DemoFailed, match=r"not within 0\.2 s: a miracle"):
        runner.until("a miracle", lambda _: None, seconds=0.2)


def test_failing_command_ends_the_story_with_what_it_printed(processes: DemoProcesses) -> None:
    runner = ScenarioRunner(processes, JsonScreen(io.StringIO()))
    with pytest.raises(
        DemoFailed, match=r"(?s)`redistill db show --nonsense` ended with status 2.*nonsense"
    ):
        runner.command("db", "show", "--nonsense")


def test_training_that_fails_is_told_with_its_last_words(processes: DemoProcesses) -> None:
    processes.seed = -1
    processes.start_teacher()
    runner = ScenarioRunner(processes, JsonScreen(io.StringIO()))
    with pytest.raises(WorkersError, match="training ended with status 1: ValueError"):
        runner.until("training", lambda _: (processes.teacher_steps(), None)[1], seconds=60)
