"""The benchmark of answers to incidents, in small: exact totals, and that it cannot praise itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import repairs
from compressbench import incidents
from compressbench.incidents import POLICIES, Incident
from diagnosis_worlds import SCENARIOS

SEED = 2_000


def of(seed: int, *, ours: float = 88.0, oracle: float = 90.0, cpu: float = 1.0) -> Incident:
    """An incident that costs ten points of 95 where nothing is done."""
    after = {"never": 85.0, "every alarm": 89.0, "calendar": 87.0, "river": 80.0}
    seconds = {"never": 0.0, "every alarm": 4.0, "calendar": 16.0, "river": 0.1}
    return Incident(
        scenario="covariate known",
        seed=seed,
        cause="compression_gap",
        repaired=True,
        why="",
        before=95.0,
        after=after | {"redistill": ours, "oracle": oracle},
        cpu_seconds=seconds | {"redistill": cpu},
    )


def test_totals_are_ratios_of_sums_with_an_interval_over_seeds() -> None:
    found = [of(0), of(0, ours=90.0), of(1), of(2, ours=85.0, cpu=3.0)]
    lines = {line["policy"]: line for line in incidents.totals(found)}
    ours = lines["redistill"]
    assert ours["points_lost"]["value"] == pytest.approx((7 + 5 + 7 + 10) / 4)
    assert ours["lost_to_oracle"]["value"] == pytest.approx(29 / 20)
    assert ours["cpu_to_every_alarm"]["value"] == pytest.approx(6 / 16)
    low, high = (ours["lost_to_oracle"][k] for k in ("low", "high"))
    assert (low, high) == pytest.approx((1.2, 2.0))
    assert lines["oracle"]["cpu_to_every_alarm"] is None
    assert lines["calendar"]["cpu_to_every_alarm"]["value"] == pytest.approx(4.0)
    assert (
        incidents.totals(found[:3])[0]["points_lost"]["low"] is None
    )  # two seeds have no interval


@pytest.mark.parametrize(
    ("incident", "met"),
    [
        (of(0, ours=89.0, cpu=2.0), [True, True]),
        (of(0, ours=88.9, cpu=2.0), [False, True]),
        (of(0, ours=89.0, cpu=2.1), [True, False]),
    ],
)
def test_bars_are_held_to_the_sums(incident: Incident, met: list[bool]) -> None:
    assert [bar["met"] for bar in repairs.bars(incidents.totals([incident]))] == met


def test_no_ratio_is_told_where_an_oracle_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    lines = incidents.totals([of(0, ours=85.0, oracle=96.0)])
    assert [line["lost_to_oracle"] for line in lines] == [None] * len(lines)
    assert [bar["met"] for bar in repairs.bars(lines)] == [False, True]
    repairs.show([of(0)], lines, repairs.Console())
    assert "-" in capsys.readouterr().out


def test_an_incident_that_is_kept_is_not_answered_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def answer(scenario: object, seed: int, scratch: Path) -> Incident:
        asked.append(seed)
        return of(seed)

    monkeypatch.setattr(incidents, "incident", answer)
    monkeypatch.setattr(repairs.pipeline, "warm", lambda: None)
    words = ["covariate known", "--seeds", "2", *(
        w for n in ("json", "kept") for w in (f"--{n}", str(tmp_path / n))
    )]  # fmt: skip
    monkeypatch.setattr(repairs, "SCENARIOS", [s for s in SCENARIOS if s.name == "covariate known"])
    assert repairs.main(words) == 1
    assert repairs.main(words) == 1
    assert asked == [SEED, SEED + 1]
    told = json.loads((tmp_path / "json").read_text())
    assert [i["seed"] for i in told["incidents"]] == asked
    assert [bar["met"] for bar in told["bars"]] == [False, True]
    assert "MISSED" in capsys.readouterr().out


def test_a_scenario_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        repairs.main(["nothing of the kind"])
    assert "no such scenario" in capsys.readouterr().err


def test_a_real_incident_is_answered_by_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incidents, "ORACLE", ("warm",))
    known = next(s for s in SCENARIOS if s.name == "covariate known")
    found = incidents.incident(known, SEED, tmp_path)
    assert found is not None
    assert set(found.after) == {*POLICIES, "warm", "oracle"}
    assert found.after["oracle"] == max(found.after[p] for p in ("never", "warm", "redistill"))
    assert found.before - found.after["never"] > 4.0  # harmed as drawn, on rows that measure
    assert found.after["calendar"] == (found.after["never"] + found.after["warm"]) / 2
    assert found.after["river"] > 100.0 / 6  # of at most six classes: it has learned something
    assert found.cpu_seconds["redistill"] > 0.0 == found.cpu_seconds["never"]
    assert found.repaired == (found.why == "")
    assert found.repaired or found.after["redistill"] == found.after["never"]
    assert replace(found, **json.loads(json.dumps(incidents.plain(found)))) == found
