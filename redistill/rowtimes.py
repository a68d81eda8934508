"""Times of a column, whatever its type: seconds since 1970 or ISO 8601 texts, in UTC."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from redistill.rowcells import NULL_WORDS
from redistill.rownames import number_of
from redistill.rowvalues import is_number, is_text, is_time, numbers, plain, positions
from redistill.times import DAY, SECOND, microseconds, to_us

__all__ = ["times"]

LATEST_SECONDS = 1e11
"""Seconds since 1970 that are no time of ours (the year 5138) but milliseconds or finer."""
NO_TIME = "which is not a time: ISO 8601, or seconds since 1970, were expected"

_FINER = (
    (1e14, "milliseconds", 1_000),
    (1e17, "microseconds", 1_000_000),
    (math.inf, "nanoseconds", 1_000_000_000),
)
"""Below which a number that is too large for seconds is one of which unit."""
_UTC = r"(?i)(?:Z? ?\[(?:Etc/)?UTC\]| ?(?:UTC|GMT))\s*$"
"""How exports end a time in UTC, such as ``2026-03-01 00:00:00 UTC`` of BigQuery."""
_DAYS = (19_000_101, 21_001_231)
"""Whole numbers between which a column may be one of days, such as 20260301."""

_FIRST_US = microseconds(datetime.min.replace(tzinfo=UTC))
_LAST_US = microseconds(datetime.max.replace(tzinfo=UTC))
_UNIT_US = {"s": SECOND, "ms": 1_000, "us": 1}


@dataclass(frozen=True, slots=True, eq=False)
class Times:
    """A column of ``n`` times."""

    us: NDArray[np.int64]  # (n,) microseconds since 1970, UTC; 0 where not known
    known: NDArray[np.bool_]  # (n,)
    refused: dict[int, str]
    """Row -> its value and why that is no time, to follow ``holds``."""


def times(array: pa.Array | pa.ChunkedArray) -> Times:
    """A column of times, numbers (seconds) or texts as times; infinity and NaN are missing."""
    array = plain(array)
    kind = array.type
    if pa.types.is_dictionary(kind):
        found, rows = times(array.dictionary), positions(array)
        refused = {
            int(row): why
            for k, why in found.refused.items()
            for row in np.flatnonzero(rows == k).tolist()
        }
        return Times(np.append(found.us, 0)[rows], np.append(found.known, False)[rows], refused)
    if is_time(kind):
        us, known, outside = _moments(array)
        why = "a time outside the years 1 to 9999"
        return Times(us, known, dict.fromkeys(np.flatnonzero(outside).tolist(), why))
    if pa.types.is_null(kind):
        return Times(np.zeros(len(array), np.int64), np.zeros(len(array), np.bool_), {})
    if is_number(kind) and not pa.types.is_boolean(kind):
        return _days_in_digits(array) or _seconds(array)
    if not is_text(kind):
        there = np.flatnonzero(~np.asarray(array.is_null().to_numpy(zero_copy_only=False)))
        return Times(
            np.zeros(len(array), np.int64),
            np.zeros(len(array), np.bool_),
            dict.fromkeys(there.tolist(), f"a value of {kind}, {NO_TIME}"),
        )
    array = pc.replace_substring_regex(array, _UTC, "Z")
    for zone in (None, "UTC"):  # all of one form, without a zone or with one
        try:
            return times(array.cast(pa.timestamp("us", zone)))
        except pa.ArrowInvalid:
            continue
    encoded = array.dictionary_encode()
    read = [_time_of(x) for x in encoded.dictionary.to_pylist()] + [None]
    rows = positions(encoded)
    return Times(
        np.array([x if isinstance(x, int) else 0 for x in read], np.int64)[rows],
        np.array([isinstance(x, int) for x in read])[rows],
        {i: why for i, k in enumerate(rows.tolist()) if isinstance(why := read[k], str)},
    )


def _time_of(text: str | None) -> int | str | None:
    """Microseconds since 1970, why a text is no time, or ``None`` if it is blank."""
    word = (text or "").strip()
    if word.lower() in NULL_WORDS:
        return None
    number = number_of(word)
    if number is not None and not (len(word) == 8 and word.isdigit()):  # 20260301 is a day
        if not math.isfinite(number):
            return None
        return _too_large(number) if abs(number) > LATEST_SECONDS else to_us(number)
    try:
        found = datetime.fromisoformat(word)
    except ValueError:
        return f"{word[:40]!r}, {NO_TIME}"
    return microseconds(found if found.tzinfo is not None else found.replace(tzinfo=UTC))


def _too_large(number: float) -> str:
    unit, factor = next((u, f) for limit, u, f in _FINER if abs(number) < limit)
    return (
        f"{number:.19g}: seconds since 1970 were expected"
        f" (divide {unit} by {factor:,}, or write ISO 8601)"
    )


def _days_in_digits(array: pa.Array) -> Times | None:
    """Whole numbers such as 20260301, if all are days: as the same cells of a CSV file are."""
    values = numbers(array)[0]
    known = np.isfinite(values)
    there = np.unique(values[known])
    inside = (there >= _DAYS[0]) & (there <= _DAYS[1]) & (there == np.rint(there))
    if not len(there) or not inside.all():
        return None
    days = times(pa.array([f"{int(v)}" if k else None for v, k in zip(values, known, strict=True)]))
    return None if days.refused else days


def _seconds(array: pa.Array) -> Times:
    values = numbers(array)[0]
    known = np.isfinite(values)
    large = known & (np.abs(np.where(known, values, 0)) > LATEST_SECONDS)
    known &= ~large
    us = np.rint(np.where(known, values, 0) * SECOND).astype(np.int64)
    return Times(us, known, {int(i): _too_large(values[i]) for i in np.flatnonzero(large)})


def _moments(
    array: pa.Array,
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Times or days: microseconds, which are known, and which no calendar has."""
    kind = array.type
    known = ~np.asarray(array.is_null().to_numpy(zero_copy_only=False))
    whole = array.cast(pa.int32()) if pa.types.is_date32(kind) else array
    raw = np.asarray(whole.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False), np.int64)
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        raw, factor = raw // 1_000, 1
    elif pa.types.is_timestamp(kind):
        factor = _UNIT_US[kind.unit]
    else:
        factor = DAY if pa.types.is_date32(kind) else _UNIT_US["ms"]
    outside = known & ((raw < _FIRST_US // factor) | (raw > _LAST_US // factor))
    known &= ~outside
    return np.where(known, raw, 0) * factor, known, outside
