"""Seconds that a process lived through."""

from __future__ import annotations

import pytest

from redistill.workers.jobs.lived_time import LONGEST_TICK, LivedTime


def test_time_in_which_the_process_was_stopped_does_not_count() -> None:
    now = 10.0
    watch = LivedTime(lambda: now)
    for passed, lived in ((0.5, 0.5), (3_600.0, 0.5 + LONGEST_TICK), (0.25, 0.75 + LONGEST_TICK)):
        now += passed
        assert watch.seconds() == pytest.approx(lived)
