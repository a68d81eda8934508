from __future__ import annotations

from typing import get_args

from redistill.workers.alerts.alert import Kind
from redistill.workers.alerts.channels.kind import ALERTS, HEARTBEAT


def test_every_kind_of_alert_is_an_alert_or_a_heartbeat() -> None:
    assert set(get_args(Kind)) == ALERTS | HEARTBEAT
    assert not ALERTS & HEARTBEAT
