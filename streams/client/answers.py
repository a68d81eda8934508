"""Answers of what serves: a row, or many, and the prediction that is made of the graph's scores.

A graph that answers NaN has no prediction: it is told as an error of the row, never as a class.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redistill.streams.client.loader import Serving
from redistill.streams.client.session import Row
from redistill.streams.errors import NoAnswer

__all__ = ["Prediction", "answer", "answer_all"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer, with all that ``PredictionLogger.log`` wants to know."""

    prediction: str | float
    """The class name; a number for a regression."""
    scores: list[float] | None
    """Probabilities in the order of the classes; ``None`` for a regression."""
    version: str
    """``fallback`` for a declared fallback that is no known release: nothing of it is monitored."""
    model: str
    features: Any
    """By name (a sequence gets the schema's names), as ``PredictionLogger.log`` wants them."""
    latency_ms: float
    """Wall clock; in a batch, of the whole batch divided by its rows."""


def answer(serving: Serving, model: str, features: Row) -> Prediction:
    """The prediction for one row.

    Raises
    ------
    ValueError
        A sequence of the wrong length; ``NoAnswer``: the graph answers NaN.
    """
    began = time.perf_counter()
    session = serving.session
    raw = session.run(session.pack(features))
    try:
        prediction, scores = session.decide(raw[0].tolist())
    except NoAnswer as error:
        raise _unanswered(serving, model, [features], (0,)) from error
    return Prediction(
        prediction,
        scores,
        serving.version,
        model,
        features if type(features) is dict else session.named(features),
        (time.perf_counter() - began) * 1e3,
    )


def answer_all(serving: Serving, model: str, rows: Sequence[Row]) -> list[Prediction]:
    """The predictions for many rows, by one call of the graph; raises as :func:`answer` does."""
    began = time.perf_counter()
    session = serving.session
    raw = session.run(session.pack_rows(rows)).tolist()
    try:
        decided = [session.decide(row) for row in raw]
    except NoAnswer as error:
        silent = tuple(i for i, row in enumerate(raw) if not session.answers(row))
        raise _unanswered(serving, model, rows, silent) from error
    each = (time.perf_counter() - began) * 1e3 / max(1, len(decided))
    return [
        Prediction(prediction, scores, serving.version, model, session.named(row), each)
        for (prediction, scores), row in zip(decided, rows, strict=True)
    ]


def _unanswered(
    serving: Serving, model: str, rows: Sequence[Row], silent: tuple[int, ...]
) -> NoAnswer:
    """The error of rows that a graph answers with NaN, with the features that one of them lacks."""
    lacks = serving.session.missing(rows[silent[0]])
    hint = f"; it lacks {', '.join(lacks[:5])}" if lacks else ""
    which = f"{len(silent):,} of {len(rows):,} rows, the first is row {silent[0]}"
    return NoAnswer(
        silent,
        f"{model}: version {serving.version} answers NaN for"
        f" {'this row' if len(rows) == 1 else which}{hint}: there is no prediction",
    )
