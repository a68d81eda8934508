from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redistill.times import DAY, HOUR, MINUTE, SECOND
from redistill.workers.alerts.operational.words import amount, count, duration, size

UNITS = {"s": SECOND, "min": MINUTE, "h": HOUR, "d": DAY}


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (0, "0 s"),
        (999_999, "0 s"),
        (59 * SECOND, "59 s"),
        (60 * SECOND, "1 min"),
        (61 * SECOND, "1 min 1 s"),
        (130 * SECOND, "2 min 10 s"),
        (15 * MINUTE + 3 * SECOND, "15 min"),
        (3 * HOUR + 20 * MINUTE, "3 h 20 min"),
        (47 * HOUR, "47 h"),
        (2 * DAY, "2 d"),
        (40 * DAY + HOUR, "40 d"),
        (-1, "0 s"),
    ],
)
def test_duration_has_at_most_two_units(us: int, text: str) -> None:
    assert duration(us) == text


@given(st.integers(0, 10**14))
def test_duration_is_right_to_a_tenth(us: int) -> None:
    words = duration(us).split()
    told = sum(int(n) * UNITS[unit] for n, unit in zip(words[::2], words[1::2], strict=True))
    assert told <= us
    assert us - told <= max(SECOND, us / 10)


def test_numbers_verbs_and_sizes_fit() -> None:
    assert count(1, "record") == "1 record"
    assert count(2, "process", "processes") == "2 processes"
    assert (amount(1, "is", "are"), amount(0, "is", "are")) == ("is", "are")
    assert (size(999), size(2_500_000_000_000)) == ("999 bytes", "2.5 TB")
