"""Values of the caller's as they go on the wire: scalars of any library, each in its one form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from redistill.textform import EXACT, NoText, number_text, scalar, text_of

__all__ = [
    "ENCODER",
    "answer",
    "answers",
    "are_numbers",
    "inexact",
    "json_value",
    "kind_of",
    "minority",
    "moment",
    "named_text",
    "named_texts",
    "plain",
    "unanswered",
]

_MAX_DIGITS = 40
"""Of a whole decimal; a longer one is a number of some size, not the name of anything."""
_NUMBERS_OR_NONE = {int, float, Decimal, type(None), *np.sctypeDict.values()} - {
    np.bool_, np.str_, np.bytes_, np.object_, np.void, np.datetime64, np.timedelta64,
    np.complex64, np.complex128, np.clongdouble,
}  # fmt: skip
_FLAGS_OR_NONE = {bool, np.bool_, type(None)}
_WORDS_OR_NONE = {str, np.str_, type(None)}
_INFINITE, _MINUS_INFINITE = msgspec.Raw(b"1e999"), msgspec.Raw(b"-1e999")


def are_numbers(values: Sequence[Any]) -> bool:
    """Whether all are numbers, or missing."""
    return _NUMBERS_OR_NONE.issuperset(map(type, values))


def named_text(name: str, value: Any) -> str | None:
    """The text of a value that stands under a name.

    Raises
    ------
    NoText
        It has none; the message begins with the name.
    """
    try:
        return text_of(value)
    except NoText as why:
        raise NoText(f"{name} {why}") from None


def named_texts(name: str, values: Mapping[Any, Any]) -> dict[Any, str]:
    """The texts of values by key, without those that are missing; as ``named_text``."""
    made = {key: named_text(f"{name} {key!r}", value) for key, value in values.items()}
    return {key: text for key, text in made.items() if text is not None}


def moment(at: Any) -> datetime:
    """A time of any library (pandas' is a kind of its own) as Python's.

    Raises
    ------
    NoText
        It is none.
    """
    if type(at) is datetime:
        return at
    if not isinstance(found := scalar(at), datetime):
        raise NoText(f"observed_at is a {type(at).__name__}: a time with a time zone was expected")
    return datetime.combine(found.date(), found.time(), found.tzinfo)


def kind_of(column: Sequence[Any]) -> str | None:
    """``number``, ``words`` or ``flags``; ``None`` where values of several kinds are mixed."""
    types = set(map(type, column))
    if types <= _NUMBERS_OR_NONE:
        return "number"
    if types <= _WORDS_OR_NONE:
        return "words"
    return "flags" if types <= _FLAGS_OR_NONE else None


def minority(column: Sequence[Any]) -> list[int]:
    """Where the values are that are not of the most frequent kind."""
    kinds = ["none" if v is None else kind_of([v]) or "odd" for v in column]
    usual = max({"number", "words", "flags"}, key=kinds.count)
    return [i for i, kind in enumerate(kinds) if kind not in (usual, "none")]


def unanswered(prediction: Any) -> str | None:
    """Why a prediction is neither a class nor a number."""
    if type(prediction) is float and math.isfinite(prediction):
        return None
    try:
        value = answer(prediction)
    except ValueError as why:  # NoText
        return str(why)
    if value is None:
        return "is missing"
    if isinstance(value, float) and not math.isfinite(value):
        return "is NaN" if math.isnan(value) else "is infinite"
    return None


def answer(value: Any) -> str | int | float | None:
    """A prediction as it stands on the wire: a number where it is one, else the text of a class."""
    value = plain(value)
    if isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool)):
        return value if abs(value) <= EXACT[8] or isinstance(value, float) else text_of(value)
    return text_of(value)


def answers(values: list[Any]) -> Any:
    """Class names as strings (booleans by their name), or numbers as float64."""
    kinds = set(map(type, values))
    given: list[Any] = values if kinds in ({str}, {float}) else list(map(answer, values))
    if any(isinstance(v, str) for v in given):
        return [v if isinstance(v, str) else number_text(v) for v in given]
    return np.array(given, np.float64)


def inexact(wide: NDArray[np.float64]) -> list[int]:
    """Rows with whole numbers beyond what float32 holds: they may name categories."""
    large = np.abs(wide) > EXACT[4]
    if not large.any():
        return []
    return np.flatnonzero((large & np.isfinite(wide) & (np.rint(wide) == wide)).any(1)).tolist()


def plain(value: Any) -> Any:
    """A value of a feature, of any library, as one of Python's: a decimal (NUMERIC of a database)
    is a number, not the text that JSON would make of it. What has no form of its own stays.
    """
    try:
        value = scalar(value)
    except NoText:
        return value
    if isinstance(value, Decimal):
        if not value.is_finite():
            return math.nan if value.is_nan() else float(str(value))
        whole = abs(value.adjusted()) < _MAX_DIGITS and value == value.to_integral_value()
        return int(value) if whole else float(value)
    return float(str(value)) if isinstance(value, np.floating) else value


def json_value(value: Any) -> Any:
    """A value of a feature as JSON takes it; infinity as a number that is none to any reader."""
    value = plain(value)
    if isinstance(value, float) and math.isinf(value):
        return _INFINITE if value > 0 else _MINUS_INFINITE
    if value is None or isinstance(value, (str, int, float)):
        return value
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (list, tuple, dict)):
        return value
    try:
        return text_of(value)
    except NoText:
        return {}  # of a wrong type to every reader: the row's other values count


ENCODER = msgspec.json.Encoder(enc_hook=json_value)
