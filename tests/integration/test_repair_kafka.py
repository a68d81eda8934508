"""The repair worker on a real Kafka: what wakes it, what it stores, and what it says."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hostile
import loop
import pytest
import repairable
import sqlalchemy as sa
from kafka_server import KafkaServer
from structlog.testing import capture_logs
from waiting import eventually

from redistill.streams.errors import BrokerRefused
from redistill.streams.kafka.broker import Broker, consumer, producer
from redistill.streams.store.database import Database
from redistill.streams.store.tables import leases
from redistill.streams.wire.codec import Record, decode, encode
from redistill.streams.wire.events import DriftFound, IncidentChanged, VersionActivated
from redistill.times import now_us
from redistill.workers.incidents.event_consumer import EventConsumer
from redistill.workers.jobs.child import Child
from redistill.workers.processes import topics
from redistill.workers.processes.repair_worker import RepairWorker
from redistill.workers.store import opening
from redistill.workers.store.tables import activations, incidents

pytestmark = pytest.mark.kafka

IDLE = '''
"""Stands where the pipeline would: these tests make no job that runs."""

def run(folder, *, progress=None):
    raise RuntimeError("no job was expected")
'''


@pytest.fixture
def broker(kafka_server: KafkaServer) -> Broker:
    found = Broker(kafka_server.bootstrap, namespace=f"repair-{uuid.uuid4().hex[:8]}")
    topics.apply(found, topics.wanted(found), replication=1, create=True)
    return found


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    settings = repairable.settings_of(tmp_path / "home")
    opening.upgrade(settings)
    opened = opening.open(settings)
    with opened.begin() as conn:
        loop.register(conn, loop.spec(level="rollback"))
    yield opened
    opened.dispose()


def send(broker: Broker, *events: Any, raw: tuple[str, bytes] | None = None) -> None:
    sender = producer(broker)
    try:
        for event in events:
            made = encode(event, source="test")
            sender.send(
                broker.topic(made.topic), value=made.value, key=made.key, headers=made.headers
            ).get(timeout=20)
        if raw is not None:
            sender.send(broker.topic(raw[0]), value=raw[1]).get(timeout=20)
    finally:
        sender.close()


def activation(version: str = "v1") -> VersionActivated:
    return VersionActivated(
        model="credit",
        instance_id="svc-1",
        version=version,
        sha256="ab" * 32,
        epoch=1,
        at=datetime(2026, 11, 25, tzinfo=UTC),
    )


def rows(database: Database, table: sa.Table) -> list[Any]:
    with database.read() as conn:
        return list(conn.execute(sa.select(table)).mappings())


def test_listener_hands_over_findings_stores_activations_and_skips_rubbish(
    broker: Broker, database: Database
) -> None:
    found = loop.finding()
    send(broker, found, activation(), raw=("drift", b"\x00rubbish"))
    send(broker, activation("v2"), found)
    seen: list[str] = []
    listener = EventConsumer(broker, group="g", database=database, on_finding=seen.append)
    try:
        with capture_logs() as lines:
            eventually(
                lambda: listener.run_once() and len(rows(database, activations)) == 2 and seen,
                "both topics are read",
                every=0.0,
            )
    finally:
        listener.close()
    assert set(seen) == {str(found.finding_id)}
    assert [x["topic"] for x in lines if x.get("action") == "record_unreadable"] == [
        broker.topic("drift")
    ]
    assert {a["version"] for a in rows(database, activations)} == {"v1", "v2"}

    again = EventConsumer(broker, group="g", database=database, on_finding=seen.append)
    try:
        before = len(seen)
        for _ in range(8):
            again.run_once()
        assert len(seen) == before  # what was handled was committed
    finally:
        again.close()


def test_listener_lives_on_strange_records_and_stores_those_beside_them(
    broker: Broker, database: Database
) -> None:
    """All of them in one poll: the good ones before a bad one are stored too."""
    strange = hostile.strange_records(lambda i: activation(f"v{i}"))
    hostile.send(broker, "activations", *strange)
    hostile.send(broker, "drift", *hostile.strange_records(lambda i: activation(f"w{i}")))
    send(broker, activation("last"))
    wanted = {f"{kind}{i}" for kind in "vw" for i in hostile.READABLE[:3]} | {"last"}
    listener = EventConsumer(broker, group="g3", database=database, on_finding=lambda _: None)

    def stored() -> set[str]:
        listener.run_once()
        return {a["version"] for a in rows(database, activations)}

    try:
        eventually(lambda: wanted <= stored(), "all that can be read is stored", every=0.0)
    finally:
        listener.close()
    # the structured ones carry one id: the second is the first, sent again
    (one,) = {a["version"] for a in rows(database, activations)} - wanted
    assert one in ("v9", "w9")


def test_listener_reads_again_what_could_not_be_handled(broker: Broker, database: Database) -> None:
    found = loop.finding()
    send(broker, found)
    seen: list[str] = []
    away = [True]

    def handle(finding_id: str) -> None:
        if away:
            away.clear()
            from redistill.streams.errors import StoreUnavailable

            raise StoreUnavailable("the database is away")
        seen.append(finding_id)

    listener = EventConsumer(broker, group="g2", database=database, on_finding=handle)

    def turn() -> bool:
        from redistill.streams.errors import StoreUnavailable

        try:
            listener.run_once()
        except StoreUnavailable:
            assert not seen
        return bool(seen)

    try:
        eventually(turn, "it is handed over after all", every=0.0)
    finally:
        listener.close()
    assert seen == [str(found.finding_id)]


def test_missing_topics_are_said_and_found_once_they_are_made(
    kafka_server: KafkaServer, database: Database
) -> None:
    broker = Broker(kafka_server.bootstrap, namespace=f"none-{uuid.uuid4().hex[:8]}")
    seen: list[str] = []
    listener = EventConsumer(broker, group="g3", database=database, on_finding=seen.append)

    def read() -> bool:
        with contextlib.suppress(BrokerRefused):  # a broker shows new topics a moment later
            listener.run_once()
        return bool(seen)

    try:
        with pytest.raises(BrokerRefused, match="redistill topics apply"):
            listener.run_once()
        topics.apply(broker, topics.wanted(broker), replication=1, create=True)
        found = loop.finding()
        send(broker, found)
        eventually(read, "it is read", every=0.0)
    finally:
        listener.close()
    assert seen == [str(found.finding_id)]


def test_worker_answers_an_announcement_with_an_incident_on_the_topic(
    broker: Broker, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "idle.py").write_text(IDLE)
    settings = repairable.settings_of(
        tmp_path / "home",
        servers=broker.servers,
        namespace=broker.namespace,
        poll_seconds=3_600.0,  # the sweep looks once: only the event can wake it afterwards
    )
    stop = threading.Event()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Child.start("idle:run") as child:
        worker = RepairWorker(settings, database=database, broker=broker, child=child, stop=stop)
        worker.start()
        try:
            send(broker, activation())
            eventually(lambda: rows(database, activations), "the worker listens")
            found = loop.finding(at=now_us())
            with database.begin() as conn:
                loop.store(conn, found, now=now_us())  # the outbox announces it
            incident = eventually(lambda: rows(database, incidents), "the incident is opened")
            assert incident[0]["stage"] == "awaiting_person"  # type: ignore[index]
            events = read(broker, "incidents", 1)
            assert isinstance(events[0], IncidentChanged)
            assert events[0].finding_ids == [found.finding_id]
            (drift,) = read(broker, "drift", 1)
            assert isinstance(drift, DriftFound)
            eventually(lambda: "scheduler" in alive_leases(database), "it keeps the schedules")
        finally:
            stop.set()
            assert worker.finish()
    assert alive_leases(database) == [], "the next worker need not wait"


def alive_leases(database: Database) -> list[str]:
    now = now_us()
    return [x["name"] for x in rows(database, leases) if x["expires_at"] > now]


def read(broker: Broker, topic: str, n: int) -> list[Any]:
    reader = consumer(broker, broker.topic(topic), group_id=None)
    found: list[Any] = []

    def turn() -> bool:
        for records in reader.poll(timeout_ms=300).values():
            found.extend(
                decode(
                    Record(
                        topic=r.topic,
                        partition=r.partition,
                        offset=r.offset,
                        timestamp_ms=r.timestamp,
                        key=r.key,
                        value=r.value,
                        headers=r.headers,
                    )
                )
                for r in records
            )
        return len(found) >= n

    try:
        eventually(turn, f"{n} events on {topic}", every=0.0)
    finally:
        reader.close()
    return found
