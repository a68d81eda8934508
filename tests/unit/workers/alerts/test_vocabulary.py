"""The words that checks, channels and the process share."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import loop
import pytest
import sqlalchemy as sa

from redistill.workers.alerts.alert import SEVERITIES, Alert, Kind, Severity, State
from redistill.workers.alerts.channels.channel import Channel, DeliveryFailed
from redistill.workers.store.tables import alert_deliveries, alert_holds, operational_alerts


class Deaf:
    """A channel that nobody hears."""

    in_place = False
    repeat_seconds = None

    def send(self, alert: Alert, *, seconds: float) -> None:
        raise DeliveryFailed(f"{alert.key} was not told within {seconds} s", after_seconds=5.0)


def test_severities_kinds_and_states_are_told_apart() -> None:
    assert sorted(SEVERITIES) == sorted(get_args(Severity))
    assert SEVERITIES.index("page") > SEVERITIES.index("warn") > SEVERITIES.index("info")
    assert {"incident", "operational", "heartbeat"} <= set(get_args(Kind))
    assert set(get_args(State)) == {"firing", "acknowledged", "resolved"}


def test_a_channel_that_fails_says_whether_and_when_to_try_again() -> None:
    channel: Channel = Deaf()
    alert = Alert(key="test:1", kind="test", state="firing", severity="info", alert_class="test",
                  model=None, version=None, title="a test", opened_at=0)  # fmt: skip
    with pytest.raises(DeliveryFailed) as failed:
        channel.send(alert, seconds=1.0)
    assert (failed.value.retriable, failed.value.after_seconds) == (True, 5.0)


def test_a_database_has_the_tables_of_alerts(tmp_path: Path) -> None:
    database = loop.opened(f"sqlite:///{tmp_path / 'r.db'}")
    with database.read() as conn:
        for table in (operational_alerts, alert_holds, alert_deliveries):
            assert conn.execute(sa.select(table)).all() == []
    database.dispose()
