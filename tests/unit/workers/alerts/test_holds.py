from __future__ import annotations

import pytest
from alert_rows import NOW, alert

from redistill.times import HOUR
from redistill.workers.alerts.holds import again, held, rests
from redistill.workers.store.alert_holds import Hold

ACKNOWLEDGED = Hold(acknowledged_at=NOW, acknowledged_by="cli:ann")
SNOOZED = Hold(snoozed_until=NOW + HOUR, snoozed_by="cli:ann")


def test_acknowledged_alert_says_who_has_it() -> None:
    made = held(alert(done="job 3 runs"), ACKNOWLEDGED, NOW)
    assert made.state == "acknowledged"
    assert made.done == "job 3 runs; acknowledged by cli:ann at 2025-11-24 16:00 UTC"


def test_snoozed_alert_rests_until_its_time_and_comes_again() -> None:
    assert held(alert(), SNOOZED, NOW).done == "snoozed by cli:ann until 2025-11-24 17:00 UTC"
    assert rests(SNOOZED, NOW)
    assert again(SNOOZED, NOW) == 0
    assert held(alert(), SNOOZED, NOW + HOUR) == alert()
    assert not rests(SNOOZED, NOW + HOUR)
    assert again(SNOOZED, NOW + HOUR) == NOW + HOUR


@pytest.mark.parametrize("hold", [None, Hold(), ACKNOWLEDGED, SNOOZED])
def test_resolved_alert_is_resolved_whoever_had_it(hold: Hold | None) -> None:
    ended = alert(state="resolved", resolved_at=NOW)
    assert held(ended, hold, NOW) == ended
