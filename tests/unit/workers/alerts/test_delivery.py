from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from alert_rows import NOW, alert
from hypothesis import given
from hypothesis import strategies as st

from redistill.times import DAY, HOUR, SECOND
from redistill.workers.alerts import delivery
from redistill.workers.alerts.alert import Alert
from redistill.workers.alerts.channels.channel import DeliveryFailed
from redistill.workers.store.alert_deliveries import Delivery

AWAY = DeliveryFailed("connection refused")


def owed(one: Alert, row: Delivery | None = None, *, now: int = NOW, **more: Any) -> Delivery:
    given = {"channel": "a", "in_place": True, "again": 0, "settle": 0} | more
    return delivery.owed(one, row, now=now, **given)


def told(one: Alert, *, now: int = NOW, **more: Any) -> Delivery:
    return delivery.sent(owed(one, now=now, **more), one, now=now)


def test_new_alert_is_owed_once_it_has_settled() -> None:
    row = owed(alert(), settle=SECOND)
    assert (row.state, row.not_before, row.told) == ("owed", NOW + SECOND, None)
    late = owed(alert(), settle=SECOND, now=NOW + HOUR)
    assert late.not_before == NOW + SECOND


def test_told_state_is_owed_no_more_and_a_changed_one_is() -> None:
    row = told(alert())
    assert owed(alert(), row) == row
    ended = alert(state="resolved", resolved_at=NOW)
    again = owed(ended, row, now=NOW + 1)
    assert (again.state, again.not_before, again.told_open) == ("owed", NOW + 1, True)
    assert not delivery.sent(again, ended, now=NOW + 2).told_open


def test_update_of_figures_waits_and_a_change_of_state_or_severity_does_not() -> None:
    row = told(alert())
    assert (
        owed(alert(how_bad="worse"), row, now=NOW + 1).not_before == NOW + delivery.UPDATE_PAUSE_US
    )
    assert owed(alert(state="acknowledged"), row, now=NOW + 1).not_before == NOW + 1
    assert owed(alert(severity="page"), row, now=NOW + 1).not_before == NOW + 1


@pytest.mark.parametrize(
    ("changed", "tells"),
    [
        ({"how_bad": "worse", "done": "more", "title": "other"}, False),
        ({"state": "acknowledged"}, False),
        ({"severity": "page"}, True),
        ({"state": "resolved"}, True),
        ({"members": ("a", "b")}, True),
    ],
)
def test_channel_that_replaces_nothing_hears_of_what_matters(
    changed: dict[str, Any], tells: bool
) -> None:
    row = told(alert(), in_place=False)
    assert (owed(alert(**changed), row, in_place=False).state == "owed") is tells
    assert owed(alert(**changed), told(alert())).state == "owed"


@pytest.mark.parametrize("in_place", [True, False])
def test_snooze_that_ended_tells_the_same_again(in_place: bool) -> None:
    row = told(alert(), in_place=in_place)
    made = owed(alert(), row, in_place=in_place, again=NOW + HOUR, now=NOW + HOUR)
    assert (made.state, made.since) == ("owed", NOW + HOUR)


def test_since_is_when_it_became_as_severe_as_it_is() -> None:
    row = told(alert())
    worse = owed(alert(severity="page"), row, now=NOW + HOUR)
    assert worse.since == NOW + HOUR
    assert owed(alert(severity="page", how_bad="x"), worse, now=NOW + 2 * HOUR).since == NOW + HOUR
    over = delivery.sent(owed(alert(state="resolved"), row), alert(state="resolved"), now=NOW)
    assert owed(alert(), over, now=NOW + DAY).since == NOW + DAY


def test_failures_are_tried_again_later_and_later() -> None:
    row, rng, at = owed(alert()), Random(1), NOW
    pauses = []
    for _ in range(12):
        row = delivery.failed(row, AWAY, now=at, rng=rng)
        pauses.append(row.not_before - at)
        at = row.not_before
    assert (row.state, row.tries, row.error) == ("owed", 12, "connection refused")
    assert pauses[0] <= SECOND < pauses[4] < pauses[-1] <= 300 * SECOND
    told = delivery.sent(row, alert(), now=at)
    assert (told.tries, told.error, told.state) == (0, None, "told")


def test_newer_text_does_not_hurry_a_channel_in_trouble() -> None:
    row = delivery.failed(owed(alert()), AWAY, now=NOW, rng=Random(1))
    again = owed(alert(severity="page"), row, now=NOW + 1)
    assert (again.not_before, again.tries) == (row.not_before, 1)


def test_what_cannot_help_counts_as_failing_at_once_and_is_tried_seldom() -> None:
    wrong = DeliveryFailed("401: the key is wrong", retriable=False)
    row = delivery.failed(owed(alert()), wrong, now=NOW, rng=Random(1))
    assert row.tries == delivery.FAILING_TRIES
    assert row.not_before == NOW + 300 * SECOND


def test_receiver_that_asks_for_time_gets_it_up_to_an_hour() -> None:
    for asked, kept in ((120.0, 120), (1e9, 3_600)):
        slow = DeliveryFailed("429", after_seconds=asked)
        assert (
            delivery.failed(owed(alert()), slow, now=NOW, rng=Random(1)).not_before
            == NOW + kept * SECOND
        )


@pytest.mark.parametrize("asked", [None, 120.0, 1e9])
def test_what_could_not_be_told_for_days_is_tried_once_an_hour(asked: float | None) -> None:
    old = replace(owed(alert()), wanted_at=NOW - 4 * DAY, tries=500)
    away = DeliveryFailed("503", after_seconds=asked)
    row = delivery.failed(old, away, now=NOW, rng=Random(1))
    assert (row.state, row.not_before) == ("given_up", NOW + HOUR)
    assert owed(alert(), row, now=NOW + SECOND, took_at=NOW - 1) == row
    again = delivery.failed(row, AWAY, now=NOW + HOUR, rng=Random(1))
    assert (again.state, again.not_before) == ("given_up", NOW + 2 * HOUR)


def test_what_was_given_up_is_told_soon_where_there_is_news_or_the_channel_is_back() -> None:
    old = replace(owed(alert()), wanted_at=NOW - 4 * DAY)
    row = delivery.failed(old, AWAY, now=NOW, rng=Random(1))
    soon = NOW + round(delivery.LONGEST_PAUSE_SECONDS * SECOND)
    for more in ({"took_at": NOW + 1}, {}):
        news = alert() if more else alert(state="resolved")
        made = owed(news, row, now=NOW + SECOND, **more)
        assert (made.state, made.not_before) == ("owed", soon)


@given(st.integers(1, 10_000), st.integers(0, 2**31))
def test_pause_is_between_half_of_it_and_all_of_it(tries: int, seed: int) -> None:
    full = min(300.0, 2.0 ** min(tries - 1, 30))
    assert full / 2 <= delivery.pause_seconds(tries, Random(seed)) <= full


def test_what_was_kept_back_is_owed_from_when_it_may_be_told() -> None:
    held = replace(owed(alert()), state="held")
    assert owed(alert(), held, now=NOW + DAY).wanted_at == NOW + DAY
    assert owed(alert(severity="page"), held, now=NOW + DAY).wanted_at == NOW + DAY


@pytest.mark.parametrize("changed", [{}, {"how_bad": "worse"}, {"severity": "page"}])
def test_clock_that_was_ahead_keeps_nothing_back_for_long(changed: dict[str, Any]) -> None:
    ahead = NOW + 30 * DAY
    failed = delivery.failed(owed(alert(), now=ahead), AWAY, now=ahead, rng=Random(1))
    assert owed(alert(**changed), failed).not_before <= NOW + HOUR
    assert owed(alert(how_bad="x"), told(alert(), now=ahead)).not_before <= NOW + HOUR
