"""The one text of a value: what names a class, a category, an id or a segment, wherever it came
from.

Booleans are ``true`` and ``false``, whole numbers have neither point nor exponent, bytes are UTF-8,
Decimal is a number, times are ISO 8601 in UTC. What could name two values is refused: a whole float
beyond what its type holds exactly (2^53 for float64), bytes of another encoding; and what has no
text of its own: lists, objects that only have an address.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any
from uuid import UUID

import numpy as np

from redistill.rownames import LONGEST_NUMBER, number_of

__all__ = [
    "EXACT",
    "NoText",
    "category_index",
    "category_text",
    "number_text",
    "scalar",
    "text_of",
]

_PLAIN = {str, bool, int, float, type(None)}
_MISSING = ("NAType", "NaTType")
"""Types of what pandas writes for a missing value; pandas need not be there to know them."""
_ADDRESS: Any = object.__str__
_WHOLE = re.compile(r"(0|-?[1-9]\d{0,14})(\.0)?", re.A)
EXACT = {8: 2**53, 4: 2**24, 2: 2**11}
"""Bytes of a float -> the whole number up to which it holds all of them."""
_MAX_BITS = 1_024
"""Of a whole number beyond which it is told as infinite, as float64 would have it."""


class NoText(ValueError):
    """A value has no text of its own; the message says why, to follow the name of what holds it."""


def scalar(value: Any) -> Any:
    """A value of any library as one of Python's, of numpy's where a float is shorter than 64 bits.

    Returns
    -------
    Any
        ``str``, ``bool``, ``int``, a float, ``Decimal``, a time, ``UUID``; ``None`` where it is
        missing (NaN stays); lists and objects as they are.

    Examples
    --------
    >>> scalar(np.bool_(True)), scalar(np.array(7)), scalar(b"caf\\xc3\\xa9")
    (True, 7, 'café')
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind.__name__ in _MISSING:
        return None
    if isinstance(value, Enum):
        return scalar(value.value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return None if np.isnat(value) else scalar(value.astype(_moment(value)).item())
    if isinstance(value, np.floating):
        return value if value.dtype.itemsize < 8 else float(value)
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            raise NoText("holds bytes that are no UTF-8") from None
    if hasattr(value, "as_py"):  # a scalar of Arrow
        return scalar(value.as_py())
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # numpy, torch, JAX
        held = value.item()
        short = isinstance(held, float) and value.dtype.itemsize < 8
        return np.float32(held) if short else scalar(held)
    return value


def _moment(value: np.datetime64 | np.timedelta64) -> str:
    """The numpy type of which Python has one: days stay days."""
    if isinstance(value, np.timedelta64):
        return "m8[us]"
    return "M8[D]" if np.datetime_data(value.dtype)[0] in "YMWD" else "M8[us]"


def text_of(value: Any) -> str | None:
    """The one text of a value; ``None`` if it is missing.

    Raises
    ------
    NoText
        The value has none.

    Examples
    --------
    >>> [text_of(v) for v in (True, 143349558619.0, 2.5, Decimal("1.50"), b"caf\\xc3\\xa9", None)]
    ['true', '143349558619', '2.5', '1.5', 'café', None]
    >>> text_of(np.float32(0.1)), text_of(np.bool_(False)), text_of(float("nan"))
    ('0.1', 'false', None)
    """
    if type(value) not in _PLAIN:
        value = scalar(value)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, (float, np.floating)):
        return _float_text(value)
    if isinstance(value, Decimal):
        return _decimal_text(value)
    if isinstance(value, datetime):
        moment = value if value.tzinfo is None else value.astimezone(UTC)
        return datetime.isoformat(moment).replace("+00:00", "Z")
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, (timedelta, UUID)):
        return str(value)
    if type(value).__str__ is _ADDRESS or hasattr(value, "__len__"):
        raise NoText(f"is a {type(value).__name__}: a text, a number or a boolean was expected")
    return str(value)


def _float_text(value: float | np.floating[Any]) -> str | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        raise NoText("is infinite")
    if not value.is_integer():
        return str(value)
    if not _is_exact(value):
        bytes_ = _size(value)
        raise NoText(
            f"is the number {int(value)}, beyond 2^{EXACT[bytes_].bit_length() - 1}, where"
            f" float{8 * bytes_} is no longer exact: write such values as whole numbers or text"
        )
    return str(int(value))


def _is_exact(value: float | np.floating[Any]) -> bool:
    """Whether a whole float is the only number that its type would have made of it."""
    return abs(float(value)) <= EXACT[_size(value)]


def _size(value: float | np.floating[Any]) -> int:
    return 8 if isinstance(value, float) else min(8, value.dtype.itemsize)


def _decimal_text(value: Decimal) -> str | None:
    if value.is_nan():
        return None
    if value.is_infinite():
        raise NoText("is infinite")
    if abs(value.adjusted()) <= 2 * LONGEST_NUMBER and value == value.to_integral_value():
        return str(int(value))
    return _float_text(float(value))


def number_text(value: float | np.floating[Any]) -> str:
    """A number in words, whatever it is: its text where it has one, so that a value that could be
    two numbers equals the text of none.

    Examples
    --------
    >>> number_text(3.0), number_text(2.5), number_text(16777217), number_text(1e20)
    ('3', '2.5', '16777217', '1e+20')
    """
    if isinstance(value, int):
        if value.bit_length() > _MAX_BITS:
            return "inf" if value > 0 else "-inf"
        return str(int(value))
    return str(int(value)) if value.is_integer() and _is_exact(value) else str(value)


def category_text(value: Any) -> str | None:
    """The name of a category that came as a value of any type; ``None`` if it is missing.

    A fraction is read as float32 has it, so that the same row has the same name from JSON and from
    an Arrow batch.

    Raises
    ------
    NoText
        It has none.

    Examples
    --------
    >>> category_text(3.0), category_text(0.1), category_text(np.float32(0.1)), category_text(True)
    ('3', '0.1', '0.1', 'true')
    """
    value = scalar(value)
    if not isinstance(value, (float, np.floating)):
        return text_of(value)
    if math.isnan(value):
        return None
    return number_text(value) if value.is_integer() else str(np.float32(value))


@lru_cache(maxsize=1_024)
def category_index(values: tuple[str, ...]) -> Mapping[str, int]:
    """Position of each declared category, also by what else libraries call its value.

    Examples
    --------
    >>> category_index(("True", "2"))
    {'True': 0, '2': 1, 'true': 0, 'TRUE': 0, '2.0': 1}
    """
    index: dict[str, int] = {name: i for i, name in enumerate(values)}
    for name, i in list(index.items()):
        for other in _other_texts(name):
            index.setdefault(other, i)
    return index


def _other_texts(name: str) -> tuple[str, ...]:
    """Of a boolean those in other capitals, of a whole number that as a float or without its point,
    of a fraction that of float32."""
    word = name.lower()
    if word in ("true", "false"):
        return (word, word.capitalize(), word.upper())
    if _WHOLE.fullmatch(name):
        return (name[:-2] if name.endswith(".0") else f"{name}.0",)
    number = number_of(name)
    if number is None or not math.isfinite(number) or str(number) != name:
        return ()
    with np.errstate(over="ignore"):
        return (str(np.float32(number)),)
