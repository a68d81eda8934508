"""Figures of a candidate beside its gates: accuracy by class and slice, confidence, and evidence as
rows came. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from redistill.compress.judge import betting, calibration_error, intervals, measures
from redistill.compress.judge.calibration_error import Confidence
from redistill.compress.judge.evidence import Evidence, Role, Sample
from redistill.compress.judge.task import Classification, Task
from redistill.compress.plan import CalibrationBin, Figures, Look, Measure

__all__ = ["figures"]

TOLD: tuple[Role, ...] = ("candidate", "incumbent", "teacher")
MIN_ROWS = 50
"""Labelled rows that a slice needs, as a group does (``fairness``)."""
MOST_SLICES = 50
"""The largest of them."""
LOOKS = 40
"""Places on the way of the evidence, evenly spread."""
POINTS = 100.0

Member = Mapping[str, NDArray[np.bool_]]
ByRole = dict[str, Measure]


def figures(evidence: Evidence, *, faced: bool, seed: int) -> Figures | None:
    """What a report draws of a candidate.

    Parameters
    ----------
    faced
        Whether labelled fresh rows may be shown: nobody is told of those that no gate looked at.
    seed
        Of what is drawn of many rows for the calibration.

    Returns
    -------
    Figures or None
        ``None``: the task has no classes.
    """
    task = evidence.task
    if not isinstance(task, Classification):
        return None
    samples = {"trusted": evidence.trusted}
    if faced:
        samples["fresh"] = evidence.fresh
    filled = {name: s for name, s in samples.items() if len(s)}
    return Figures(
        classes={name: _by_member(s, s.classes, task) for name, s in filled.items()},
        slices={name: _by_member(s, _largest(s.groups), task) for name, s in filled.items()},
        calibration={name: _calibration(s, seed) for name, s in filled.items()},
        looks=_looks(evidence.fresh, task) if faced else (),
    )


def _largest(groups: Member) -> Member:
    """Slices with rows enough, the largest where they are many, in the order of their names."""
    sizes = {name: int(member.sum()) for name, member in groups.items()}
    enough = [name for name, size in sizes.items() if size >= MIN_ROWS]
    kept = sorted(enough, key=lambda name: (-sizes[name], name))[:MOST_SLICES]
    return {name: groups[name] for name in sorted(kept)}


def _by_member(sample: Sample, members: Member, task: Task) -> dict[str, ByRole]:
    answers = {r: task.answers(sample.scores[r]) for r in TOLD if r in sample}
    out: dict[str, ByRole] = {}
    for name, member in members.items():
        found = {r: measures.accuracy(a[member], sample.truth[member]) for r, a in answers.items()}
        if told := {str(r): m for r, m in found.items() if m is not None}:
            out[name.removeprefix("class=") if members is sample.classes else name] = told
    return out


def _calibration(sample: Sample, seed: int) -> dict[str, tuple[CalibrationBin, ...]]:
    found = {
        str(r): calibration_error.bins(Confidence.of(sample.scores[r], sample.truth), seed=seed)
        for r in TOLD
        if r in sample
    }
    return {role: bins for role, bins in found.items() if bins}


def _looks(sample: Sample, task: Task) -> tuple[Look, ...]:
    """The paired difference and its e-value after more and more of the rows, in their order."""
    if not len(sample) or "incumbent" not in sample:
        return ()
    d = sample.difference(task)
    places = np.unique(np.linspace(1, len(d), min(LOOKS, len(d))).round().astype(np.int64))
    e_values = betting.e_values(d, places, p=sample.p)
    out = []
    for rows, e in zip(places.tolist(), e_values.tolist(), strict=True):
        low, high = intervals.paired_mean(d[:rows])
        mean = float(d[:rows].mean()) * POINTS
        points = Measure(value=mean, low=low * POINTS, high=high * POINTS, n=rows)
        out.append(Look(rows=rows, points=points, e_value=float(e)))
    return tuple(out)
