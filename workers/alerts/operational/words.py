"""Words for figures in sentences: durations of at most two units, counts, bytes."""

from __future__ import annotations

from redistill.times import DAY, HOUR, MINUTE, SECOND

__all__ = ["amount", "count", "duration", "size"]

UNITS = ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (SECOND, "s"))
LONG = 10
"""So many of a unit are told without the next smaller one."""
STEPS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def duration(us: float) -> str:
    """A duration (microseconds) in its largest unit, with the next one where that says something.

    Examples
    --------
    >>> duration(3_800_000), duration(130 * SECOND), duration(2 * HOUR), duration(29 * HOUR)
    ('3 s', '2 min 10 s', '2 h', '29 h')
    >>> duration(90 * HOUR), duration(-5)
    ('3 d 18 h', '0 s')
    """
    left = max(0, int(us))
    for i, (unit, name) in enumerate(UNITS):
        n, rest = divmod(left, unit)
        if unit == DAY and n < 2:  # 29 h says more than 1 d 5 h
            continue
        if n == 0 and unit != SECOND:
            continue
        smaller = UNITS[i + 1] if i + 1 < len(UNITS) else None
        if smaller is None or n >= LONG or rest < smaller[0]:
            return f"{n} {name}"
        return f"{n} {name} {rest // smaller[0]} {smaller[1]}"
    raise AssertionError("seconds are the last unit")


def count(n: int, one: str, many: str | None = None) -> str:
    """So many of something.

    Examples
    --------
    >>> count(1, "record"), count(12_345, "record"), count(2, "is", "are")
    ('1 record', '12,345 records', '2 are')
    """
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def amount(n: int, one: str, many: str) -> str:
    """A verb that fits a number.

    Examples
    --------
    >>> amount(1, "waits", "wait"), amount(2, "waits", "wait")
    ('waits', 'wait')
    """
    return one if n == 1 else many


def size(n: float) -> str:
    """Bytes, to a tenth of their unit.

    Examples
    --------
    >>> size(512), size(1_234_567), size(5e9)
    ('512 bytes', '1.2 MB', '5.0 GB')
    """
    value, step = float(n), 0
    while value >= 1_000 and step + 1 < len(STEPS):
        value, step = value / 1_000, step + 1
    return f"{value:.0f} {STEPS[step]}" if step == 0 else f"{value:.1f} {STEPS[step]}"
