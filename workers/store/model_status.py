"""Status of a model in one word, worst first: what somebody on call wants to see before anything
else."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.stats import clopper_pearson
from redistill.times import DAY, HOUR
from redistill.workers.store.queries import Overview

__all__ = ["STATES", "accuracy", "state", "worst_first"]

SILENT_US = HOUR
"""No event for an hour: no data."""
LABELS_LATE_US = DAY
"""Rows, but no label for a day where there were labels before: labels are late."""

STATES = (
    "awaiting a person",
    "data bug",
    "drifting",
    "waiting for labels",
    "repairing",
    "guarding",
    "rolled back",
    "no data",
    "labels late",
    "healthy",
    "learning",
)
"""Worst first; what a person must do comes before what is being done."""

STAGES = {
    "awaiting_person": "awaiting a person",
    "waiting_labels": "waiting for labels",
    "repairing": "repairing",
    "guarding": "guarding",
}


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Measured accuracy with its exact 95% interval; nothing but labels goes into it."""

    value: float
    low: float
    high: float
    n: int


def state(o: Overview, now: int) -> str:
    """One of ``STATES``.

    Parameters
    ----------
    now
        Microseconds since 1970.
    """
    if o.incident is not None:
        kind, stage, _ = o.incident
        return STAGES.get(stage, "data bug" if kind == "data_bug" else "drifting")
    if o.job is not None:
        return "waiting for labels" if o.job == "waiting_labels" else "repairing"
    if o.last_served_at is None or now - o.last_served_at > SILENT_US:
        return "no data"
    if o.last_change in ("rollback", "automatic_rollback"):
        return "rolled back"
    if o.last_label_at is not None and now - o.last_label_at > LABELS_LATE_US:
        return "labels late"
    return "learning" if not o.has_base_error else "healthy"


def accuracy(o: Overview) -> Accuracy | None:
    """Accuracy of the serving version's last labelled rows; ``None``: there are none."""
    if not o.labelled:
        return None
    wrong_low, wrong_high = clopper_pearson(o.labelled - o.correct, o.labelled)
    return Accuracy(o.correct / o.labelled, 1 - wrong_high, 1 - wrong_low, o.labelled)


def worst_first(models: list[Overview], now: int) -> list[Overview]:
    """In the order in which somebody on call should look at them."""
    return sorted(models, key=lambda o: (STATES.index(state(o, now)), o.model))
