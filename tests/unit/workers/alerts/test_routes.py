from __future__ import annotations

from datetime import UTC, datetime

import pytest
from alert_rows import NOW, alert

from redistill.times import MINUTE, microseconds
from redistill.workers.alerts import routes
from redistill.workers.alerts.alert import Alert
from redistill.workers.alerts.alerts_file import Quiet, Route


def to(
    one: Alert, *ways: Route, now: int = NOW, since: dict[str, int] | None = None
) -> dict[str, str]:
    return dict(routes.targets(one, ways, now=now, since=(since or {}).get))


@pytest.mark.parametrize(
    ("route", "matches"),
    [
        ({}, True),
        ({"models": ("cre*",)}, True),
        ({"models": ("fraud", "credit")}, True),
        ({"models": ("Credit",)}, False),
        ({"classes": ("harm",)}, True),
        ({"classes": ("incident",)}, True),
        ({"classes": ("data_bug", "disk")}, False),
        ({"min_severity": "page"}, False),
        ({"min_severity": "info"}, True),
    ],
)
def test_route_takes_what_meets_all_its_conditions(route: dict[str, object], matches: bool) -> None:
    assert to(alert(), Route(channels=("team",), **route)) == ({"team": "warn"} if matches else {})


def test_what_concerns_no_model_passes_only_the_pattern_of_all() -> None:
    trouble = alert(kind="operational", alert_class="disk", model=None)
    assert to(trouble, Route(channels=("a",))) == {"a": "warn"}
    assert to(trouble, Route(channels=("a",), models=("c*",))) == {}


def test_channel_of_two_routes_is_told_once_at_the_higher_severity() -> None:
    both = [Route(channels=("a",), severity="info"), Route(channels=("a", "b"), severity="page")]
    assert to(alert(), *both) == to(alert(), *both[::-1]) == {"a": "page", "b": "page"}


ESCALATING = Route(channels=("oncall",), escalate_after_minutes=15, escalate_to=("boss",))
PAGE = alert(severity="page")


@pytest.mark.parametrize(
    ("one", "waited", "escalated"),
    [
        (PAGE, 15 * MINUTE, True),
        (PAGE, 15 * MINUTE - 1, False),
        (PAGE, None, False),
        (alert(severity="page", state="acknowledged"), 60 * MINUTE, False),
        (alert(severity="page", state="resolved"), 60 * MINUTE, False),
        (alert(), 60 * MINUTE, False),
    ],
)
def test_page_that_nobody_acknowledges_goes_further(
    one: Alert, waited: int | None, escalated: bool
) -> None:
    since = {} if waited is None else {"oncall": NOW - waited}
    assert ("boss" in to(one, ESCALATING, since=since)) is escalated


@pytest.mark.parametrize(
    ("hour", "quiet"), [(20, False), (21, True), (23, True), (0, True), (5, True), (6, False)]
)
def test_quiet_hours_are_those_of_their_time_zone(hour: int, quiet: bool) -> None:
    night = Quiet(begin="22:00", end="07:00", timezone="Europe/Berlin")
    at = microseconds(datetime(2026, 1, 10, hour, tzinfo=UTC))
    assert routes.is_quiet(night, "warn", at) is quiet
    assert not routes.is_quiet(night, "page", at)
    assert not routes.is_quiet(None, "info", at)


def test_worst_of_none_is_for_the_record() -> None:
    assert routes.worst([]) == "info"
    assert routes.worst(["warn", "page", "info"]) == "page"
