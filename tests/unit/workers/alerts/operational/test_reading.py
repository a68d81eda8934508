"""Alerts open at one bound and end at another, so that none of them flaps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redistill.workers.alerts.operational.reading import Reading, settle


def reading(value: float | None, subject: str = "labels") -> Reading:
    return Reading(subject=subject, value=value, opens=10.0, closes=5.0, said="", remedy="")


def states(values: list[float | None]) -> list[bool]:
    """Whether the alert is open after each value."""
    opened: set[str] = set()
    out = []
    for value in values:
        settled = settle([reading(value)], opened)
        opened = (opened | {r.subject for r in settled.firing}) - settled.ended
        out.append(bool(opened))
    return out


def test_alert_opens_at_one_bound_and_ends_at_the_lower_one() -> None:
    assert states([4, 9.9, 10, 9, 5.1, 5, 9.9, 10]) == [
        False, False, True, True, True, False, False, True,
    ]  # fmt: skip


def test_what_is_not_known_changes_nothing() -> None:
    assert states([None, 10, None, 5, None]) == [False, True, True, False, False]
    assert settle(None, ["labels"]).ended == frozenset()


def test_trouble_ends_with_its_subject() -> None:
    settled = settle([reading(11, "drift")], {"labels", "drift"})
    assert ([r.subject for r in settled.firing], settled.ended) == (["drift"], {"labels"})


def test_bounds_leave_room_between_them() -> None:
    with pytest.raises(ValueError, match="labels: 3 is not below 3"):
        Reading(subject="labels", value=1, opens=3, closes=3, said="", remedy="")


@given(st.floats(0, 20), st.lists(st.floats(-2.4, 2.4), max_size=50))
def test_noise_smaller_than_the_room_between_the_bounds_never_flaps(
    level: float, noise: list[float]
) -> None:
    after = states([level + x for x in noise])
    changes = sum(a != b for a, b in zip([False, *after], after, strict=False))
    assert changes <= 2, "it opens once, and ends once at most"
    assert changes < 2 or 5 - 2.4 <= level <= 5 + 2.4 or 10 - 2.4 <= level <= 10 + 2.4


@given(st.lists(st.one_of(st.none(), st.floats(0, 20)), max_size=60))
def test_it_opens_only_at_its_bound_and_ends_only_at_the_other(values: list[float | None]) -> None:
    before = False
    for value, after in zip(values, states(values), strict=True):
        if after and not before:
            assert value is not None
            assert value >= 10
        if before and not after:
            assert value is not None
            assert value <= 5
        before = after
