"""Time in one unit, integer microseconds since 1970 in UTC, and its conversions.

SQL, blocks of rows and deadlines hold such integers; events hold :class:`~datetime.datetime`;
clocks and settings hold seconds. Between integers and datetimes all arithmetic is exact.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

__all__ = [
    "DAY",
    "EPOCH",
    "HOUR",
    "MINUTE",
    "SECOND",
    "microseconds",
    "now_us",
    "to_seconds",
    "to_us",
    "utc",
]

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_MICROSECOND = timedelta(microseconds=1)
_FIRST = (datetime(1, 1, 2, tzinfo=UTC) - EPOCH) // _MICROSECOND
_LAST = (datetime(9999, 12, 31, tzinfo=UTC) - EPOCH) // _MICROSECOND
"""A day from the ends of the calendar: every zone has these."""


def now_us() -> int:
    """The time of this machine's clock."""
    return time.time_ns() // 1_000


def utc(us: int) -> datetime:
    """A time as a datetime; what no calendar can hold is moved to its nearest end.

    A service may send any time: what reports it must not fail.

    Examples
    --------
    >>> utc(1_500_000).isoformat(), utc(2**63).year
    ('1970-01-01T00:00:01.500000+00:00', 9999)
    """
    return EPOCH + min(max(int(us), _FIRST), _LAST) * _MICROSECOND


def microseconds(when: datetime) -> int:
    """A datetime as a time, in whatever zone it is given.

    Raises
    ------
    TypeError
        It has no time zone.

    Examples
    --------
    >>> microseconds(datetime.fromisoformat("1970-01-01T01:00:00.000001+01:00"))
    1
    """
    return (when - EPOCH) // _MICROSECOND


def to_us(seconds: float) -> int:
    """Seconds, a duration or a clock's time, to the nearest microsecond.

    Examples
    --------
    >>> to_us(0.25), to_us(1_700_000_000.123456)
    (250000, 1700000000123456)
    """
    return round(seconds * 1e6)


def to_seconds(us: int) -> float:
    """A duration or a time in seconds.

    Examples
    --------
    >>> to_seconds(1_250_000)
    1.25
    """
    return us / 1e6
