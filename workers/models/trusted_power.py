"""Trusted rows of a model: how many of them judge, and how small a loss they can show."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redistill.compress import trusted_rows
from redistill.compress.judge import policy, power
from redistill.compress.rows import Rows
from redistill.workers.models.spec import ModelSpec

__all__ = ["TrustedRows", "count", "of_spec", "shown", "too_few"]

JUDGING, RANKING = "trusted_judging_rows", "trusted_ranking_rows"
"""In ``ModelSpec.measured``."""


@dataclass(frozen=True, slots=True)
class TrustedRows:
    """Distinct trusted rows by what they are used for."""

    judging: int
    ranking: int

    @property
    def measured(self) -> dict[str, float]:
        """As ``ModelSpec.measured`` keeps it."""
        return {JUDGING: float(self.judging), RANKING: float(self.ranking)}


def count(features: NDArray[np.float32], labels: NDArray[np.int32]) -> TrustedRows:
    """Count as a job does.

    Parameters
    ----------
    features
        ``(n, F)``.
    labels
        ``(n,)`` index of each row's class.
    """
    n = len(features)
    rows, _ = trusted_rows.distinct(
        Rows(
            x=features,
            y=labels.astype(np.int64),
            gate=np.zeros(n, np.bool_),
            id_hash=np.zeros(n, np.int64),
            served_at=np.zeros(n, np.int64),
            source=[None] * n,
            prediction=np.full(n, -1, np.int64),
        )
    )
    ranking = int(trusted_rows.ranking(rows).sum())
    return TrustedRows(judging=len(rows) - ranking, ranking=ranking)


def of_spec(spec: ModelSpec) -> TrustedRows | None:
    """As they were counted when the model was registered; ``None``: it has none, or an older
    release registered it."""
    if JUDGING not in spec.measured:
        return None
    return TrustedRows(int(spec.measured[JUDGING]), int(spec.measured[RANKING]))


def shown(rows: TrustedRows, spec: ModelSpec, churn: float | None) -> str:
    """What they can show, for a person.

    Parameters
    ----------
    churn
        Share of trusted rows that only one of a candidate and what it was to replace had right, as
        the newest gate report of the model has it; ``None``: not measured yet, 3% is assumed.

    Examples
    --------
    >>> from redistill.streams.wire.block import Feature, Schema
    >>> schema = Schema(features=(Feature(name="x"),), classes=("no", "yes"))
    >>> shown(TrustedRows(360, 90), ModelSpec(name="credit", schema=schema), None)
    '450 trusted rows (90 of them only rank): 360 show a margin of 2.6 points at a churn of 3.0%\
 (assumed; one-sided 95%, power 80%); of such rows [gates.trusted] margin_points = 2 needs 558,\
 scheduled_margin_points = 1 needs 1,971'
    """
    used = power.USUAL_CHURN if churn is None else churn
    margin = 100 * power.margin_shown(rows.judging, used)
    basis = "assumed" if churn is None else "measured on the newest candidate"
    needs = ", ".join(
        f"{key} = {points:g} needs {needed:,}"
        for key, points, needed in _needed(spec, used)
        if needed is not None
    )
    ranks = f" ({rows.ranking:,} of them only rank)" if rows.ranking else ""
    return (
        f"{rows.judging + rows.ranking:,} trusted rows{ranks}: {rows.judging:,} show a margin of"
        f" {margin:.1f} points at a churn of {used:.1%} ({basis}; one-sided 95%, power 80%)"
        + (f"; of such rows [gates.trusted] {needs}" if needs else "")
    )


def too_few(rows: TrustedRows, spec: ModelSpec, churn: float | None) -> str | None:
    """A warning where repairs that are as good as what serves will often need a person; ``None``:
    there are rows enough."""
    used = power.USUAL_CHURN if churn is None else churn
    _, points, needed = _needed(spec, used)[0]
    if needed is not None and rows.judging >= needed:
        return None
    way = "set a margin that you can accept"
    if needed is not None and rows.judging:
        share = rows.judging / (rows.judging + rows.ranking)
        way = f"bring about {math.ceil((needed - rows.judging) / share):,} more, or {way}"
    return (
        f"trusted rows are too few for [gates.trusted] margin_points = {points:g}: a repair that is"
        f" as good as what serves will often need a person; {way}"
    )


def _needed(spec: ModelSpec, churn: float) -> list[tuple[str, float, int | None]]:
    """The margins for repairs and for other jobs: name, points, and rows that show it; ``None``: no
    number of rows does."""
    limit = policy.of(spec.policy())["trusted"]
    margins = (
        ("margin_points", limit.margin_points),
        ("scheduled_margin_points", limit.scheduled_margin_points),
    )
    return [
        (name, points, power.rows_needed(points / 100, churn) if points > 0 else None)
        for name, points in margins
    ]
