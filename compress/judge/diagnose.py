"""Diagnosis of a loss: the data, the compression, or the world is to blame. Pure."""

from __future__ import annotations

import math
from typing import Literal

from redistill.compress.judge import intervals
from redistill.compress.plan import Diagnosis, Measure

__all__ = ["diagnose", "loss"]

MIN_LABELS = 20
"""Below this a loss cannot be divided between student and teacher."""
COMPRESSION_SHARE = 0.5
"""From this share of the loss on, the student lost what its teacher kept."""
POINTS = 100.0

Cause = Literal["data_bug", "compression_gap", "world_changed", "harmless", "undecided"]


def loss(before: Measure, now: Measure) -> Measure:
    """Points of accuracy lost between two sets of rows, with Newcombe's interval.

    Parameters
    ----------
    before
        Accuracy as it was, in 0..1; without bounds it counts as known.
    now
        Accuracy on the fresh labelled rows.
    """
    known = before.low is None or before.n == 0
    low, high = intervals.difference(
        (before.value, math.inf if known else before.n), (now.value, now.n)
    )
    return Measure(
        value=(before.value - now.value) * POINTS,
        low=low * POINTS,
        high=high * POINTS,
        n=now.n,
    )


def diagnose(
    *,
    student: tuple[Measure, Measure] | None,
    teacher: tuple[Measure, Measure] | None,
    disagreement: Measure | None,
    tolerance_points: float,
    data_bug_columns: tuple[str, ...] = (),
) -> Diagnosis:
    """Find the cause.

    Parameters
    ----------
    student, teacher
        (accuracy before, accuracy on the same fresh labelled rows), in 0..1; ``None``: unknown.
    disagreement
        Share of fresh rows on which the two answer differently.
    tolerance_points
        Loss that nobody need be woken for.
    data_bug_columns
        Columns with an open contract finding.

    Returns
    -------
    Diagnosis
        In this order: an open contract finding is a *data bug*; fewer than 20 labels decide
        nothing; a loss whose upper bound is within the tolerance is *harmless*; if the teacher kept
        at least half of what the student lost it is a *compression gap*; else the *world changed*.
    """
    lost = None if student is None else loss(*student)
    teacher_lost = None if teacher is None else loss(*teacher)
    labelled = 0 if lost is None else lost.n

    def concluded(cause: Cause, why: str) -> Diagnosis:
        return Diagnosis(
            cause=cause,
            why=why,
            student_loss_points=lost,
            teacher_loss_points=teacher_lost,
            disagreement=disagreement,
            labelled=labelled,
        )

    if data_bug_columns:
        columns = ", ".join(data_bug_columns[:5])
        return concluded("data_bug", f"open contract findings on {columns}: mend the data first")
    if lost is None or labelled < MIN_LABELS:
        return concluded("undecided", f"{labelled} labelled fresh rows, {MIN_LABELS} are needed")
    said = f"the student lost {_points(lost)} on {labelled} labelled rows"
    if lost.high is not None and lost.high < tolerance_points:
        return concluded("harmless", f"{said}: surely less than {tolerance_points:g} points")
    if lost.value <= 0.0:
        return concluded("undecided", f"{said}: no loss to be divided yet, more labels are needed")
    if teacher_lost is None:
        return concluded("undecided", f"{said}; without a teacher its cause cannot be told")
    said += f", its teacher {_points(teacher_lost)}"
    if disagreement is not None:
        said += f"; they differ on {disagreement.value:.0%} of {disagreement.n} rows"
    share = (lost.value - teacher_lost.value) / lost.value
    if share >= COMPRESSION_SHARE:
        return concluded(
            "compression_gap", f"{said}: {min(share, 1.0):.0%} of the loss is the student's own"
        )
    return concluded(
        "world_changed",
        f"{said}: only {max(share, 0.0):.0%} of the loss is the student's own, distilling the same"
        " teacher again would not mend it",
    )


def _points(m: Measure) -> str:
    return f"{m.value:.1f} points [{m.low:.1f}, {m.high:.1f}]"
