"""From an incident in SQL to a receiver and to its end, by the real process, which is killed on the way."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import incident_rows
import pytest
import repairable
from processes import Worker, environment, redistill
from receivers import Receiver, Request, Talk, answers, receiver
from waiting import eventually

from redistill.streams.kafka.broker import Broker, producer
from redistill.streams.kafka.dev_broker import DevBroker
from redistill.streams.store.database import Database
from redistill.streams.wire.codec import encode
from redistill.streams.wire.events import IncidentChanged
from redistill.times import utc
from redistill.workers.store import alert_deliveries, opening

SECRET = "whsec_" + "QUFB" * 12
ALERTS = """
[channels.team]
kind = "webhook"
url = "{url}/alerts"
secret = "env:TEAM_SECRET"
allow_private = ["127.0.0.0/8"]
[storm]
alerts = {alerts}
"""


class Site:
    """An installation without broker and workers, a receiver, and alert processes."""

    def __init__(self, home: Path, heard: Receiver, **settings: str) -> None:
        self.home, self.heard = home, heard
        home.mkdir()
        opened = repairable.settings_of(home)
        opening.upgrade(opened)
        self.database: Database = opening.open(opened)
        self.env = environment(home=str(home), **settings) | {"TEAM_SECRET": SECRET}
        self.workers: list[Worker] = []

    def configure(self, *, storm: int = 5) -> None:
        text = ALERTS.format(url=self.heard.url, alerts=storm)
        (self.home / "alerts.toml").write_text(text)

    def start(self) -> Worker:
        name = f"alerts-{len(self.workers)}"
        worker = Worker(name, ["run", "alerts"], self.env, self.home / "logs").start()
        self.workers.append(worker)
        eventually(lambda: worker.says("alerts_started") or not worker.alive, "the process runs")
        assert worker.alive, worker.tail()
        return worker

    def told(self) -> list[tuple[str, str]]:
        """Key and state of everything that came, in order."""
        data = [request.json["data"] for request in list(self.heard.requests)]
        return [(one["key"], one["state"]) for one in data]

    def close(self) -> None:
        for worker in self.workers:
            worker.stop()
        self.database.dispose()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with receiver() as heard:
        made = Site(tmp_path / "home", heard)
        made.configure()
        try:
            yield made
        finally:
            made.close()


def incident(site: Site, model: str = "credit") -> str:
    with site.database.begin() as conn:
        return incident_rows.open_incident(conn, model=model, now=site.database.clock())


def noted(site: Site, key: str, state: str) -> bool:
    with site.database.read() as conn:
        row = alert_deliveries.read(conn).get(("team", key))
    return row is not None and (row.state, row.told_state) == ("told", state)


@pytest.mark.slow
def test_incident_is_told_and_its_end_although_processes_are_killed_on_the_way(site: Site) -> None:
    arrived, closing = threading.Event(), threading.Event()

    def takes_it_and_says_nothing(_: Request, talk: Talk) -> None:
        arrived.set()
        closing.wait(60)

    site.heard.behaviour = takes_it_and_says_nothing
    first = site.start()
    eventually(lambda: first.says("alerts_lead"), "the first process leads")
    second = site.start()
    key = f"incident:{incident(site)}"
    eventually(arrived.is_set, "the receiver has it, and nothing is noted")
    first.kill()
    site.heard.behaviour = answers(200)
    closing.set()
    eventually(lambda: noted(site, key, "firing"), "the second process sends the same again")
    told = [request.json["data"] for request in site.heard.requests]
    assert len(told) == 2
    assert told[0] == told[1]
    assert told[0]["title"] == "credit v1: error 5.0% → 60.0%"
    second.kill()
    with site.database.begin() as conn:
        incident_rows.resolve(conn, key.partition(":")[2], now=site.database.clock())
    site.start()
    eventually(lambda: site.told()[-1] == (key, "resolved"), "its end is told")
    assert Counter(site.told()) == {(key, "firing"): 2, (key, "resolved"): 1}


@pytest.mark.slow
def test_storm_of_fifty_models_is_one_alert_that_ends_once(site: Site) -> None:
    site.start()
    now = site.database.clock()
    with site.database.begin() as conn:
        numbers = [
            incident_rows.open_incident(conn, model=m, now=now) for m in incident_rows.models(50)
        ]
    eventually(lambda: site.told(), "it is told")
    ((key, _),) = site.told()
    assert key.startswith("storm:")
    (data,) = [request.json["data"] for request in site.heard.requests]
    assert data["title"] == "harm in 50 models at once: m0000, m0001, m0002 and 47 more"
    with site.database.begin() as conn:
        incident_rows.resolve(conn, *numbers, now=site.database.clock())
    eventually(lambda: site.told()[-1] == (key, "resolved"), "its end is told")
    assert site.told() == [(key, "firing"), (key, "resolved")]


@pytest.mark.slow
def test_thousand_incidents_are_each_told_once(site: Site) -> None:
    site.configure(storm=2_000)
    site.start()
    now = site.database.clock()
    with site.database.begin() as conn:
        incident_rows.open_many(conn, incident_rows.models(1_000), now=now)
    begun = time.monotonic()
    eventually(lambda: len(site.heard.requests) >= 1_000, "all are told")
    print(f"1,000 incidents were told in {time.monotonic() - begun:.1f} s")
    eventually(lambda: _all_noted(site), "all are noted")
    assert set(Counter(site.told()).values()) == {1}


def _all_noted(site: Site) -> bool:
    with site.database.read() as conn:
        rows = alert_deliveries.read(conn).values()
    return sum(row.state == "told" for row in rows) == 1_000


@pytest.mark.slow
def test_forged_record_pages_nobody(tmp_path: Path) -> None:
    memory = DevBroker()
    try:
        broker: Broker = memory.start()
        with receiver() as heard:
            site = Site(tmp_path / "home", heard, broker=broker.servers)
            site.configure()
            try:
                assert redistill(["topics", "apply"], site.env).returncode == 0
                worker = site.start()
                eventually(lambda: worker.says("alerts_lead"))
                _forge(broker)
                key = f"incident:{incident(site)}"
                eventually(lambda: noted(site, key, "firing"), "a real one is told")
                assert site.told() == [(key, "firing")]
            finally:
                site.close()
    finally:
        memory.stop()


def _forge(broker: Broker) -> None:
    """An event about an incident that SQL does not know, and a record that is no event."""
    forged = IncidentChanged(
        incident_id=uuid4(), model="credit", version="v1", incident_class="harm", status="opened",
        cause=None, decision="ask_person", why="send money", finding_ids=[], opened_at=utc(0), at=utc(0),
    )  # fmt: skip
    made = encode(forged, source="/somebody")
    sender: Any = producer(broker)
    topic = broker.topic(made.topic)
    sender.send(topic, value=made.value, headers=list(made.headers))
    sender.send(topic, value=b"rubbish")
    sender.flush(30)
    sender.close()


@pytest.mark.slow
def test_channel_that_refuses_is_told_on_another_one_that_was_added_meanwhile(site: Site) -> None:
    site.heard.behaviour = answers(401)
    worker = site.start()
    key = f"incident:{incident(site)}"
    eventually(lambda: worker.says("alert_failed"), "the first channel refuses it")
    file = site.home / "alerts.toml"
    right = file.read_text()
    file.write_text(right + "[channels.boss]\n")
    eventually(lambda: worker.says("alerts_file_wrong"), "a file that is wrong is said")
    with receiver() as boss:
        again = ALERTS.format(url=boss.url, alerts=5).replace("channels.team", "channels.boss")
        file.write_text(right + again.partition("[storm]")[0])
        eventually(
            lambda: [
                r for r in boss.requests if r.json["data"]["alert_class"] == "channel_failing"
            ],
            "the other channel is told",
        )
        told = {r.json["data"]["key"]: r.json["data"] for r in boss.requests}
    assert key in told, "and of the incident as well"
    (trouble,) = [one for one in told.values() if one["kind"] == "operational"]
    assert trouble["where"] == "team"
    assert trouble["commands"] == ["redistill alerts test team"]
