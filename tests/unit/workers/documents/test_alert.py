from __future__ import annotations

from dataclasses import replace

from alert_rows import NOW, alert

from redistill.workers.documents.alert import line_of_alert
from redistill.workers.store.alert_deliveries import Delivery

AT = "2025-11-24T16:00:00.000Z"
OWED = Delivery(
    channel="team", alert_key="incident:1", state="owed", digest="d", title="t", severity="page",
    since=NOW, not_before=NOW, wanted_at=NOW, tries=2, error="503",
)  # fmt: skip


def test_line_says_what_each_channel_knows() -> None:
    told = replace(OWED, state="told", told="d", tries=0, error=None, sent_at=NOW)
    made = line_of_alert(alert(), [OWED, told])
    assert (made.key, made.opened_at) == ("incident:1", AT)
    first, second = made.channels
    assert (first.owed_since, first.next_try_at, first.error, first.told_at) == (
        AT,
        AT,
        "503",
        None,
    )
    assert (second.owed_since, second.next_try_at, second.told_at) == (None, None, AT)
