"""Faults of rows: values of a wrong type, counted by where they stood, and what is read in their
place."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from redistill.streams.errors import WireError
from redistill.streams.wire import failures
from redistill.streams.wire.columns import MAX_TEXT, MAX_UNKNOWN, count, printable
from redistill.textform import NoText, text_of

__all__ = ["Faults", "as_float", "id_text"]

_MAX_SCORES = 10_000


class Faults:
    """What was wrong in the rows of one model version; a row with a fault is read all the same."""

    def __init__(self) -> None:
        self.wrong: dict[str, int] = {}
        """Rows by feature whose value is of a wrong type."""
        self.invalid: dict[str, int] = {}
        """Rows by field (``scores``, ``segment``, ...) that holds nothing usable."""
        self.unknown_features: dict[str, int] = {}
        """Rows by feature that the schema does not know."""

    def unknown(self, name: str, n: int) -> None:
        """Count rows with a feature that the schema does not know."""
        name = printable(name)
        if name in self.unknown_features or len(self.unknown_features) < MAX_UNKNOWN:
            count(self.unknown_features, name, n)

    def scores_of(self, value: Any) -> list[float] | None:
        """Scores of a row that did not fit; ``None`` and counted where they are no numbers."""
        if value is None:
            return None
        if isinstance(value, list) and len(value) <= _MAX_SCORES:
            numbers = [_number(v) for v in value if v is not None]
            if None not in numbers:
                return [np.nan if v is None else as_float(v) for v in value]
        count(self.invalid, "scores")
        return None

    def segment_of(self, value: Any) -> dict[str, str] | None:
        """Segments of a row that did not fit, as texts; what has none, or too long a one, is
        counted and left out."""
        if value is None:
            return None
        if not isinstance(value, dict):
            count(self.invalid, "segment")
            return None
        out: dict[str, str] = {}
        for key, item in value.items():
            if isinstance(item, (str, int, float)):
                with suppress(NoText):
                    text = text_of(item)
                    if text is None:
                        continue
                    if max(len(key), len(text)) <= MAX_TEXT:
                        out[key] = text
                        continue
            if item is not None:
                count(self.invalid, "segment")
        return out

    def failure_of(self, value: Any) -> failures.Failure | None:
        """What ``failed`` says of a row; what it may not say is counted, and taken as an error."""
        failure, good = failures.failure_of(value)
        if not good:
            count(self.invalid, "failed")
        return failure

    def pair_of(self, name: str, value: Any) -> tuple[float, float] | None:
        """Two numbers of a row that did not fit, NaN where one is missing; ``None`` and counted
        where they are no such pair."""
        if value is None:
            return None
        if isinstance(value, list) and len(value) == 2:
            low, high = (np.nan if v is None else _number(v) for v in value)
            if low is not None and high is not None:
                return low, high
        count(self.invalid, name)
        return None

    def number_of(self, name: str, value: Any) -> float | None:
        """A number of a row that did not fit; ``None`` and counted where it is none."""
        if value is not None and (number := _number(value)) is not None:
            return number
        if value is not None:
            count(self.invalid, name)
        return None


def as_float(value: float) -> float:
    """A number of any size as a float.

    Examples
    --------
    >>> as_float(3), as_float(-(10**400))
    (3.0, -inf)
    """
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def id_text(value: Any) -> Any:
    """An id that came as a number as its text, so that labels join on it; what else it is, stays.

    Raises
    ------
    WireError
        It could be the id of two rows.

    Examples
    --------
    >>> id_text(7), id_text(7.0), id_text("7.0"), id_text(None)
    ('7', '7', '7.0', None)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    try:
        return text_of(value)
    except ValueError as why:  # NoText, or more digits than Python writes
        raise WireError("invalid_field", f"id {why}") from None


def _number(value: Any) -> float | None:
    """A value that is a number, else ``None``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return as_float(value)
