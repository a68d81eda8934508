"""Symptoms: everything that was measured about a loss, as numbers with their intervals. A value."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.compress.judge.breakage import Broken
from redistill.compress.judge.class_mix import ClassMix
from redistill.compress.judge.domain import Divided
from redistill.compress.judge.second_labels import SecondLabels
from redistill.compress.plan import ColumnCheck, Measure

__all__ = ["Symptoms"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Symptoms:
    """What the causes are judged by. Losses are in points of accuracy on the labelled fresh rows,
    positive = worse than at release; ``None``: not measured."""

    labelled: int
    """Labelled fresh rows."""
    tolerance_points: float
    """Loss that nobody need be woken for."""
    raised_points: float | None = None
    """Loss that raised the alarm."""
    mix_moved: Measure | None = None
    """Points of it that harder rows explain: those of slices and confidence on which the reference
    has more errors."""
    got_worse: Measure | None = None
    """Points of it that they do not explain."""
    harmed_slices: tuple[str, ...] = ()
    """Slices that are harmed where no finding of all rows is open."""
    lost: Measure | None = None
    """What the student lost."""
    lost_at_most: float | None = None
    """One-sided 95% upper bound of it."""
    teacher_lost: Measure | None = None
    recoverable: Measure | None = None
    """(teacher now - student now) - (their gap at release), paired: what distilling the same
    teacher can give back."""
    recoverable_at_least: float | None = None
    """Lower end of its 99% interval: what it starts is asked for at a dozen looks."""
    quantization: Measure | None = None
    """(fp32 now - int8 now) - (their gap at release), paired; of an int8 student whose fp32 is
    known."""
    quantization_at_least: float | None = None
    """Lower end of its 99% interval."""
    disagreement: Measure | None = None
    """Share of fresh rows on which student and teacher differ."""
    checks: tuple[ColumnCheck, ...] = ()
    """Of the fresh rows' columns."""
    broken: tuple[Broken, ...] = ()
    """The odd ones of them, tried on the models."""
    second: SecondLabels | None = None
    mix: ClassMix | None = None
    domain_auc: Measure | None = None
    """How well fresh rows are told from trusted ones: .5 = not at all."""
    moved_within: tuple[str, ...] = ()
    """Columns that matter to the models and have other values among rows of the same class."""
    divided: Divided | None = None
    """The teacher's loss, divided by what moved."""
