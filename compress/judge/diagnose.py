"""Diagnosis of a loss: which cause the symptoms speak for. Pure."""

from __future__ import annotations

from redistill.compress.judge.causes import RULES
from redistill.compress.judge.symptoms import Symptoms
from redistill.compress.plan import Diagnosis

__all__ = ["diagnose"]


def diagnose(symptoms: Symptoms) -> Diagnosis:
    """Find the cause: the first of ``causes.RULES`` that has an opinion.

    Examples
    --------
    >>> diagnose(Symptoms(labelled=7, tolerance_points=1.0)).why
    '7 labelled fresh rows, 20 are needed'
    """
    verdict = next(v for rule in RULES if (v := rule(symptoms)) is not None)
    return Diagnosis(
        cause=verdict.cause,
        why=verdict.why,
        student_loss_points=symptoms.lost,
        teacher_loss_points=symptoms.teacher_lost,
        disagreement=symptoms.disagreement,
        labelled=symptoms.labelled,
        recoverable_points=symptoms.recoverable,
        recoverable_at_least=symptoms.recoverable_at_least,
        columns=verdict.columns,
        tolerance_points=symptoms.tolerance_points,
    )
