from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redistill.times import SECOND, microseconds, now_us, to_seconds, to_us, utc

FIRST, LAST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
NAIVE = st.datetimes(FIRST.replace(tzinfo=None), LAST.replace(tzinfo=None))
ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(NAIVE.map(lambda when: when.replace(tzinfo=UTC)))
def test_a_datetime_survives_being_an_integer(when: datetime) -> None:
    assert utc(microseconds(when)) == when


@given(NAIVE, ZONES)
def test_the_zone_says_which_time_it_is(when: datetime, zone: timezone) -> None:
    offset = zone.utcoffset(None) // timedelta(microseconds=1)
    there, here = when.replace(tzinfo=zone), when.replace(tzinfo=UTC)
    assert microseconds(there) == microseconds(here) - offset


@given(st.integers(-(2**55), 2**57))
def test_an_integer_survives_being_a_datetime(us: int) -> None:
    assert microseconds(utc(us)) == us


def test_no_microsecond_is_rounded_where_a_float_of_seconds_has_none_left() -> None:
    us = microseconds(datetime(9000, 1, 1, tzinfo=UTC)) + 1
    assert microseconds(utc(us)) == us != round(to_seconds(us) * 1e6)


@given(st.integers(-(2**63), 2**63 - 1))
def test_what_a_service_may_send_is_a_datetime(us: int) -> None:
    assert FIRST <= utc(us) <= LAST
    for hours in (-23, 23):
        assert utc(us).astimezone(timezone(timedelta(hours=hours))) == utc(us)
    assert utc(np.int64(us)) == utc(us)  # type: ignore[arg-type]


def test_a_datetime_without_a_zone_is_refused() -> None:
    with pytest.raises(TypeError):
        microseconds(datetime(2026, 1, 1))  # noqa: DTZ001


@given(st.integers(0, 2**52))
def test_seconds_of_a_clock_keep_their_microseconds_for_a_hundred_years(us: int) -> None:
    assert to_us(to_seconds(us)) == us


def test_now_is_the_clocks_time() -> None:
    before = datetime.now(UTC)
    now = utc(now_us())
    after = datetime.now(UTC)
    assert before - timedelta(milliseconds=1) <= now <= after + timedelta(milliseconds=1)
    assert to_us(1.0) == SECOND
