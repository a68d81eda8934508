"""``make bench-detection``: it scores as it says, and finds what is there to be found."""

from __future__ import annotations

import json
from pathlib import Path

import detection
import numpy as np
import pyarrow as pa
import pytest
from detectbench import real
from detectbench.cases import SUITES, Case
from detectbench.detectors import DETECTORS, Told
from detectbench.peer_tools import rises
from detectbench.scores import floor_labels, line, record
from scenarios import Drawn

EMPTY = pa.table({})


def drawn(n: int = 20_000, start: int = 10_000, before: float = 0.1, after: float = 0.2) -> Drawn:
    """Every tenth row wrong, then every fifth."""
    row = np.arange(n)
    wrong = np.where(row < start, row % round(1 / before) == 0, row % round(1 / after) == 0)
    return Drawn(EMPTY, EMPTY, row % round(1 / before) == 0, wrong)


def case(*harm: tuple[int, int], cause: str | None = None) -> Case:
    return Case(name="c", suite="s", draw=lambda seed: drawn(), harm=harm, cause=cause)


def test_an_alarm_in_an_episode_or_as_late_as_its_labels_finds_it() -> None:
    harm = case((10_000, 12_000), (15_000, 20_000))
    told = Told(alarms=[10_400, 12_499, 14_000, 20_499])
    scored = record("d", harm, drawn(), told, 0)
    assert (scored.episodes, scored.found, scored.delays) == (2, 2, [400, 5_499])
    assert (scored.alarms, scored.false, scored.benign_rows) == (4, 0, 13_000)  # 14,000: changed


def test_an_alarm_before_anything_changed_is_false() -> None:
    scored = record("d", case((10_000, 20_000)), drawn(), Told(alarms=[9_999]), 0)
    assert (scored.found, scored.false) == (0, 1)
    scored = record("d", case(), drawn(), Told(alarms=[15_000]), 0)
    assert (scored.episodes, scored.false, scored.benign_rows) == (0, 1, 20_000)


def test_an_episode_under_an_alarm_that_still_stands_is_missed_and_told() -> None:
    told = Told(alarms=[9_000], open_from=[(9_000, 11_000)])
    scored = record("d", case((10_000, 20_000)), drawn(), told, 0)
    assert (scored.found, scored.carried) == (0, 1)


def test_harm_below_two_points_is_neither_found_nor_false() -> None:
    mild = drawn(after=0.1)
    scored = record("d", case((10_000, 20_000)), mild, Told(alarms=[12_000]), 0)
    assert (scored.episodes, scored.false, scored.benign_rows) == (0, 0, 10_000)


def test_findings_that_blame_a_slice_are_right_or_not() -> None:
    harm = case((10_000, 20_000), cause="cell=c0")
    told = Told(alarms=[11_000], blamed=["cell=c0", None, "cell=c1"])
    scored = record("d", harm, drawn(after=0.1), told, 0)  # a slice's harm counts however small
    assert (scored.found, scored.cause, scored.named) == (1, True, True)
    assert (scored.blamed, scored.right) == (2, 1)
    silent = record("d", harm, drawn(), Told(alarms=[11_000], blamed=[None]), 0)
    assert (silent.cause, silent.named, silent.blamed) == (True, False, 0)
    told_of = line("d", "s", [scored, silent])
    assert (told_of["slice_named"], told_of["slice_right"]) == (0.5, 0.5)


def test_a_line_has_what_was_asked_for_and_its_worst_seed() -> None:
    harm = case((10_000, 20_000))
    some = [
        record("d", harm, drawn(), Told([11_000], label_share=0.1, covered=9, windows=10), 0),
        record("d", harm, drawn(), Told([5_000], label_share=0.2, covered=10, windows=10), 1),
    ]
    told = line("d", "s", some)
    assert (told["recall"], told["precision"], told["f1"]) == (0.5, 0.5, 0.5)
    assert told["false_alarms_per_million"] == 50.0
    assert told["worst_seed"] == {
        "recall": 0.0,
        "precision": 0.0,
        "false_alarms_per_million": 100.0,
    }
    assert (told["median_delay_rows"], told["coverage"]) == (1_000.0, 0.95)
    assert told["label_share"] == pytest.approx(0.15)
    assert told["rows_per_second"] is told["slice_named"] is told["slice_right"] is None


def test_the_floor_is_that_of_the_notes() -> None:
    # 10% base error, a million labelled rows per false alarm
    for points, rows in ((3, 1_596), (5, 678), (10, 214)):
        assert floor_labels(0.1, 0.1 + points / 100, 1e6) == pytest.approx(rows, rel=0.01)
    assert floor_labels(0.1, 0.1, 1e6) == float("inf")


def test_every_case_can_be_drawn_and_its_harm_is_in_the_stream() -> None:
    for suite, cases in SUITES.items():
        assert len({c.name for c in cases}) == len(cases), suite
        for c in cases[-2:]:
            stream = c.draw(3)
            assert len(stream.stream) == len(stream.wrong)
            assert len(stream.reference) == len(stream.reference_wrong)
            assert all(first < end <= len(stream.wrong) for first, end in c.harm)
            assert set(c.scores) <= set(stream.stream.column_names)


@pytest.mark.parametrize("data", real.DATA)
def test_real_streams_are_as_good_as_their_reference_until_they_change(data: str) -> None:
    stream = real.draw(data, "other labels", 1)
    usual = stream.reference_wrong.mean()
    assert abs(stream.wrong[:10_000].mean() - usual) < 0.02
    assert stream.wrong[10_000:].mean() > usual + 0.02


def test_chance_and_never_are_what_they_say() -> None:
    chance = DETECTORS["chance: every 5,000 rows"](case(), drawn(), 0)
    assert chance.alarms == [5_000, 10_000, 15_000, 20_000]
    assert DETECTORS["never"](case(), drawn(), 0).alarms == []


def test_what_goes_on_is_told_once() -> None:
    assert rises([False, True, True, False, True], 100) == [199, 499]


def test_a_run_that_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def counted(c: Case, d: Drawn, seed: int) -> Told:
        asked.append(f"{c.name} {seed}")
        return Told(alarms=[11_000], label_share=0.1)

    monkeypatch.setattr(detection, "DETECTORS", {"counted": counted})
    monkeypatch.setattr(detection, "SUITES", {"s": [case((10_000, 20_000))]})
    out = tmp_path / "table.json"
    words = ["--suites", "s", "--json", str(out), "--kept", str(tmp_path / "kept.jsonl")]
    detection.main([*words, "--seeds", "1"])
    detection.main([*words, "--seeds", "3"])
    assert asked == ["c 0", "c 1", "c 2"]
    (entry,) = json.loads(out.read_text())
    assert (entry["configuration"], entry["recall"], entry["seeds"]) == ("counted", 1.0, 3)
    assert "median delay rows" in capsys.readouterr().out
