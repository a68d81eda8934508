"""The alert process, wired: who tells, when it is not ready, and when its heart stops."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import incident_rows
import pytest
from receivers import Receiver, answers, receiver
from structlog.testing import capture_logs
from waiting import eventually

from redistill.streams.store import lease, process_rows
from redistill.streams.store.database import Database
from redistill.streams.store.process_rows import Presence
from redistill.workers.alerts.operational import heart
from redistill.workers.alerts.operational import round as checks
from redistill.workers.alerts.operational.look import Look
from redistill.workers.alerts.operational.table import Operational
from redistill.workers.errors import SettingsError
from redistill.workers.processes import alert_worker
from redistill.workers.processes.alert_worker import AlertWorker
from redistill.workers.settings.settings import Settings
from redistill.workers.store import opening

FILE = """
[channels.team]
kind = "webhook"
url = "{url}/alerts"
secret = "env:TEAM_SECRET"
allow_private = ["127.0.0.0/8"]
[channels.heart]
kind = "ping"
url = "{url}/ping"
allow_private = ["127.0.0.0/8"]
[storm]
settle_seconds = 0
[heartbeat]
channel = "heart"
every_seconds = 5
"""


class Site:
    """An installation whose other processes live, and alert processes in this one."""

    def __init__(self, home: Path, heard: Receiver) -> None:
        home.mkdir()
        self.heard, self.file = heard, home / "alerts.toml"
        self.file.write_text(FILE.format(url=heard.url))
        self.settings = Settings.load({"home": str(home), "servers": None})
        opening.upgrade(self.settings)
        self.database: Database = opening.open(self.settings)
        self.others = [Presence(self.database, k, k) for k in ("stream", "repair")]
        self.workers: list[tuple[AlertWorker, threading.Event]] = []

    def start(self) -> AlertWorker:
        stop = threading.Event()
        worker = AlertWorker(self.settings, database=self.database, broker=None, stop=stop)
        self.workers.append((worker, stop))
        worker.start()
        return worker

    def end(self, worker: AlertWorker) -> bool:
        for known, stop in self.workers:
            if known is worker:
                stop.set()
        self.workers = [one for one in self.workers if one[0] is not worker]
        return worker.finish()

    def incident(self, model: str = "credit") -> str:
        with self.database.begin() as conn:
            number = incident_rows.open_incident(conn, model=model, now=self.database.clock())
        return f"incident:{number}"

    def told(self) -> list[str]:
        sent = [r for r in list(self.heard.requests) if r.path == "/alerts"]
        return [r.json["data"]["key"] for r in sent if r.json["data"]["kind"] == "incident"]

    def beats(self) -> int:
        return sum(r.path == "/ping" for r in list(self.heard.requests))

    def alerts_row(self) -> tuple[bool, str]:
        """Whether the alert process says that it is ready, and what it waits for."""
        for other in self.others:
            other.say()
        with self.database.read() as conn:
            rows = [r for r in process_rows.seen(conn) if r.kind == "alerts"]
        return (rows[0].ready, rows[0].said) if rows else (False, "")

    def why(self) -> tuple[str, ...] | None:
        """Why the heart does not beat; ``None``: it was not asked."""
        for other in self.others:
            other.say()
        with self.database.read() as conn:
            state = heart.state(conn)
        return None if state is None else state.why

    def holder(self) -> str | None:
        with self.database.read() as conn:
            return lease.holder_of(conn, alert_worker.LEASE, self.database.clock())

    def close(self) -> None:
        for worker, _ in list(self.workers):
            self.end(worker)
        self.database.dispose()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("TEAM_SECRET", "whsec_" + "QUFB" * 12)
    for name, seconds in (("PLAN_SECONDS", 0.05), ("CHECK_SECONDS", 0.1), ("HEART_SECONDS", 0.1),
                          ("BEAT_SECONDS", 0.1), ("FAILING_SECONDS", 0.1)):  # fmt: skip
        monkeypatch.setattr(alert_worker, name, seconds)
    with receiver() as heard:
        made = Site(tmp_path / "home", heard)
        try:
            yield made
        finally:
            made.close()


def test_process_that_cannot_look_is_not_ready_and_its_heart_stops(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_worker, "CHECKS_LATE_SECONDS", 1.0)

    def broken(look: Look) -> Any:
        raise ZeroDivisionError(look.now)

    well = dict(checks.CHECKS)
    site.start()
    eventually(lambda: site.alerts_row() == (True, "") and site.why() == (), "it beats")
    with capture_logs() as lines:
        for kind, known in well.items():
            monkeypatch.setitem(
                checks.CHECKS, kind, Operational(severity=known.severity, check=broken)
            )
        eventually(
            lambda: (
                site.alerts_row()
                == (False, "nobody could look at the installation for two minutes")
            ),
            "it says that it is not ready",
        )
        eventually(site.why, "the heart stops")
    assert any("not ready" in why for why in site.why() or ())
    assert {line["kind"] for line in lines if line["action"] == "check_failed"} == well.keys()
    key = site.incident()
    eventually(lambda: key in site.told(), "people are told of drift all the same")
    for kind, known in well.items():
        monkeypatch.setitem(checks.CHECKS, kind, known)
    eventually(lambda: site.why() == (), "it beats again")


def test_a_file_that_became_wrong_changes_nothing_and_one_that_is_right_counts(site: Site) -> None:
    worker = site.start()
    first = site.incident()
    eventually(lambda: site.told() == [first])
    right = site.file.read_text()
    with capture_logs() as lines:
        site.file.write_text(right + "[channels.boss]\n")
        eventually(lambda: [x for x in lines if x["action"] == "alerts_file_wrong"])
    second = site.incident("fraud")
    eventually(lambda: site.told() == [first, second])
    with receiver() as other:
        site.file.write_text(right.replace(f"{site.heard.url}/alerts", f"{other.url}/moved"))
        third = site.incident("churn")
        eventually(lambda: [r.json["data"]["key"] for r in other.requests] == [third])
        assert site.end(worker)


def test_wrong_file_refuses_the_start(site: Site) -> None:
    site.file.write_text('[channels.team]\nkind = "webhok"')
    with pytest.raises(SettingsError, match="did you mean webhook"):
        site.start()


def test_of_two_processes_one_tells_and_the_other_takes_over(site: Site) -> None:
    first = site.start()
    eventually(lambda: site.holder() == first.holder)
    second = site.start()
    eventually(lambda: second.tasks["plan"].done_at and site.holder() == first.holder)
    one = site.incident()
    eventually(lambda: site.told() == [one])
    assert site.end(first)
    eventually(lambda: site.holder() == second.holder)
    two = site.incident("fraud")
    eventually(lambda: two in site.told())
    assert site.told() == [one, two]


def test_process_whose_lease_was_taken_tells_nobody_until_it_has_it_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_worker, "RENEW_SECONDS", 0.0)
    site.heard.behaviour = answers(503)
    first = site.start()
    eventually(lambda: site.holder() == first.holder)
    with site.database.begin() as conn:
        now = site.database.clock()
        lease.expire(conn, alert_worker.LEASE, first.holder)
        assert lease.acquire(conn, alert_worker.LEASE, "other", now=now, seconds=3_600) is not None
    eventually(lambda: site.holder() == "other")
    before = first.tasks["plan"].done_at
    eventually(lambda: first.tasks["plan"].done_at > before)
    site.heard.behaviour = answers(200)
    site.incident()
    before = first.tasks["plan"].done_at
    eventually(lambda: first.tasks["plan"].done_at > before)
    assert site.told() == []
    with site.database.begin() as conn:
        lease.expire(conn, alert_worker.LEASE, "other")
    eventually(lambda: len(site.told()) == 1)
