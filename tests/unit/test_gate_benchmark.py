"""The benchmark of the gates, in small: exact outcomes of a seed, and that it cannot praise itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import gates
import numpy as np
import pytest
from gatebench import fresh_rows, incidents, known_truth, rare_class, trusted_rows, weighted_rows
from gatebench.lines import Bar, Line, Share
from gatebench.streams import Screen, Stream, drawn, judged, walked
from gatebench.weighted_rows import POWER, WITH_P

from redistill.compress.judge import policy as policies

POLICY = policies.of({})


def hits(lines: Iterator[Line]) -> dict[str, int]:
    """What a line is called -> what was counted."""
    return {line.what: line.found.hits for line in lines}


# -- exact outcomes ---------------------------------------------------------------------------------


def test_trusted_rows_have_known_outcomes() -> None:
    assert hits(trusted_rows.lines(POLICY, runs=10, alone=40, seed=0)) == {
        "equal, churn 3%, 1,000 trusted rows: the trusted gate passes": 38,
        "equal, churn 3%, 1,000 trusted rows: all their gates pass": 9,
        "worse by the margin of 2, 1,000 trusted rows: the trusted gate passes": 5,
        "worse by the margin of 2, 1,000 trusted rows: all their gates pass": 1,
    }


def test_fresh_rows_have_known_outcomes() -> None:
    assert hits(fresh_rows.better(POLICY, runs=12, seed=0)) == {
        "better by 5, churn 30%: accepted within 2,000 labels": 11,
        "better by 5, churn 30%: accepted within 3,000 labels": 11,
    }
    assert hits(fresh_rows.given_up(POLICY, runs=8, seed=0)) == {
        "equal, churn 3%: given up within 2,000 labels (gain 5)": 8,
        "equal, churn 30%: given up within 2,000 labels (gain 5)": 7,
    }
    assert set(hits(fresh_rows.equal(POLICY, incidents=3, seed=0)).values()) == {0}


def test_weighted_rows_have_known_outcomes() -> None:
    found = {line.what: line for line in weighted_rows.lines(POLICY, runs=6, seed=0)}
    worse = [line for what, line in found.items() if what.startswith("worse")]
    assert [line.found.hits for line in worse] == [0] * len(WITH_P)
    plain = [line.beside["plainly counted"] for line in worse]
    assert [share.hits for share in plain if isinstance(share, Share)] == [0, 6, 6, 6, 6, 6]
    assert [line.found.hits for line in found.values() if line.bar is None] == [3, 3, 3, 2, 0]


def test_a_rare_class_has_known_outcomes() -> None:
    lines = list(rare_class.lines(POLICY, runs=5, seed=0))
    assert hits(iter(lines)) == {
        "rare class (1:50) as good: refused": 1,
        "rare class (1:50) as good: accepted": 4,
        "rare class (1:50) loses 20 points of recall: accepted": 0,
        "rare class (1:50) loses 20 points of recall: undecided at 4,000 rows": 0,
    }
    beside = [line.beside["without worst_class"] for line in lines]
    assert [told.hits for told in beside if isinstance(told, Share)] == [1, 4, 4, 0]


def test_incidents_have_known_ends() -> None:
    assert hits(incidents.lines(POLICY, incidents=10, seed=0)) == {
        "published a candidate that is worse by over a point": 0,
        "published a candidate that is worse at all": 0,
        "first candidate better by 5 or more: published": 7,
        "of these, it costs no class and no old row much: published": 5,
        "the same with [gates] trade = true: published": 7,
    }


# -- what is drawn is what is said ------------------------------------------------------------------


def test_differences_are_drawn_with_their_gain_and_churn() -> None:
    d = drawn(np.random.default_rng(0), 100_000, 0.05, 0.30)
    assert d.mean() == pytest.approx(0.05, abs=0.006)
    assert np.abs(d).mean() == pytest.approx(0.30, abs=0.005)


@pytest.mark.parametrize("design", [*WITH_P, *POWER], ids=lambda d: d.name)
def test_weights_give_back_the_world_that_rows_were_drawn_from(
    design: weighted_rows.Design,
) -> None:
    streams = [design.draw(np.random.default_rng(k), -0.016) for k in range(40)]
    d = np.concatenate([s.d for s in streams])
    w = np.ones(len(d)) if streams[0].p is None else 1.0 / np.concatenate([s.p for s in streams])
    assert (w * d).sum() / w.sum() == pytest.approx(-0.016, abs=0.01)
    assert np.mean([len(s.labelled) for s in streams]) == pytest.approx(2_000, rel=0.01)


def test_a_look_sees_the_labels_that_were_there_and_the_requests_before_them() -> None:
    stream = Stream(
        d=np.array([1.0, 0.0, -1.0, 1.0, 0.0]),
        p=np.array([0.5, 0.4, 0.3, 0.2, 0.1]),
        answered=np.array([True, False, True, False, True]),
        truth=np.array([0, 1, 1, 0, 1]),
    )
    seen = stream.at(2)
    assert (len(seen), seen.missing.tolist()) == (2, [0.4])
    assert seen.p is not None
    assert seen.p.tolist() == [0.5, 0.3]
    assert seen.difference(fresh_rows.evidence().task).tolist() == [1.0, -1.0]
    assert seen.classes["class=yes"].tolist() == [False, True]
    assert stream.at(3).missing.tolist() == [0.4, 0.2]


def test_a_candidate_that_hurts_a_class_gains_as_drawn_all_the_same() -> None:
    rng = np.random.default_rng(5)
    incident = incidents.draw(rng)
    stream = incidents.rows(rng, 200_000, incident, 0.10, 0.30, 0.20)
    rare = stream.truth == 1
    assert stream.d.mean() == pytest.approx(0.10, abs=0.01)
    assert stream.d[rare].mean() == pytest.approx(-0.20, abs=0.02)


def test_who_knows_the_truth_needs_no_more_labels_than_the_gate() -> None:
    screen = fresh_rows.screen_of(POLICY, lost=5.0)
    needed, gate = [], []
    for k in range(20):
        d = drawn(np.random.default_rng(k), 3_000, 0.05, 0.30)
        needed.append(known_truth.labels_needed(d, win=0.175, loss=0.125, threshold=200.0))
        gate.append(screen.first(Stream(d=d), labels=3_000, number=1).labels)
    assert np.median(needed) <= np.median(gate)
    assert known_truth.labels_needed(np.ones(100), win=0.175, loss=0.125, threshold=200.0) == 50
    assert known_truth.labels_needed(-np.ones(100), win=0.175, loss=0.125, threshold=2.0) == np.inf


# -- a look that decides is never passed over -------------------------------------------------------


@pytest.mark.parametrize("design", [*WITH_P, *POWER], ids=lambda d: d.name)
@pytest.mark.parametrize("gain", [-0.10, 0.0, 0.10])
def test_the_screen_and_a_walk_over_all_looks_end_alike(
    design: weighted_rows.Design, gain: float
) -> None:
    screen = fresh_rows.screen_of(POLICY, lost=10.0, recipe=2)
    stream = design.draw(np.random.default_rng(1), gain)
    found = screen.first(stream, labels=500, number=1)
    every = walked(stream, screen.evidence, POLICY, labels=500)
    assert found == every


def test_a_screen_that_passes_over_a_decision_is_found_out() -> None:
    class Blind(Screen):
        def worth_a_look(self, stream: Stream, labels: int) -> np.ndarray:
            return np.array([labels])

    seeing = fresh_rows.screen_of(POLICY, lost=5.0)
    blind = Blind(evidence=seeing.evidence, policy=POLICY, gain=seeing.gain)
    with pytest.raises(RuntimeError, match="passed over"):
        blind.first(Stream(d=np.ones(100)), labels=100)


def test_a_decision_is_the_gates_own() -> None:
    about = fresh_rows.screen_of(POLICY, lost=5.0).evidence
    assert judged(Stream(d=np.ones(25)), about, POLICY, 25).decision == "accepted"
    refused = judged(Stream(d=-np.ones(25)), about, POLICY, 25)
    assert (refused.decision, "fresh" in refused.gates) == ("rejected", True)


# -- bars -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bar", "hits_", "met", "shown"),
    [
        (Bar(least=0.9), 90, True, False),
        (Bar(least=0.9), 89, False, False),
        (Bar(least=0.9), 99, True, True),
        (Bar(most=0.05), 5, True, False),
        (Bar(most=0.05), 6, False, False),
        (Bar(most=0.05), 0, True, True),
        (Bar(most=0.0), 0, True, False),
        (Bar(most=0.0), 1, False, False),
        (Bar(most=0.01, upper=True), 0, False, False),
    ],
)
def test_a_bar_is_met_by_the_point_and_shown_by_the_interval(
    bar: Bar, hits_: int, met: bool, shown: bool
) -> None:
    found = Share(hits=hits_, runs=100)
    assert (bar.met(found), bar.shown(found)) == (met, shown)


def part(hits_: int) -> Callable[..., Iterator[Line]]:
    """A benchmark with one line."""

    def lines(*_: object) -> Iterator[Line]:
        yield Line(
            part="part", what="a [line]", found=Share(hits=hits_, runs=100), bar=Bar(most=0.05)
        )

    return lines


@pytest.mark.parametrize(("hits_", "status"), [(5, 0), (6, 1)])
def test_the_exit_status_is_1_where_a_bar_is_missed(
    hits_: int,
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(gates, "PARTS", {"part": part(hits_), "other": part(0)})
    file = tmp_path / "bench" / "gates.json"
    assert gates.main(["part", "--json", str(file), "--seed", "7"]) == status
    told = json.loads(file.read_text())
    assert (told["seed"], told["bars_met"], told["policy_sha256"]) == (
        7,
        status == 0,
        policies.sha256(POLICY),
    )
    [line] = told["lines"]
    assert (line["share"], line["met"]) == (hits_ / 100, status == 0)
    assert line["low"] < line["share"] < line["high"]
    out = capsys.readouterr().out
    assert "a [line]" in out
    assert ("missed" in out) == (status == 1)


def test_a_part_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gates.main(["nothing"])
    assert "no such part: nothing" in capsys.readouterr().err
