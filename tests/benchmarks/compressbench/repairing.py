"""A repair as a worker does it: diagnosed, then recipe after recipe, judged again as labels come in,
until something is published or nothing is left to try."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from compressbench.world import FRESH, World

from redistill.compress import pipeline, remedies
from redistill.compress.judge.gates.recipe import MOST
from redistill.compress.plan import (
    Accepted,
    Diagnosis,
    JobSpec,
    NeedsPerson,
    Rejected,
    Report,
    Tried,
    Undecidable,
    to_json,
)
from redistill.workers.jobs.turn import Turn

__all__ = [
    "BATCH",
    "MAX_BYTES",
    "Repaired",
    "job_of",
    "recipes_for",
    "repair",
    "run",
    "spent",
    "take_turns",
    "why_not",
    "write_fresh",
]

LABELS = (300, 600, 1_200, 2_000, FRESH)
"""Labelled rows of the window when a candidate is judged, once more where they do not decide."""
MAX_BYTES = 100_000
"""``[repair] max_bytes`` of every case."""
BATCH = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Repaired:
    """What became of an incident."""

    diagnosis: Diagnosis | None
    report: Report
    """Of the last candidate."""
    tried: tuple[Tried, ...]
    """Those that were refused before it."""
    labels: int
    """Labelled rows when it was decided."""
    cpu_seconds: float
    """Of this process and its children: diagnosis, candidates and judgements."""
    folder: Path

    @property
    def published(self) -> bool:
        """Whether a candidate passed every gate."""
        return isinstance(self.report.decision, Accepted)

    @property
    def model(self) -> Path:
        """The file that serves from now on, or would if its gates had passed."""
        return self.folder / "candidate" / "model.onnx"

    @property
    def why(self) -> str:
        """Why nothing was published, in short; empty: something was."""
        return why_not(self.report, self.tried)


def why_not(report: Report, tried: Sequence[Tried]) -> str:
    """Why nothing was published: what is open, or which gates each candidate failed; empty:
    something was."""
    match report.decision:
        case Accepted():
            return ""
        case Undecidable() | NeedsPerson() as decision:
            return f"{report.recipe_name}: open: {decision.gate}: {decision.why}"
    refused = [*((t.name, t.gates) for t in tried), (report.recipe_name, report.gates)]
    return "; ".join(
        f"{name}: {', '.join(f'{g.name} ({g.why})' for g in gates if g.passed is False)}"
        for name, gates in refused
    )


def job_of(world: World, **fields: object) -> JobSpec:
    """A job about a world."""
    given = {
        "job_id": "bench",
        "model": "bench",
        "graph": world.graph,
        "made_here": ("incumbent",),
        "serving_batch": BATCH,
        "policy": {"size": {"max_bytes": MAX_BYTES}},
        "seed": world.seed,
    }
    return JobSpec(**given | fields)  # type: ignore[arg-type]


def write_fresh(world: World, folder: Path, labelled: int) -> None:
    """``fresh.parquet`` with labels of the first rows; every other row judges."""
    x, y = world.fresh
    n = len(x)
    label = [world.graph.classes[k] if i < labelled else None for i, k in enumerate(y)]
    columns: dict[str, object] = {name: x[:, j] for j, name in enumerate(world.graph.features)}
    columns |= {
        "id_hash": pa.array(np.arange(1, n + 1), pa.int64()),
        "served_at": pa.array(
            np.arange(n) * 3_000 + 1_700_000_000_000_000, pa.timestamp("us", tz="UTC")
        ),
        "label": pa.array(label, pa.string()),
        "source": pa.array([None if v is None else "clerks" for v in label], pa.string()),
        "split": np.where(np.arange(n) % 2, "gate", "train").tolist(),
    }
    pq.write_table(pa.table(columns), folder / "fresh.parquet")


def run(folder: Path, job: JobSpec) -> Report:
    """Do a job in a folder that has its rows."""
    (folder / "job.json").write_bytes(to_json(job))
    return pipeline.run(folder)


def spent() -> float:
    """CPU seconds of this process and of its children that ended."""
    return sum(os.times()[:4])


def repair(world: World, folder: Path, *, names: Sequence[str] | None = None) -> Repaired:
    """Repair the student of a world.

    Parameters
    ----------
    folder
        Of the job; must not be there.
    names
        Recipes that are tried; ``None``: those of the remedies that the cause calls for.
    """
    shutil.copytree(world.folder, folder)
    began = spent()
    write_fresh(world, folder, LABELS[0])
    spec = job_of(world)
    base = {
        role: _error(world, folder / role / "model.onnx", role) for role in ("incumbent", "teacher")
    }
    diagnosis = run(
        folder,
        replace(
            spec,
            mode="diagnose",
            base_error=base["incumbent"],
            teacher_base_error=base["teacher"],
        ),
    ).diagnosis
    if diagnosis is not None:
        spec = replace(spec, cause=diagnosis.cause, incident_loss=diagnosis.student_loss_points)
    known = (folder / "incumbent" / "training").is_dir()
    order = tuple(names or recipes_for(spec.cause, weights=known))
    report, tried, labels = take_turns(
        folder, spec, order, lambda labels: write_fresh(world, folder, labels), LABELS
    )
    return Repaired(
        diagnosis=diagnosis,
        report=report,
        tried=tried,
        labels=labels,
        cpu_seconds=spent() - began,
        folder=folder,
    )


def recipes_for(cause: str | None, *, weights: bool) -> tuple[str, ...]:
    """What a worker tries about a cause, where no earlier release may serve again."""
    facts = remedies.RemedyFacts(cause=cause, weights=weights)
    return remedies.sequence(remedies.consider(facts))


def take_turns(
    folder: Path,
    spec: JobSpec,
    order: Sequence[str],
    write: Callable[[int], None],
    labels: Sequence[int],
) -> tuple[Report, tuple[Tried, ...], int]:
    """Recipe after recipe until one is published, or waits for labels, or none is left; then, where
    candidates are open for a person, the best of them again, about which a worker would ask.

    Parameters
    ----------
    write
        Writes ``fresh.parquet`` with so many labelled rows.
    labels
        Labelled rows of the looks, which follow one another where gates are open.

    Returns
    -------
    tuple
        That candidate's report, what else was tried, and the labelled rows by which it was
        decided.
    """
    tried: tuple[Tried, ...] = ()
    number = 1
    while True:
        spec = replace(spec, recipes=tuple(order), tried=tried, recipe=number)
        report, seen = _judged(folder, spec, write, labels)
        present = Turn(recipes=tuple(order), tried=tried, version="bench")
        match report.decision:
            case Rejected(reasons=reasons):
                judged = present.refused(report, reasons)
            case NeedsPerson() as missing:
                judged = present.left_open(report, missing)
            case _:
                return report, tried, seen
        number = max(number, (judged.number or 0) + 1)
        if number <= MOST and present.after(judged) is not None:
            tried += (judged,)
            continue
        asked = present.to_ask_about(judged)
        if asked in (None, judged.name):
            return report, tried, seen
        every = present.every(judged)
        own = next(t.number for t in every if t.name == asked)
        others = tuple(t for t in every if t.name != asked)
        spec = replace(spec, again=asked, tried=others, recipe=own or number)
        return run(folder, replace(spec, mode="gate")), others, seen


def _judged(
    folder: Path, spec: JobSpec, write: Callable[[int], None], labels: Sequence[int]
) -> tuple[Report, int]:
    """One candidate, judged until its gates decide or every row of the window has its label."""
    report = None
    for seen in labels:
        write(seen)
        report = run(folder, replace(spec, mode="repair" if report is None else "gate"))
        if not isinstance(report.decision, Undecidable):
            break
    if report is None:
        raise ValueError("there is no look: labels is empty")
    return report, seen


def _error(world: World, path: Path, role: str) -> float:
    """Share of trusted rows on which a model is wrong, as a release knows it of itself."""
    table = pq.read_table(world.folder / "trusted.parquet")
    x = np.column_stack([table[n].to_numpy() for n in world.graph.features]).astype(np.float32)
    y = np.array([world.graph.classes.index(v) for v in table["label"].to_pylist()])
    return float((world.graph_of(path, role).classes(x) != y).mean())
