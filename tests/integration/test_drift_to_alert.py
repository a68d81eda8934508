"""From predictions that go wrong to an alert that fires in a real Alertmanager and to its end there, by
the real processes on a real Kafka; the alert process is killed on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alertmanager_server import AlertmanagerServer, notified
from kafka_server import KafkaServer
from processes import Worker, redistill
from receivers import Receiver
from stream_lab import PARTITIONS, Lab
from stream_rows import label, prediction
from waiting import eventually

from redistill.streams.store import tables as t
from redistill.workers.processes import topics
from redistill.workers.store import alert_deliveries
from redistill.workers.store.tables import incidents

pytestmark = [pytest.mark.kafka, pytest.mark.alertmanager, pytest.mark.slow]

ALERTS = """
[channels.am]
kind = "alertmanager"
url = "{url}"
allow_private = ["127.0.0.0/8"]
lasts_seconds = 3600           # nothing ends there unless it is told
"""
ROWS = 400


class World:
    """A watched model with traffic, its stream and repair workers, and alert processes."""

    def __init__(self, lab: Lab, manager: AlertmanagerServer) -> None:
        self.lab, self.manager = lab, manager
        wanted = topics.wanted(lab.broker, partitions=PARTITIONS)
        topics.apply(lab.broker, wanted, replication=1, create=True)
        lab.register()
        assert redistill(["keys", "init"], lab.env).returncode == 0
        file = lab.folder / "home" / "alerts.toml"
        file.write_text(ALERTS.format(url=manager.url))
        self.sent = 0
        lab.worker().start()
        repair, self.alerts = self._worker("repair"), self._worker("alerts")
        self.waits(lambda: repair.says("repair_started"), "the repair worker runs")
        self.waits(lambda: self.alerts.says("alerts_lead"), "the alert process leads")

    def _worker(self, name: str) -> Worker:
        made = Worker(name, ["run", name], self.lab.env, self.lab.folder / "logs")
        self.lab.workers.append(made)
        return made.start()

    def waits(self, check: Any, what: str) -> Any:
        """Wait for a condition; fail with what the processes said."""
        try:
            return eventually(check, what)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.lab.logs()}") from None

    def serve(self, *, wrong_of_ten: int) -> None:
        """Predictions with their labels, so many of ten wrong; waits until they are counted."""
        ids = range(self.sent, self.sent + ROWS)
        self.lab.send(prediction(i, right=i % 10 >= wrong_of_ten) for i in ids)
        self.lab.send(label(i) for i in ids)
        self.sent += ROWS
        self.lab.wait_counted(self.sent)
        self.lab.wait_counted(self.sent, topic="labels")

    def incident(self) -> Any:
        """The only one; ``None``: there is none."""
        rows = self.lab.rows(incidents)
        assert len(rows) <= 1
        return rows[0] if rows else None

    def told(self, key: str) -> str | None:
        """Which state of an alert is noted as told; empty: it is owed; ``None``: nothing is."""
        with self.lab.db.read() as conn:
            row = alert_deliveries.read(conn).get(("am", key))
        return None if row is None else row.told_state or ""

    def harm_fires_although_the_alert_process_is_killed(self) -> str:
        """Usual traffic, then harm; the alert process dies between plan and note. Returns the
        alert's key."""
        self.serve(wrong_of_ten=1)
        with self.manager.frozen():
            self.serve(wrong_of_ten=7)
            self.waits(self.incident, "harm is found, and an incident opened")
            (finding,) = [f for f in self.lab.rows(t.findings) if f.kind == "accuracy"]
            assert finding.status != "resolved"
            key = f"incident:{self.incident().incident_id}"
            self.waits(lambda: self.told(key) == "", "it is owed, and Alertmanager does not answer")
            self.alerts.kill()
        assert self.told(key) == ""
        self.alerts.start()
        (alert,) = self.waits(lambda: self.manager.alerts(redistill_key=key), "it fires")
        assert alert["labels"]["model"] == "credit"
        assert alert["labels"]["class"] == "harm"
        assert alert["labels"]["severity"] == "critical"
        assert alert["annotations"]["summary"].startswith("credit 7: error 10.0% → ")
        self.waits(lambda: self.told(key) == "firing", "it is noted")
        return key


@pytest.fixture
def world(
    kafka_server: KafkaServer,
    alertmanager_server: AlertmanagerServer,
    database_url: str,
    tmp_path: Path,
) -> Iterator[World]:
    lab = Lab(kafka_server.bootstrap, database_url, tmp_path)
    try:
        yield World(lab, alertmanager_server)
    finally:
        lab.close()


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_harm_fires_in_alertmanager_and_ends_by_a_person_although_the_alert_process_is_killed_twice(
    world: World, told_by_alertmanager: Receiver
) -> None:
    key = world.harm_fires_although_the_alert_process_is_killed()
    world.alerts.kill()
    done = redistill(
        ["incidents", "resolve", key.partition(":")[2], "--reason", "mended"], world.lab.env
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert world.manager.alerts(redistill_key=key), "nobody is there who could tell"
    world.alerts.start()
    world.waits(lambda: not world.manager.alerts(redistill_key=key), "it is resolved there")
    world.waits(
        lambda: notified(told_by_alertmanager, key)[-1:] == [("resolved", "critical")],
        "Alertmanager tells its end",
    )
    assert world.told(key) == "resolved"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_alert_ends_in_alertmanager_when_the_model_is_right_again(world: World) -> None:
    key = world.harm_fires_although_the_alert_process_is_killed()

    def resolved() -> bool:
        world.serve(wrong_of_ten=1)
        return bool(world.incident().status == "resolved")

    world.waits(resolved, "the incident ends by itself")
    assert world.incident().resolution == "reverted"
    world.waits(lambda: not world.manager.alerts(redistill_key=key), "it is resolved there")
