"""Documents: what programs read of redistill. Each shape is a frozen dataclass of JSON's own
values, and ``docs/commands.md`` lists them.

A change that takes a field away or gives it another meaning is told in the changelog; fields are
added without ado. Times are ISO 8601 in UTC and end with Z, durations are seconds.
"""

from __future__ import annotations

from redistill.times import utc

__all__ = ["iso"]


def iso(us: int | None) -> str | None:
    """A time as documents say it.

    Parameters
    ----------
    us
        Microseconds since 1970.

    Examples
    --------
    >>> iso(1_700_000_000_123_456), iso(None)
    ('2023-11-14T22:13:20.123Z', None)
    """
    if us is None:
        return None
    return utc(us).isoformat(timespec="milliseconds").replace("+00:00", "Z")
