"""Cron expressions: whether ``CronTrigger.from_crontab`` can read one, and what is wrong."""

from __future__ import annotations

import re

__all__ = ["problem"]

FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    (
        "month",
        1,
        12,
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    ),
    ("day of the week", 0, 6, ("mon", "tue", "wed", "thu", "fri", "sat", "sun")),
)
"""Name, smallest and largest value, and names of each field (days of the week: Monday is 0)."""

PART = re.compile(r"^(\*|[a-z0-9]+(?:-[a-z0-9]+)?)(?:/(\d+))?$")


def problem(expression: str) -> str | None:
    """What is wrong with a cron expression; ``None``: nothing.

    Examples
    --------
    >>> problem("0 3 * * SUN"), problem("*/15 8-18 * * mon-fri")
    (None, None)
    >>> problem("every day")
    'five fields were expected: minute hour day month weekday, for example "0 3 * * SUN"'
    >>> problem("0 25 * * *")
    "hour '25': 0 to 23 was expected"
    """
    fields = expression.lower().split()
    if len(fields) != len(FIELDS):
        return 'five fields were expected: minute hour day month weekday, for example "0 3 * * SUN"'
    for text, (name, low, high, names) in zip(fields, FIELDS, strict=True):
        for part in text.split(","):
            if not _readable(part, low, high, names):
                known = f" or {names[0]} to {names[-1]}" if names else ""
                return f"{name} {part!r}: {low} to {high}{known} was expected"
    return None


def _readable(part: str, low: int, high: int, names: tuple[str, ...]) -> bool:
    match = PART.match(part)
    if match is None or match[2] == "0":
        return False
    if match[1] == "*":
        return True
    values = []
    for word in match[1].split("-"):
        if word in names:
            values.append(names.index(word) + (1 if low == 1 else 0))
        elif word.isdigit() and low <= int(word) <= high:
            values.append(int(word))
        else:
            return False
    return values == sorted(values)
