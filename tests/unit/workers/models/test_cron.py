"""Cron expressions against a brute-force reading of Vixie's rules, minute by minute of a year."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from numpy.typing import NDArray

from redistill.workers.models import cron

YEAR = datetime(2028, 1, 1, tzinfo=UTC)  # a leap year
MINUTES = 366 * 24 * 60
BERLIN = ZoneInfo("Europe/Berlin")

LIMITS = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]
WORDS = {
    3: ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    4: ["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
}


@cache
def columns() -> list[NDArray[np.int64]]:
    """Minute, hour, day, month and weekday (Sunday is 0) of each minute of the year."""
    moments = [YEAR + timedelta(minutes=i) for i in range(MINUTES)]
    rows = [(m.minute, m.hour, m.day, m.month, int(f"{m:%w}")) for m in moments]
    return list(np.array(rows).T)


def vixie(expression: str) -> NDArray[np.bool_]:
    """Which minutes of the year are due: bits are set as cron's entry.c does it."""
    masks = []
    fields = expression.lower().split()
    for text, (low, high), column in zip(fields, LIMITS, columns(), strict=True):
        bits = np.zeros(high + 2, bool)
        for part in text.split(","):
            body, _, step = part.partition("/")
            words = WORDS.get(LIMITS.index((low, high)), [])
            first, _, last = body.partition("-")
            ends = [words.index(w) + low if w in words else w for w in (first, last) if w]
            ends = [low, high] if body == "*" else [int(e) for e in ends]
            if len(ends) == 1:
                ends.append(high if step else ends[0])
            bits[ends[0] : ends[1] + 1 : int(step or 1)] = True
        if (low, high) == (0, 7):
            bits[0] = bits[7] = bits[0] or bits[7]
        masks.append(bits[column])
    minute, hour, day, month, weekday = masks
    star = fields[2].startswith("*") or fields[4].startswith("*")
    return minute & hour & month & ((day & weekday) if star else (day | weekday))


def expression_of(rng: random.Random) -> str:
    """An expression that is probably good."""
    fields = []
    for place, (low, high) in enumerate(LIMITS):
        parts = []
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            a, b = sorted(rng.choices(range(low, high + 1), k=2))
            step = f"/{rng.randint(1, max(1, min(b - a, 6)))}" if b > a else ""
            kinds = [str(a), f"{a}-{b}", f"{a}-{b}{step}", "*", f"*/{rng.randint(1, 6)}"]
            if place in WORDS:
                words = WORDS[place]
                kinds += [rng.choice(words), rng.choice(words).upper()]
            parts.append(rng.choice(kinds if place != 0 else kinds[:2]))
        fields.append(rng.choice(["*", ",".join(parts)]) if place else ",".join(parts))
    return " ".join(fields)


def due(expression: str, *, limit: int) -> list[int]:
    """Minutes of the year that are due, the first ``limit`` of them, by our reading."""
    schedule, moment, out = cron.parse(expression), YEAR - timedelta(seconds=1), []
    while len(out) < limit and (later := schedule.after(moment)) is not None:
        if (minute := int((later - YEAR).total_seconds() // 60)) >= MINUTES:
            break
        assert later.second == later.microsecond == 0
        out.append(minute)
        moment = later
    return out


@pytest.mark.parametrize("seed", range(60))
def test_the_next_and_the_last_due_time_are_those_of_a_brute_force_vixie_cron(seed: int) -> None:
    rng = random.Random(seed)
    expression = expression_of(rng)
    wanted = np.flatnonzero(vixie(expression))
    if cron.problem(expression) is not None:
        assert not wanted.size, expression  # only what never comes is refused
        return
    assert due(expression, limit=50) == wanted[:50].tolist(), expression
    schedule = cron.parse(expression)
    for at in rng.choices(range(MINUTES), k=20):
        moment = YEAR + timedelta(minutes=at, seconds=rng.randint(0, 59))
        before, after = wanted[wanted <= at], wanted[wanted > at]
        if before.size:
            assert schedule.until(moment) == YEAR + timedelta(minutes=int(before[-1]))
        if after.size:
            assert schedule.after(moment) == YEAR + timedelta(minutes=int(after[0]))
            # Which zone, and whether its clocks are being changed, makes no difference.
            assert schedule.after(moment.astimezone(BERLIN)) == schedule.after(moment)


@pytest.mark.parametrize(
    ("expression", "days"),
    [
        ("0 3 * * 0", "Sun"),
        ("0 3 * * 7", "Sun"),
        ("0 3 * * 1-5", "Mon Tue Wed Thu Fri"),
        ("0 3 * * 5-7", "Fri Sat Sun"),
        ("0 3 * * sat-sun", "Sat Sun"),
        ("0 3 * * 0-6", "Mon Tue Wed Thu Fri Sat Sun"),
        ("0 3 * * 0-7", "Mon Tue Wed Thu Fri Sat Sun"),
        ("0 3 * * */2", "Tue Thu Sat Sun"),
        ("0 3 * * 1-5/2", "Mon Wed Fri"),
        ("0 3 * * mon,WED,5", "Mon Wed Fri"),
        ("@weekly", "Sun"),
        ("@daily", "Mon Tue Wed Thu Fri Sat Sun"),
    ],
)
def test_days_of_the_week_are_numbered_as_people_know_them(expression: str, days: str) -> None:
    schedule, moment = cron.parse(expression), datetime(2026, 3, 1, 12, tzinfo=UTC)
    found = []
    while len(found) < len(days.split()):
        later = schedule.after(moment)
        assert later is not None
        found.append(f"{later:%a}")
        moment = later
    assert sorted(found) == sorted(days.split())


def test_either_kind_of_day_is_due_where_both_are_restricted() -> None:
    schedule = cron.parse("0 3 13 * FRI")
    first = schedule.after(datetime(2026, 3, 1, tzinfo=UTC))
    assert first == datetime(2026, 3, 6, 3, tzinfo=UTC)  # a Friday
    assert schedule.after(datetime(2026, 4, 11, tzinfo=UTC)) == datetime(2026, 4, 13, 3, tzinfo=UTC)
    both = cron.parse("0 3 */2 * FRI")  # one with a star: a day must suit both
    assert both.after(datetime(2026, 3, 1, tzinfo=UTC)) == datetime(2026, 3, 13, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("60 * * * *", "minute '60': 0 to 59 was expected"),
        ("0 24 * * *", "hour '24': 0 to 23 was expected"),
        ("0 0 0 * *", "day of the month '0': 1 to 31 was expected"),
        ("0 0 1,32 * *", "day of the month '32': 1 to 31 was expected"),
        ("0 0 * 13 *", "month '13': 1 to 12 or jan to dec was expected"),
        (
            "0 0 * * 8",
            "day of the week '8': 0 to 7 or sun to sat (0 and 7 are Sunday) was expected",
        ),
        ("* * * * funday", "day of the week 'funday': 0 to 7 or sun to sat"),
        ("* * * * fri-mon", "day of the week 'fri-mon': it ends before it begins"),
        ("5-1 * * * *", "minute '5-1': it ends before it begins"),
        ("*/100 * * * *", "minute '*/100': after / a step of 1 to 59 was expected"),
        ("0-59/100 * * * *", "minute '0-59/100': after / a step of 1 to 59 was expected"),
        ("*/0 * * * *", "minute '*/0': after / a step of 1 to 59 was expected"),
        ("*/x * * * *", "minute '*/x': after / a step of 1 to 59 was expected"),
        ("1,,2 * * * *", "minute '': 0 to 59 was expected"),
        ("\u0663 * * * *", "minute '\u0663': 0 to 59 was expected"),
        ("0 0 * * 1/2", "day of the week '1/2': which days? Write the range, such as 1-6/2"),
        ("0 0 31 2 *", "day of the month '31': month '2' never has it"),
        ("0 0 31 feb,4,jun *", "day of the month '31': month 'feb,4,jun' never has it"),
        ("0 0 ? * 1", "day of the month '?': ?, L, W, # and ~ are not known here"),
        ("0 0 L * *", "day of the month 'l': ?, L, W, # and ~ are not known here"),
        ("0 0 15W * *", "day of the month '15w': ?, L, W, # and ~ are not known here"),
        ("0 0 * * 5#2", "day of the week '5#2': ?, L, W, # and ~ are not known here"),
        ("0 0 * *", "five fields were expected: minute hour day month weekday"),
        ("", "five fields were expected: minute hour day month weekday"),
        ("0 0 3 * * *", "seconds and years cannot be given; five fields were expected"),
        ("@reboot", "'@reboot' is not known: @yearly, @annually, @monthly, @weekly"),
    ],
)
def test_a_wrong_expression_is_refused_with_its_part_and_what_was_expected(
    expression: str, said: str
) -> None:
    assert str(cron.problem(expression)).startswith(said)


@pytest.mark.parametrize("seed", range(20))
def test_any_text_is_either_read_or_refused_in_a_sentence(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(500):
        text = "".join(rng.choices("0123456789*/-,@ LW#?~sunmojafeb\n\u00e9", k=rng.randint(0, 20)))
        if (wrong := cron.problem(text)) is None:
            assert cron.parse(text).after(YEAR) is not None
        else:
            assert re.search(r"\w", wrong)


def test_a_leap_day_on_a_certain_weekday_is_found_in_decades() -> None:
    schedule = cron.parse("0 0 29 2 */6")  # a Sunday or a Saturday
    assert schedule.after(datetime(2096, 3, 1, tzinfo=UTC)) == datetime(2116, 2, 29, tzinfo=UTC)
