from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import loop
from loop import NOW

from redistill.workers.store import alert_deliveries
from redistill.workers.store.alert_deliveries import Delivery

OWED = Delivery(
    channel="team", alert_key="incident:1", state="owed", digest="d", title="t", severity="page",
    since=NOW, not_before=NOW, wanted_at=NOW,
)  # fmt: skip


def test_delivery_is_written_in_place_read_and_deleted(tmp_path: Path) -> None:
    database = loop.opened(f"sqlite:///{tmp_path / 'r.db'}")
    told = replace(OWED, state="told", told="d", told_state="firing", sent_at=NOW)
    other = replace(OWED, channel="oncall")
    with database.begin() as conn:
        alert_deliveries.plan(conn, [OWED, other])
        alert_deliveries.plan(conn, [])
        alert_deliveries.note(conn, told)
        found = alert_deliveries.read(conn)
        assert found == {("team", "incident:1"): told, ("oncall", "incident:1"): other}
        alert_deliveries.delete(conn, [("team", "incident:1")])
        assert list(alert_deliveries.read(conn)) == [("oncall", "incident:1")]
    database.dispose()


def test_channel_that_was_told_of_a_fire_has_to_hear_of_its_end() -> None:
    assert not OWED.told_open
    assert replace(OWED, told="d", told_state="acknowledged").told_open
    assert not replace(OWED, told="d", told_state="resolved").told_open


def test_note_and_plan_do_not_undo_each_other(tmp_path: Path) -> None:
    database = loop.opened(f"sqlite:///{tmp_path / 'r.db'}")
    told = replace(OWED, state="told", told="d", told_state="firing", sent_at=NOW + 1)
    newer = replace(OWED, digest="e", title="more", wanted_at=NOW + 2)
    with database.begin() as conn:
        alert_deliveries.plan(conn, [OWED])
        alert_deliveries.plan(conn, [newer])
        alert_deliveries.note(conn, told)  # of what it was owed before
        (row,) = alert_deliveries.read(conn).values()
        assert (row.state, row.digest, row.told, row.told_state) == ("owed", "e", "d", "firing")
        alert_deliveries.plan(conn, [newer])  # made of what was read before the note
        (row,) = alert_deliveries.read(conn).values()
        assert (row.told, row.sent_at, row.told_open) == ("d", NOW + 1, True)
        failed = replace(newer, tries=3, error="503", not_before=NOW + 9)
        alert_deliveries.note(conn, failed)
        (row,) = alert_deliveries.read(conn).values()
        assert (row.state, row.tries, row.error, row.told) == ("owed", 3, "503", "d")
    database.dispose()


def test_what_was_told_is_noted_even_where_its_row_went(tmp_path: Path) -> None:
    database = loop.opened(f"sqlite:///{tmp_path / 'r.db'}")
    told = replace(OWED, state="told", told="d", told_state="firing", sent_at=NOW)
    with database.begin() as conn:
        alert_deliveries.note(conn, replace(OWED, tries=1))
        assert alert_deliveries.read(conn) == {}
        alert_deliveries.note(conn, told)
        assert list(alert_deliveries.read(conn).values()) == [told]
    database.dispose()


def test_what_ended_long_ago_is_not_read(tmp_path: Path) -> None:
    database = loop.opened(f"sqlite:///{tmp_path / 'r.db'}")
    ended = replace(OWED, state="told", told="d", told_state="resolved", sent_at=NOW)
    with database.begin() as conn:
        alert_deliveries.note(conn, ended)
        assert alert_deliveries.read(conn, since=NOW) == {}
        assert len(alert_deliveries.read(conn, since=NOW - 1)) == 1
    database.dispose()
