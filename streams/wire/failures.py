"""Failures: rows whose answer was not the model's, since the service met an error or fell back.

Such a row was asked for and has inputs, so it is counted. Its prediction and its scores are not the
model's: they are left out where the row is decoded, so that no reader can take them for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from redistill.streams.wire.block import Codes
from redistill.textform import NoText, text_of

__all__ = ["FAILURES", "Failure", "failure_codes", "failure_of", "without_answers"]

Failure = Literal["error", "fallback"]
FAILURES: tuple[Failure, ...] = ("error", "fallback")
"""What ``failed`` of a prediction may say."""
_BY_NAME: dict[str | None, Failure] = {name: name for name in FAILURES}
_CODES: dict[str | None, int] = {None: -1} | {name: i for i, name in enumerate(FAILURES)}
_NONE = frozenset((None, "", "false"))


def failure_of(value: Any) -> tuple[Failure | None, bool]:
    """What a value of any type says of a row, and whether it is one that ``failed`` may have.

    Whoever wrote something else there meant that the row failed, so it is taken as an error.

    Examples
    --------
    >>> [failure_of(v) for v in ("fallback", None, False, True, ["timeout"])]
    [('fallback', True), (None, True), (None, True), ('error', False), ('error', False)]
    """
    try:
        text = text_of(value)
    except (NoText, ValueError):
        return FAILURES[0], False
    if (failure := _BY_NAME.get(text)) is not None:
        return failure, True
    return (None, True) if text in _NONE else (FAILURES[0], False)


def failure_codes(failed: Sequence[str | None]) -> Codes | None:
    """A column of failures; ``None``: no row failed.

    Parameters
    ----------
    failed
        ``n`` of ``FAILURES``, or ``None``.
    """
    if failed.count(None) == len(failed):
        return None
    return Codes(np.array([_CODES[f] for f in failed], np.int32), FAILURES)


def without_answers(
    prediction: Codes | NDArray[np.float64], scores: NDArray[np.float32] | None, failed: Codes
) -> tuple[Codes | NDArray[np.float64], NDArray[np.float32] | None]:
    """Predictions and scores of a block without those of failed rows.

    Parameters
    ----------
    prediction
        ``n`` class names, or ``(n,) float64``.
    scores
        ``(n, C) float32``, or ``None``.
    failed
        ``(n,)`` of ``FAILURES``.

    Examples
    --------
    >>> failed = Codes(np.array([-1, 0], np.int32), FAILURES)
    >>> left, scores = without_answers(Codes.of(["a", "b"]), np.ones((2, 1), np.float32), failed)
    >>> left.strings(), scores.tolist()
    (['a', None], [[1.0], [nan]])
    """
    gone = failed.codes >= 0
    if isinstance(prediction, Codes):
        codes = np.where(gone, np.int32(-1), prediction.codes)
        prediction = Codes(codes, prediction.values)
    else:
        prediction = np.where(gone, np.nan, prediction)
    if scores is not None:
        scores = np.where(gone[:, None], np.float32(np.nan), scores)
        scores = None if np.isnan(scores).all() else scores
    return prediction, scores
