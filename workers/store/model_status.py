"""Status of a model in one word, worst first: what somebody on call wants to see before anything
else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from redistill.workers.store.queries import Overview
from redistill.workers.store.usual_gaps import LEAST_US, UNKNOWN_LABELS_US, longest_silence

__all__ = ["STATES", "accuracy", "state", "worst_first"]

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


class LabelledRows(Protocol):
    """How many of a version's last labelled rows there are, and how many are correct."""

    @property
    def labelled(self) -> int:
        """Rows."""

    @property
    def correct(self) -> int:
        """Those of them that are."""


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
    silent = longest_silence(o.row_gap_us, unknown=LEAST_US)
    if o.last_served_at is None or now - o.last_served_at > silent:
        return "no data"
    if o.last_change in ("rollback", "automatic_rollback"):
        return "rolled back"
    late = longest_silence(o.label_gap_us, unknown=UNKNOWN_LABELS_US)
    if o.last_label_at is not None and now - o.last_label_at > late:
        return "labels late"
    return "learning" if not o.has_base_error else "healthy"


def accuracy(o: LabelledRows) -> Accuracy | None:
    """Accuracy of the serving version's last labelled rows; ``None``: there are none."""
    if not o.labelled:
        return None
    from redistill.stats import clopper_pearson  # numpy and scipy: not before there is a label

    wrong_low, wrong_high = clopper_pearson(o.labelled - o.correct, o.labelled)
    return Accuracy(o.correct / o.labelled, 1 - wrong_high, 1 - wrong_low, o.labelled)


def worst_first(models: list[Overview], now: int) -> list[Overview]:
    """In the order in which somebody on call should look at them."""
    return sorted(models, key=lambda o: (STATES.index(state(o, now)), o.model))
