from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import loop
import sqlalchemy as sa
from loop import NOW

from redistill.workers.alerts.delivery import FAILING_TRIES
from redistill.workers.alerts.failing import failing, tell_failing
from redistill.workers.store import alert_deliveries
from redistill.workers.store.alert_deliveries import Delivery
from redistill.workers.store.tables import operational_alerts

OWED = Delivery(
    channel="oncall", alert_key="incident:1", state="owed", digest="d", title="t", severity="page",
    since=NOW, not_before=NOW, wanted_at=NOW, tries=FAILING_TRIES, error="401: the key is wrong",
)  # fmt: skip


def test_channel_fails_after_several_tries_of_one_alert_or_of_several() -> None:
    assert failing([replace(OWED, tries=FAILING_TRIES - 1)]) == {}
    assert failing([replace(OWED, state="held")]) == {}
    assert failing([OWED]) == {
        "oncall": "channel oncall does not deliver: 1 alert after 5 tries: 401: the key is wrong"
    }
    several = [replace(OWED, alert_key=f"incident:{i}", tries=1) for i in range(FAILING_TRIES)]
    assert "5 alerts after 5 tries" in failing(several)["oncall"]


def test_failing_channel_is_trouble_until_it_delivers_or_is_there_no_more(tmp_path: Path) -> None:
    database = loop.opened(f"sqlite:///{tmp_path / 'r.db'}")

    def known() -> list[tuple[str, str, bool]]:
        with database.read() as conn:
            rows = conn.execute(sa.select(operational_alerts)).mappings()
            return [(r["kind"], r["subject"], r["open_mark"] == 1) for r in rows]

    def note(row: Delivery) -> None:
        with database.begin() as conn:
            alert_deliveries.plan(conn, [row])
            alert_deliveries.note(conn, row)

    tell_failing(database, ["oncall"], now=NOW)
    assert known() == []
    note(OWED)
    tell_failing(database, ["oncall"], now=NOW)
    tell_failing(database, ["oncall"], now=NOW + 1)
    assert known() == [("channel_failing", "oncall", True)]
    note(replace(OWED, state="told", told="d", told_state="firing", tries=0, sent_at=NOW))
    tell_failing(database, ["oncall"], now=NOW + 2)
    assert known() == [("channel_failing", "oncall", False)]
    note(OWED)
    tell_failing(database, ["team"], now=NOW + 3)
    assert len(known()) == 1
    database.dispose()
