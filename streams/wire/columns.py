"""Columns of a block from values as they stand on the wire. JSON rows and Arrow batches end here.

One set of rules for both: a number or a boolean in a categorical feature is read as its text, a
string in a numeric one is of a wrong type, booleans are 1 and 0 of a number, null and NaN are
missing, infinity and what float32 cannot hold is of a wrong type. Classes are looked up as they
stand, then by their value, as those of files are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redistill.rownames import Names
from redistill.streams.wire.block import Codes, Feature, Schema
from redistill.streams.wire.events import TEXT_CHARACTERS
from redistill.textform import category_index, category_text, number_text
from redistill.times import DAY, microseconds

__all__ = [
    "MAX_SEGMENTS",
    "MAX_TEXT",
    "MAX_UNKNOWN",
    "MAX_UNSEEN",
    "MAX_VALUES",
    "REST",
    "Category",
    "answer_text",
    "class_codes",
    "clean",
    "count",
    "finite",
    "infer_schema",
    "intervals",
    "of_both_classes",
    "printable",
    "rates",
    "storable",
    "times",
]

MAX_UNSEEN = 20
"""Names of unseen categories kept per feature and block; the rest is counted under ``REST``."""
MAX_UNKNOWN = 50
"""Names of unknown features kept per block."""
MAX_TEXT = TEXT_CHARACTERS
"""Characters of a class, a segment key or a segment value: what is longer was meant otherwise, and
is never cut, since two long ones might then be one."""
MAX_SEGMENTS = 20
"""Segment keys read where the schema declares no slices."""
MAX_VALUES = 50
"""Values of a category that is inferred."""
REST = "..."

_FEW = 8
"""Times that are read sooner one by one."""
_EPOCH_DAY = date(1970, 1, 1).toordinal()


def clean(features: NDArray[np.float32], names: Sequence[str], wrong: dict[str, int]) -> None:
    """Turn infinities into NaN, in place, and count them in ``wrong``."""
    infinite = np.isinf(features)
    if infinite.any():
        features[infinite] = np.nan
        for j in np.flatnonzero(infinite.any(0)).tolist():
            count(wrong, names[j], int(infinite[:, j].sum()))


def finite(values: NDArray[Any], name: str, invalid: dict[str, int]) -> NDArray[np.float32] | None:
    """Values as float32, ``None`` if none is left; infinities become NaN, counted once a row."""
    with np.errstate(over="ignore"):
        out = values.astype(np.float32)
    infinite = np.isinf(out)
    if infinite.any():
        out[infinite] = np.nan
        count(invalid, name, int(infinite.reshape(len(out), -1).any(1).sum()))
    return None if np.isnan(out).all() else out


def of_both_classes(scores: NDArray[Any], invalid: dict[str, int]) -> NDArray[np.float64]:
    """One score a row of two classes as a score per class: it is the second's probability.

    Parameters
    ----------
    scores
        ``(n, 1)``; what lies outside 0 to 1 is no probability: missing, and counted.

    Examples
    --------
    >>> of_both_classes(np.array([[0.25], [3.0]]), invalid := {}).tolist(), invalid
    ([[0.75, 0.25], [nan, nan]], {'scores': 1})
    """
    p = scores.astype(np.float64)
    odd = (p < 0) | (p > 1)
    if odd.any():
        count(invalid, "scores", int(odd.sum()))
        p[odd] = np.nan
    return np.concatenate([1 - p, p], axis=1)


def rates(values: NDArray[Any], invalid: dict[str, int]) -> NDArray[np.float32] | None:
    """Sample rates: what is outside (0, 1] is counted and taken as 1; ``None`` if all are 1."""
    good = (values > 0) & (values <= 1)
    if wrong := int((~good & ~np.isnan(values)).sum()):
        count(invalid, "sample_rate", wrong)
    out = np.where(good, values, 1.0).astype(np.float32)
    return None if (out == 1.0).all() else out


def intervals(values: NDArray[np.float64], invalid: dict[str, int]) -> NDArray[np.float64] | None:
    """Prediction intervals: what is not finite, or has its ends crossed, is counted and taken as
    missing; ``None`` if none is left.

    Parameters
    ----------
    values
        ``(n, 2)`` low, high; NaN = missing.

    Examples
    --------
    >>> given = np.array([[1, 2], [3, 2], [np.nan, np.nan], [np.nan, 2]])
    >>> intervals(given, invalid := {}).tolist(), invalid
    ([[1.0, 2.0], [nan, nan], [nan, nan], [nan, nan]], {'prediction_interval': 2})
    """
    good = np.isfinite(values).all(1) & (values[:, 0] <= values[:, 1])
    if wrong := int((~good & ~np.isnan(values).all(1)).sum()):
        count(invalid, "prediction_interval", wrong)
    return np.where(good[:, None], values, np.nan) if good.any() else None


def printable(text: str) -> str:
    """A name from the wire as reports may carry it: at most 80 characters, without NUL."""
    return storable(text[:80])


def storable(text: str) -> str:
    """A text without NUL, which PostgreSQL does not store: one would stop every flush."""
    return text.replace("\0", "\ufffd")


def count(counts: dict[str, int], name: str, n: int = 1) -> None:
    """Add to a counter."""
    counts[name] = counts.get(name, 0) + n


class Category:
    """A category's declared values, and what to do with others."""

    def __init__(self, feature: Feature) -> None:
        self.name = feature.name
        self._index: dict[Any, float] = {
            v: float(i) for v, i in category_index(feature.values).items()
        }
        self._index[None] = np.nan
        self._get = self._index.__getitem__

    def encode(
        self, column: Sequence[Any], unseen: dict[str, dict[str, int]]
    ) -> NDArray[np.float64]:
        """Indices of values: unseen ones -1 and counted, missing NaN.

        Parameters
        ----------
        column
            ``n`` strings, numbers, booleans or ``None``.
        unseen
            Counter per feature and value, changed in place.

        Returns
        -------
        numpy.ndarray
            ``(n,) float64``
        """
        try:
            return np.fromiter(map(self._get, column), np.float64, len(column))
        except KeyError:
            return np.array([self._one(v, unseen) for v in column], np.float64)

    def encode_many(self, value: Any, rows: int, unseen: dict[str, dict[str, int]]) -> float:
        """Index of one value that stands in many rows."""
        index = self._one(value, unseen)
        if index < 0 and rows > 1:
            self.saw(value, rows - 1, unseen)
        return index

    def _one(self, value: Any, unseen: dict[str, dict[str, int]]) -> float:
        text = value if isinstance(value, str) else category_text(value)
        if text is None:
            return np.nan
        if (index := self._index.get(text)) is None:
            self.saw(text, 1, unseen)
            return -1.0
        return index

    def saw(self, text: str, n: int, unseen: dict[str, dict[str, int]]) -> None:
        """Count a value that is not declared."""
        seen = unseen.setdefault(self.name, {})
        name = printable(text)
        count(seen, name if name in seen or len(seen) < MAX_UNSEEN else REST, n)


def class_codes(values: Sequence[str | float], classes: Sequence[str]) -> Codes:
    """Predictions as class codes: the declared classes first, then others as they occur.

    Examples
    --------
    >>> class_codes(["no", 1.0, "no"], ("yes", "no"))
    Codes(codes=array([1, 2, 1], dtype=int32), values=('yes', 'no', '1'))
    >>> class_codes([True, "1", 0.0], ("False", "True")).strings()
    ['True', 'True', 'False']
    """
    index = {name: i for i, name in enumerate(classes)}
    try:
        indices = map(index.__getitem__, values)  # type: ignore[arg-type]
        codes = np.fromiter(indices, np.int32, len(values))
    except KeyError:
        texts = [v if isinstance(v, str) else answer_text(v) for v in values]
        names = Names(classes)
        of = {text: names.name(text) for text in dict.fromkeys(texts)}
        codes = np.array([index.setdefault(of[t], len(index)) for t in texts], np.int32)
    return Codes(codes, (*classes, *map(storable, list(index)[len(classes) :])))


def answer_text(value: float) -> str:
    """A prediction or a label that is no string as one; what names nothing equals nothing.

    Examples
    --------
    >>> answer_text(True), answer_text(7), answer_text(7.0), answer_text(1e20)
    ('true', '7', '7', '1e+20')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    return number_text(value)


def times(texts: Sequence[str]) -> tuple[NDArray[np.int64], dict[int, str]]:
    """RFC 3339 times as microseconds since 1970.

    Parameters
    ----------
    texts
        ``n`` times with a zone (``Z`` or an offset).

    Returns
    -------
    tuple
        ``(n,) int64``, and what was wrong with which: those are 0.

    Examples
    --------
    >>> times(["1970-01-01T00:00:01Z", "1970-01-01T01:00:00.5+01:00", "yesterday"])
    (array([1000000,  500000,       0]), {2: "served_at 'yesterday' is no RFC 3339 time"})
    """
    if len(texts) >= _FEW and (fast := _uniform_times(texts)) is not None:
        return fast, {}
    out = np.zeros(len(texts), np.int64)
    wrong: dict[int, str] = {}
    for i, text in enumerate(texts):
        try:
            out[i] = microseconds(datetime.fromisoformat(text))
        except (ValueError, OverflowError):
            wrong[i] = f"served_at {text[:40]!r} is no RFC 3339 time"
        except TypeError:
            wrong[i] = f"served_at {text[:40]!r} has no time zone"
    return out, wrong


def _form(text: bytes) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Template, which places are digits, their weights in microseconds, their largest values."""
    template = np.frombuffer(text, np.uint8)
    fraction = [10.0 ** (5 - i) for i in range(6)]
    weights = [0] * 8 + [3.6e10, 3.6e9, 6e8, 6e7, 1e7, 1e6, *fraction]
    limits = [9] * 8 + [2, 9, 5, 9, 5, 9] + [9] * 6
    is_digit = template == ord("0")
    k = int(is_digit.sum())
    return template, is_digit, np.array(weights[:k]), np.array(limits[:k], np.uint8)


_FORMS = {
    len(text): _form(text)
    for text in (
        b"0000-00-00T00:00:00Z",
        b"0000-00-00T00:00:00.000Z",
        b"0000-00-00T00:00:00.000000Z",
    )
}


def _uniform_times(texts: Sequence[str]) -> NDArray[np.int64] | None:
    """All as ``YYYY-MM-DDTHH:MM:SS[.ffffff]Z``: some 40 array operations, no parse a row."""
    n = len(texts)
    joined = "".join(texts).encode("ascii", "replace")
    width = len(texts[0]) if n else 0
    if width not in _FORMS or len(joined) != n * width:
        return None
    rows = np.frombuffer(joined, np.uint8).reshape(n, width)
    template, is_digit, weights, limits = _FORMS[width]
    digits = rows[:, is_digit] - np.uint8(ord("0"))  # below "0" wraps round to above 9
    if (rows[:, ~is_digit] != template[~is_digit]).any() or (digits > limits).any():
        return None  # of another form, a leap second, or nonsense: judged one by one
    if (digits[:, 8] * 10 + digits[:, 9] > 23).any():
        return None
    out: NDArray[np.int64] = (digits @ weights).astype(np.int64)  # exact: all below 2^53
    try:
        out += _days(np.ascontiguousarray(rows[:, :10]).view("S10")[:, 0]) * DAY
    except ValueError:
        return None
    return out


def _days(dates: NDArray[np.bytes_]) -> NDArray[np.int64]:
    """Days since 1970 of ``YYYY-MM-DD``; most often all are the same."""
    first = date.fromisoformat(dates[0].decode()).toordinal() - _EPOCH_DAY
    if (dates == dates[0]).all():
        return np.full(len(dates), first, np.int64)
    distinct, where = np.unique(dates, return_inverse=True)
    ordinals = [date.fromisoformat(d.decode()).toordinal() for d in distinct]
    return (np.array(ordinals, np.int64) - _EPOCH_DAY)[where]


def infer_schema(rows: Iterable[Mapping[str, Any]]) -> Schema:
    """Columns of a model that nobody registered, from its first rows.

    A feature is a category if most of its values that are not missing are strings. Features are
    sorted by name; categories have their first ``MAX_VALUES`` values, sorted.

    Examples
    --------
    >>> infer_schema([{"age": 3, "region": "EU"}, {"age": None, "region": "US"}])
    Schema(features=(Feature(name='age', kind='float', ...), Feature(name='region', kind='category',
    minimum=None, maximum=None, values=('EU', 'US'))), classes=(), slices=(), groups=(), ...)
    """
    numbers: dict[str, int] = {}
    strings: dict[str, dict[str, int]] = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, str):
                count(strings.setdefault(name, {}), value)
            else:
                numbers[name] = numbers.get(name, 0) + (value is not None)
    return Schema(
        features=tuple(
            Feature(name=name, kind="category", values=tuple(sorted(list(seen)[:MAX_VALUES])))
            if sum((seen := strings.get(name, {})).values()) > numbers.get(name, 0)
            else Feature(name=name)
            for name in sorted(numbers.keys() | strings.keys())
        )
    )
