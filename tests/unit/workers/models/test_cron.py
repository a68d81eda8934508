"""Cron expressions: what is refused here is what the scheduler would refuse."""

from __future__ import annotations

import pytest
from apscheduler.triggers.cron import CronTrigger

from redistill.workers.models import cron


@pytest.mark.parametrize(
    ("expression", "good"),
    [
        ("0 3 * * SUN", True),
        ("*/15 0-6,20 1 jan-mar mon", True),
        ("60 * * * *", False),
        ("* * 0 * *", False),
        ("*/0 * * * *", False),
        ("5-1 * * * *", False),
        ("* * * * funday", False),
        ("* * * *", False),
    ],
)
def test_cron_problem_finds_what_apscheduler_refuses(expression: str, good: bool) -> None:
    assert (cron.problem(expression) is None) == good
    if good:
        CronTrigger.from_crontab(expression, timezone="UTC")
    else:
        with pytest.raises(ValueError):
            CronTrigger.from_crontab(expression, timezone="UTC")


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("0 24 * * *", "hour '24': 0 to 23 was expected"),
        ("0 0 0 * *", "day of the month '0': 1 to 31 was expected"),
        ("0 0 1,32 * *", "day of the month '32': 1 to 31 was expected"),
        ("0 0 * 13 *", "month '13': 1 to 12 or jan to dec was expected"),
        ("0 0 * * 7", "day of the week '7': 0 to 6 or mon to sun was expected"),
        ("0 0 * *", "five fields were expected: minute hour day month weekday"),
    ],
)
def test_a_wrong_field_is_said_with_its_part_and_its_range(expression: str, said: str) -> None:
    assert str(cron.problem(expression)).startswith(said)
