"""Incidents of every cause, and what each way of answering them leaves of the accuracy and takes of
the CPU: the alarm is given, what is done about it is compared."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from bench_diagnosis import FAR, STAND_INS, write_job
from compressbench.drawing import F32, Ints
from compressbench.repairing import recipes_for, run, spent, take_turns, why_not
from diagnosis_worlds import (
    LABELS,
    MANY,
    SCENARIOS,
    Models,
    Scenario,
    Traffic,
    fits,
    harmful_traffic,
    models_of,
    nothing,
    world_of,
)

from redistill.compress.judge.graph import Graph, GraphCall
from redistill.compress.plan import Accepted, Diagnosis, JobSpec
from redistill.workers.incidents.causes import REMEDIES
from redistill.workers.incidents.remedy import Repair

__all__ = ["PERIODS", "POLICIES", "Incident", "incident", "plain", "totals"]

WINDOW = 1_200
"""Rows between the change and the alarm, of which ``LABELS`` have labels; the others of a world's
``MANY`` measure."""
PERIODS = 4
"""Retrainings by the calendar for each alarm: one a week, an alarm a month. One comes half a period
after the change, on average."""
ORACLE = ("warm", "scratch", "requantize")
POLICIES = ("redistill", "every alarm", "calendar", "never", "river")


@dataclass(frozen=True, kw_only=True, slots=True)
class Incident:
    """An alarm and its answers."""

    scenario: str
    seed: int
    cause: str
    """What the diagnosis found."""
    repaired: bool
    """Whether a candidate was published by the job that it called for."""
    why: str
    """Why none was."""
    before: float
    """Accuracy in percent of the student that serves, before the change."""
    after: dict[str, float]
    """The same by policy, on rows after the change, by what is true; ``oracle``: of whoever knew
    which of all candidates, or none, is best on them."""
    cpu_seconds: dict[str, float]
    """By policy; an oracle has none."""

    def lost(self, policy: str) -> float:
        """Points that are lost while the change is in force."""
        return self.before - self.after[policy]


def incident(scenario: Scenario, seed: int, scratch: Path) -> Incident | None:
    """A scenario in the world of a seed; where that cannot be harmed so, another stands in. ``None``:
    none of those that were tried can."""
    for stand_in in range(seed, seed + STAND_INS * FAR, FAR):
        if not fits(scenario, world_of(stand_in)):
            continue
        models = models_of(stand_in, scratch / f"models-{stand_in}")
        found = harmful_traffic(scenario, models, stand_in, MANY)
        if found is not None:
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                one = answered(scenario, models, found, stand_in, Path(folder))
            return replace(one, seed=seed)
    return None


def answered(
    scenario: Scenario, models: Models, found: tuple[Traffic, float], seed: int, folder: Path
) -> Incident:
    """One incident, and every answer to it."""
    traffic, harm = found
    rng = np.random.default_rng([seed, 17, SCENARIOS.index(scenario)])
    window = _rows(traffic, slice(0, WINDOW))
    rest = _rows(traffic, slice(WINDOW, MANY))
    raised = harm if scenario.harmful else rng.uniform(8.0, 16.0)
    job = write_job(folder / "ours", models, window, rng, labels=LABELS, seed=seed, raised=raised)
    job = replace(job, made_here=("incumbent", "teacher"))

    def right(path: Path) -> float:
        call = GraphCall.made(job.graph)
        return 100.0 * float((Graph(path, call).classes(rest.x) == rest.y).mean())

    served = folder / "ours" / "incumbent" / "model.onnx"
    usual = nothing(models, np.random.default_rng([seed, 18]), MANY)
    before = 100.0 * float((models.asks(traffic.incumbent)(usual.x) == usual.y).mean())
    after, cpu = {"never": right(served)}, {"never": 0.0}

    for name in ORACLE:
        shutil.copytree(folder / "ours", folder / name)
        began = spent()
        run(folder / name, replace(job, mode="repair", recipes=(name,)))
        cpu[name] = spent() - began
        after[name] = right(folder / name / "candidate" / "model.onnx")

    began = spent()
    diagnosis, published, why = _ours(folder / "ours", job, window)
    cpu["redistill"] = spent() - began
    after["redistill"] = right(published or served)
    after["oracle"] = max(after.values())
    after["every alarm"], cpu["every alarm"] = after["warm"], cpu["warm"]
    after["calendar"] = (after["never"] + after["warm"]) / 2.0
    cpu["calendar"] = PERIODS * cpu["warm"]
    after["river"], cpu["river"] = _river(folder / "warm", job, rest)
    return Incident(
        scenario=scenario.name,
        seed=seed,
        cause="" if diagnosis is None else diagnosis.cause,
        repaired=published is not None,
        why=why,
        before=before,
        after={k: after[k] for k in (*POLICIES, *ORACLE, "oracle")},
        cpu_seconds={k: cpu[k] for k in POLICIES},
    )


def _rows(t: Traffic, rows: slice) -> Traffic:
    told = None if t.told is None else t.told[rows]
    return replace(t, x=t.x[rows], y=t.y[rows], told=told)


def _ours(folder: Path, job: JobSpec, window: Traffic) -> tuple[Diagnosis | None, Path | None, str]:
    """Diagnose; where the cause calls for a repair, take its turns. The labels that were not there
    at the alarm come in while gates are open."""
    diagnosis = run(folder, job).diagnosis
    if diagnosis is None or not isinstance(REMEDIES[diagnosis.cause](diagnosis), Repair):
        return diagnosis, None, "the cause calls for no repair"
    table = pq.read_table(folder / "fresh.parquet")
    told = window.y if window.told is None else window.told
    every = pa.array([job.graph.classes[k] for k in told], pa.string())
    source = pa.array(["contractor"] * len(told), pa.string())

    def write(labels: int) -> None:
        if labels == len(told):
            full = table
            for name, column in (("label", every), ("source", source)):
                full = full.set_column(full.column_names.index(name), name, column)
            pq.write_table(full, folder / "fresh.parquet")

    report, tried, _ = take_turns(
        folder,
        replace(job, cause=diagnosis.cause, incident_loss=diagnosis.student_loss_points),
        recipes_for(diagnosis.cause, weights=True),
        write,
        (LABELS, len(told)),
    )
    if isinstance(report.decision, Accepted):
        return diagnosis, folder / "candidate" / "model.onnx", ""
    return diagnosis, None, why_not(report, tried)


def _river(folder: Path, job: JobSpec, rest: Traffic) -> tuple[float, float]:
    """River's ``DriftRetrainingClassifier`` of its documentation: a tree that learns every labelled
    row, and another in its place where its errors drift (DDM). Before the change it saw the
    reference."""
    from river import drift, tree

    model: Any = drift.DriftRetrainingClassifier(
        model=tree.HoeffdingTreeClassifier(), drift_detector=drift.binary.DDM()
    )
    names = job.graph.features
    code = {name: k for k, name in enumerate(job.graph.classes)}

    def rows(x: F32) -> list[dict[str, float]]:
        return [dict(zip(names, map(float, row), strict=True)) for row in np.nan_to_num(x)]

    def learn(table: pa.Table) -> None:
        x = np.column_stack([table[n].to_numpy() for n in names]).astype(np.float32)
        for row, label in zip(rows(x), table["label"].to_pylist(), strict=True):
            if label is not None:
                model.learn_one(row, code[label])

    learn(pq.read_table(folder / "reference.parquet"))
    began = time.process_time()
    learn(pq.read_table(folder / "fresh.parquet"))
    seconds = time.process_time() - began
    answers = np.array([model.predict_one(row) for row in rows(rest.x)])
    return 100.0 * float((answers == rest.y).mean()), seconds


# -- over all incidents -----------------------------------------------------------------------------


def totals(found: Sequence[Incident], *, draws: int = 2_000, seed: int = 0) -> list[dict[str, Any]]:
    """By policy: mean points lost, their ratio to the oracle's, CPU to that of a repair on every
    alarm, each with a 95% interval of a bootstrap over seeds (percentiles, Efron 1979); with fewer
    than three seeds there is none. Where an oracle loses nothing there is no ratio to its loss."""
    by_seed = sorted({i.seed for i in found})
    groups = [[i for i in found if i.seed == s] for s in by_seed]
    picks = [np.arange(len(groups))]
    if len(groups) >= 3:
        rng = np.random.default_rng(seed)
        picks += [rng.integers(0, len(groups), len(groups)) for _ in range(draws)]
    sums: Ints | Any = {
        p: np.array([sum(i.lost(p) for i in g) for g in groups]) for p in (*POLICIES, "oracle")
    }
    cpu = {p: np.array([sum(i.cpu_seconds[p] for i in g) for g in groups]) for p in POLICIES}
    many = np.array([len(g) for g in groups])

    def told(values: list[float]) -> dict[str, float | None] | None:
        if not np.isfinite(values).all():
            return None
        low, high = np.quantile(values[1:], (0.025, 0.975)) if len(values) > 1 else (None, None)
        return {"value": values[0], "low": low, "high": high}

    return [
        {
            "policy": p,
            "points_lost": told([sums[p][k].sum() / many[k].sum() for k in picks]),
            "lost_to_oracle": told(
                [_ratio(sums[p][k].sum(), sums["oracle"][k].sum()) for k in picks]
            ),
            "cpu_to_every_alarm": None
            if p == "oracle"
            else told([cpu[p][k].sum() / cpu["every alarm"][k].sum() for k in picks]),
        }
        for p in (*POLICIES, "oracle")
    ]


def _ratio(lost: float, to: float) -> float:
    return float(lost / to) if to > 0.0 else float("nan")


def plain(incident: Incident) -> dict[str, Any]:
    """Plain values."""
    return asdict(incident)
