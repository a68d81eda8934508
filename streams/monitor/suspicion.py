"""Suspicion of harm: too little to open a finding, enough to ask for labels. Pure.

Three things raise it: the statistic of the whole model's test at a hundredth of its threshold, a
fall of the confidence, and (``slice_tests``) a slice's statistic at a fraction of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from redistill.streams.monitor import alarm_budget
from redistill.streams.monitor.outcomes import AccuracyState
from redistill.streams.monitor.sequential import change_point
from redistill.streams.wire.events import DriftFound
from redistill.times import microseconds

__all__ = ["CONFIDENCE", "Suspicion", "slice_of", "suspicions"]

LEVEL = alarm_budget.SHARES["whole model"] / 100
"""Of the threshold of the whole model's test, which makes a hundredth of the labels per alarm:
errors without a change get there once in so many, so that what is asked for nothing stays a small
part of the budget."""
SLICE_LEVEL = 1 / 300
"""Of the threshold of a slice's test."""
HARM = "harm"
CONFIDENCE = "confidence"
SLICE = "slice:"
"""``slice:COLUMN=VALUE``."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Something that labels could decide."""

    why: str
    """``harm``, ``confidence``, or ``slice:COLUMN=VALUE``."""
    since: int
    """Serving time, microseconds since 1970, of the likeliest change point."""


def slice_of(why: str) -> str | None:
    """``COLUMN=VALUE`` where one slice is suspected.

    Examples
    --------
    >>> slice_of("slice:region=EU"), slice_of("harm")
    ('region=EU', None)
    """
    return why.removeprefix(SLICE) if why.startswith(SLICE) else None


def suspicions(state: AccuracyState | None, inputs: Sequence[DriftFound] = ()) -> list[Suspicion]:
    """What is suspected now, the strongest first; nothing while a finding of harm is open, which
    labels have decided.

    Parameters
    ----------
    state
        Of the version's accuracy.
    inputs
        Its findings about inputs that are open, of whatever kind.
    """
    if state is not None and state.finding is not None:
        return []
    found = [] if state is None else _whole_model(state) + _slices(state)
    for f in inputs:
        if f.kind == CONFIDENCE and f.status != "resolved":
            since = min(f.window.start, f.opened_at)
            found.append(Suspicion(CONFIDENCE, microseconds(since)))
            break
    return found


def _whole_model(state: AccuracyState) -> list[Suspicion]:
    test = state.test
    if test is None or test.open or test.mixture.value < LEVEL * test.threshold:
        return []
    counts, errors, times = test.memory.entries(test.seen)
    start = change_point(counts, errors, test.mixture.null, upwards=True).start
    return [Suspicion(HARM, int(times[start]))]


def _slices(state: AccuracyState) -> list[Suspicion]:
    tests = state.slices
    if tests is None:
        return []
    level = tests.statistics / tests.threshold
    return [
        Suspicion(f"{SLICE}{tests.expected.slices[i].name}", tests.suspected(i))
        for i in np.argsort(-level, kind="stable").tolist()
        if level[i] >= SLICE_LEVEL and i not in tests.open
    ]
