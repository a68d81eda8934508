"""Cron expressions as Vixie's cron reads them, in UTC: when one is due, and what is wrong with one.

Days of the week are numbered as people know them: 0 and 7 are Sunday. Where both the day of the
month and the day of the week are restricted, a day that suits either is one.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

__all__ = ["in_words", "parse", "problem"]

EXPECTED = 'five fields were expected: minute hour day month weekday, for example "0 3 * * SUN"'

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

DAYS = 41 * 366
"""Farthest that a due day is looked for: a 29 February that must be a certain weekday comes every
28 years, or 40 where a century is no leap year."""

PART = re.compile(r"(?P<star>\*)|(?P<first>\w+)(?:-(?P<last>\w+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class CronField:
    """What may stand in one of the five places."""

    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()
    """Names of the values, from ``low`` on."""


FIELDS = (
    CronField("minute", 0, 59),
    CronField("hour", 0, 23),
    CronField("day of the month", 1, 31),
    CronField(
        "month",
        1,
        12,
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    ),
    WEEKDAY := CronField(
        "day of the week", 0, 7, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
    ),
)


@dataclass(frozen=True, slots=True)
class Cron:
    """A schedule, as the times and days that it names."""

    times: tuple[time, ...]
    """Of a day, ascending."""
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """Sunday is 0."""
    either: bool
    """Both kinds of days are restricted: a day that suits one of them is due."""

    def after(self, moment: datetime) -> datetime | None:
        """The first due time after ``moment``; ``None``: none within 40 years."""
        return next((t for t in self._times(moment, 1) if t > moment), None)

    def until(self, moment: datetime) -> datetime | None:
        """The last due time at or before ``moment``; ``None``: none within 40 years."""
        return next((t for t in self._times(moment, -1) if t <= moment), None)

    def _times(self, moment: datetime, step: int) -> Iterator[datetime]:
        """Due times from the day of ``moment`` on, forwards or (``step=-1``) backwards."""
        first = moment.astimezone(UTC).date()
        for day in (first + timedelta(days=i * step) for i in range(DAYS)):
            if self._on(day):
                for clock in self.times[::step]:
                    yield datetime.combine(day, clock, UTC)

    def _on(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        suits = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return any(suits) if self.either else all(suits)


def parse(expression: str) -> Cron:
    """Read a cron expression.

    Raises
    ------
    ValueError
        In a sentence: what is wrong with it.

    Examples
    --------
    >>> sunday = parse("0 3 * * 7")
    >>> sunday.after(datetime(2026, 11, 25, 12, tzinfo=UTC)).isoformat()
    '2026-11-29T03:00:00+00:00'
    """
    text = expression.strip().lower()
    if text.startswith("@"):
        if text not in MACROS:
            raise ValueError(f"{expression!r} is not known: {', '.join(MACROS)} are; or {EXPECTED}")
        text = MACROS[text]
    parts = text.split()
    if len(parts) != len(FIELDS):
        hint = "seconds and years cannot be given; " if len(parts) in (6, 7) else ""
        raise ValueError(hint + EXPECTED)
    sets = [_field(part, at) for part, at in zip(parts, FIELDS, strict=True)]
    minutes, hours, days, months, weekdays = sets
    either = not any(parts[i].startswith("*") for i in (2, 4))
    if not either and min(days) > max(monthrange(2024, m)[1] for m in months):
        raise ValueError(f"day of the month {parts[2]!r}: month {parts[3]!r} never has it")
    return Cron(
        times=tuple(time(h, m) for h in sorted(hours) for m in sorted(minutes)),
        days=frozenset(days),
        months=frozenset(months),
        weekdays=frozenset(d % 7 for d in weekdays),
        either=either,
    )


def problem(expression: str) -> str | None:
    """What is wrong with a cron expression; ``None``: nothing.

    Examples
    --------
    >>> problem("0 3 * * SUN"), problem("*/15 8-18 * * mon-fri")
    (None, None)
    >>> problem("0 25 * * *")
    "hour '25': 0 to 23 was expected"
    """
    try:
        parse(expression)
    except ValueError as error:
        return str(error)
    return None


def in_words(moment: datetime) -> str:
    """A due time for a person, with its day of the week: a schedule a day off is seen.

    Examples
    --------
    >>> in_words(datetime(2026, 11, 29, 3, tzinfo=UTC))
    'Sunday 29 November 2026, 03:00 UTC'
    """
    return f"{moment.astimezone(UTC):%A %-d %B %Y, %H:%M} UTC"


def _field(text: str, at: CronField) -> set[int]:
    return {value for part in text.split(",") for value in _part(part, at)}


def _part(part: str, at: CronField) -> range:
    """Values of one part of a list: ``*``, ``3``, ``1-5``, each with ``/step`` behind it."""
    body, slash, step = part.partition("/")
    found = PART.fullmatch(body)
    if found is None:
        raise _wrong(part, at, _dialect(body))
    low, high = at.low, 6 if at is WEEKDAY else at.high  # 7 is the 0 that was counted already
    if not found["star"]:
        low = _value(found["first"], part, at)
        if found["last"] is not None:
            high = _value(found["last"], part, at)
            if found["last"] == "sun" and low > 0:
                high = 7  # sat-sun: the week may end with a Sunday
        elif not slash:
            high = low
        elif at is WEEKDAY:  # some crons count to 6, others to 7
            raise _wrong(part, at, f"which days? Write the range, such as {body}-6/{step}")
    if low > high:
        raise _wrong(part, at, "it ends before it begins: write two ranges, with a comma between")
    if not slash:
        return range(low, high + 1)
    if not re.fullmatch(r"[0-9]{1,4}", step) or not 0 < int(step) <= max(1, high - low):
        raise _wrong(part, at, f"after / a step of 1 to {max(1, high - low)} was expected")
    return range(low, high + 1, int(step))


def _value(word: str, part: str, at: CronField) -> int:
    if word in at.words:
        return at.words.index(word) + at.low
    if re.fullmatch(r"[0-9]{1,4}", word) and at.low <= int(word) <= at.high:
        return int(word)
    raise _wrong(part, at, _dialect(word))


def _dialect(text: str) -> str:
    """Why a part that other programs know is refused; or what was expected instead."""
    if re.search(r"[?#~]|^l$|[0-9]l$|[0-9]w$", text):
        return "?, L, W, # and ~ are not known here"
    return ""


def _wrong(part: str, at: CronField, why: str) -> ValueError:
    names = f" or {at.words[0]} to {at.words[-1]}" if at.words else ""
    sunday = " (0 and 7 are Sunday)" if at is WEEKDAY else ""
    expected = f"{at.low} to {at.high}{names}{sunday} was expected"
    return ValueError(f"{at.name} {part!r}: {why or expected}")
