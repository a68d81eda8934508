"""A round looks at everything, and writes down what opened and ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import loop
import pytest
import sqlalchemy as sa
from operational import NOW, Watched, watched
from structlog.testing import capture_logs

from redistill.streams.errors import StoreUnavailable
from redistill.streams.store import process_rows
from redistill.streams.store.process_rows import SILENT_US
from redistill.streams.store.tables import gaps, outbox
from redistill.times import HOUR, MINUTE, SECOND
from redistill.workers.alerts.operational import round as module
from redistill.workers.alerts.operational.look import Look
from redistill.workers.alerts.operational.reading import Reading
from redistill.workers.alerts.operational.round import Changes, run
from redistill.workers.alerts.operational.table import CHECKS, Operational
from redistill.workers.store.tables import operational_alerts


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[Watched]:
    with watched(database_url, tmp_path / "home") as made:
        with made.database.begin() as conn:
            loop.register(conn, loop.spec())
        yield made


def turn(world: Watched, later: int = 0) -> Changes:
    world.now += later
    return run(world.database, world.settings, world.now)


def open_rows(world: Watched) -> list[tuple[str, str]]:
    a = operational_alerts.c
    with world.database.read() as conn:
        rows = conn.execute(sa.select(a.kind, a.subject).where(a.open_mark == 1).order_by(a.kind))
        return [(kind, subject) for kind, subject in rows]


@pytest.fixture(autouse=True)
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk of this machine is not what is tried here."""
    monkeypatch.setitem(module.CHECKS, "disk", Operational(severity="page", check=lambda _: []))


def test_an_installation_that_is_well_has_no_alerts(world: Watched) -> None:
    world.process("s", "stream", started=MINUTE, seen=0)
    assert not turn(world)
    assert open_rows(world) == []


def test_alerts_open_and_end_and_are_logged_once(world: Watched) -> None:
    gap = {"topic_id": "t", "partition": 3, "topic": "labels", "first": 4, "last": 5}
    world.insert(gaps, gap | {"found_at": NOW})
    event = {"topic": "drift", "key": "", "headers": "{}", "value": b"", "event_id": "a"}
    world.insert(outbox, event | {"created_at": NOW - 3 * MINUTE})
    with capture_logs() as lines:
        assert turn(world) == Changes(
            opened=(("gap", "labels"), ("outbox_unsent", "drift")), ended=()
        )
        assert not turn(world, 10 * SECOND)
        world.update(outbox, sent_at=NOW)
        assert turn(world, 10 * SECOND).ended == (("outbox_unsent", "drift"),)
        assert turn(world, HOUR).ended == (("gap", "labels"),)
    assert [(x["action"], x["kind"]) for x in lines] == [
        ("operational_alert", "gap"),
        ("operational_alert", "outbox_unsent"),
        ("operational_alert_ended", "outbox_unsent"),
        ("operational_alert_ended", "gap"),
    ]
    assert "labels: 2 records in 1 place are lost" in lines[0]["said"]
    assert open_rows(world) == []


def test_memory_goes_on_in_the_next_process(world: Watched) -> None:
    world.process("s", "stream", started=MINUTE, seen=0)
    for _ in range(3):
        turn(world, 20 * SECOND)
    assert open_rows(world) == [("process_silent", "s")]


def test_processes_whose_place_was_taken_are_forgotten(world: Watched) -> None:
    turn(world)
    world.process("old", "stream", started=HOUR, seen=SILENT_US + SECOND)
    turn(world, SILENT_US)
    assert open_rows(world) == [("process_silent", "old")]
    world.process("new", "stream", started=SECOND, seen=0)
    assert turn(world, SECOND).ended == (("process_silent", "old"),)
    with world.database.read() as conn:
        assert [row.process_id for row in process_rows.seen(conn)] == ["new"]


def test_a_check_that_fails_holds_up_none_of_the_others(
    world: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn(world)
    gap = {"topic_id": "t", "partition": 3, "topic": "labels", "first": 4, "last": 5}
    world.insert(gaps, gap | {"found_at": NOW})
    turn(world)

    def broken(look: Look) -> list[Reading]:
        look.conn.execute(sa.text("SELECT no_such_column FROM gaps"))
        return []

    well = module.CHECKS["gap"]
    monkeypatch.setitem(module.CHECKS, "gap", Operational(severity="warn", check=broken))
    event = {"topic": "drift", "key": "", "headers": "{}", "value": b"", "event_id": "a"}
    world.insert(outbox, event | {"created_at": NOW - 3 * MINUTE})
    with capture_logs() as lines:
        assert turn(world, SECOND).opened == (("outbox_unsent", "drift"),)
        turn(world, SECOND)
        failed = [line["kind"] for line in lines if line["action"] == "check_failed"]
        assert failed == ["gap"], "it is said once"
        monkeypatch.setitem(module.CHECKS, "gap", well)
        turn(world, SECOND)
        monkeypatch.setitem(module.CHECKS, "gap", Operational(severity="warn", check=broken))
        turn(world, SECOND)
    assert [line["action"] for line in lines].count("check_failed") == 2, "and again if it is back"
    assert ("gap", "labels") in open_rows(world), "nothing is known of it, so it stays"


def test_a_database_that_is_away_is_no_check_s_failure(
    world: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: Look) -> list[Reading]:
        raise StoreUnavailable("away")

    monkeypatch.setitem(module.CHECKS, "gap", Operational(severity="warn", check=away))
    with pytest.raises(StoreUnavailable):
        turn(world)


def test_every_check_looks_at_an_empty_installation(world: Watched) -> None:
    for kind, operational in CHECKS.items():
        found = world.look(operational.check)
        assert not found, kind
