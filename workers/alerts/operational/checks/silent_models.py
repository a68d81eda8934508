"""Models that are silent: no rows, or no labels, for much longer than is usual for each.

What is usual follows from the model's own last weeks (:mod:`redistill.workers.store.usual_gaps`): a
feed that brings labels once a day is not late after two hours, and one that brings them every
minute is.
"""

from __future__ import annotations

from collections.abc import Sequence

from redistill.times import to_seconds
from redistill.workers.alerts.operational.look import Look
from redistill.workers.alerts.operational.reading import Reading
from redistill.workers.alerts.operational.words import duration
from redistill.workers.store import usual_gaps
from redistill.workers.store.usual_gaps import LEAST_US, UNKNOWN_LABELS_US, longest_silence

__all__ = ["labels_late", "no_data"]


def no_data(look: Look) -> Sequence[Reading]:
    """How long each model has had no row."""
    out = []
    for model, last in usual_gaps.last_rows(look.conn).items():
        silent = max(0, look.now - last)
        usual = usual_gaps.of_rows(look.conn, model, look.now) if silent > LEAST_US else None
        out.append(
            _reading(
                model,
                silent,
                longest_silence(usual, unknown=LEAST_US),
                said=f"{model}: no row for {duration(silent)}, {_usually(usual)}",
                remedy=f"look whether the services that use {model} run, and whether they reach the"
                " broker (their log says `predictions_lost` or the like); `redistill models` shows"
                " the last row of each",
            )
        )
    return out


def labels_late(look: Look) -> Sequence[Reading]:
    """How long each model that is served has had no label.

    While a model is not served, its labels end by themselves, so nothing is said of them.
    """
    out = []
    for model, last_row in usual_gaps.last_rows(look.conn).items():
        last = usual_gaps.last_label(look.conn, model)
        if last is None:
            continue  # it never had one
        silent = max(0, look.now - last)
        usual = usual_gaps.of_labels(look.conn, model, look.now) if silent > LEAST_US else None
        served = look.now - last_row <= LEAST_US
        out.append(
            _reading(
                model,
                silent if served or silent <= LEAST_US else None,
                longest_silence(usual, unknown=UNKNOWN_LABELS_US),
                said=f"{model}: no label for {duration(silent)}, {_usually(usual)}",
                remedy="look whether the feed of labels runs; `redistill label import` takes a file"
                " of labels. Until they come, drift is seen and harm is not",
            )
        )
    return out


def _usually(usual: int | None) -> str:
    if usual is None:
        return "and how often one comes is not known yet"
    return f"usually one within {duration(usual)}"


def _reading(model: str, silent: int | None, opens: int, *, said: str, remedy: str) -> Reading:
    if silent is not None and silent <= LEAST_US:
        silent = 0  # it is none, and what is usual was not asked
    return Reading(
        subject=model,
        model=model,
        value=None if silent is None else to_seconds(silent),
        opens=to_seconds(opens),
        closes=to_seconds(opens) / 2,
        said=said,
        remedy=remedy,
    )
