"""The ACLs of docs/threat-model.md, and no others: each process does its work with them, and nobody can
write where it may not."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from broker_faults import GROUP, PASSWORD, TOPIC, grant, guarded, log_ends
from kafka.admin import ACLOperation
from kafka.errors import KafkaError
from kafka_server import KafkaServer
from processes import Worker, redistill
from receivers import Receiver, receiver
from stream_lab import PARTITIONS, Lab
from stream_rows import prediction, truth
from waiting import eventually

from redistill.streams.client.logger import PredictionLogger
from redistill.streams.client.pointers import PointerListener
from redistill.streams.kafka.broker import Broker, Security, producer
from redistill.streams.store import tables as t
from redistill.streams.wire.codec import encode
from redistill.streams.wire.events import PointerMoved, VersionActivated
from redistill.times import utc
from redistill.workers.processes import topic_writers, topics
from redistill.workers.store.tables import activations

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
ACLS = re.findall(
    r"(?m)^\$ kafka-acls .* User:(\w+) --operation (\w+) --(topic|group) (\S+)$",
    (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8"),
)
USERS = sorted({user for user, *_ in ACLS})
SERVICES, FEEDS, LEDGER = (f"USER_OF_{x}" for x in ("SERVICES", "LABEL_FEEDS", "LEDGER"))
STREAM, REPAIR, ALERTS = (
    f"USER_OF_{x}" for x in ("STREAM_WORKERS", "REPAIR_WORKERS", "ALERT_PROCESSES")
)
CHANNEL = """
[channels.team]
kind = "webhook"
url = "{url}/alerts"
secret = "env:TEAM_SECRET"
allow_private = ["127.0.0.0/8"]
"""
SECRET = "whsec_" + "QUFB" * 12
N = 400


class Site:
    """An installation on a broker that lets everybody do what the document says, and no more."""

    def __init__(self, server: KafkaServer, broker: Broker, lab: Lab, heard: Receiver) -> None:
        self.server, self.lab, self.heard = server, lab, heard
        self.loggers: list[PredictionLogger] = []
        self.login = broker.servers
        wanted = topics.wanted(lab.broker, partitions=PARTITIONS, bound=["ledger"])
        topics.apply(lab.broker, wanted, replication=1, create=True)
        self.topics = [x.name for x in wanted]
        for user, operation, kind, name in ACLS:
            full = lab.broker.topic(name)  # groups have the namespace in front, too
            grant(server, TOPIC if kind == "topic" else GROUP, full, how(operation), user=user)
        lab.register(bound=("ledger",))
        assert redistill(["keys", "init"], lab.env).returncode == 0
        file = lab.folder / "home" / "alerts.toml"
        file.write_text(CHANNEL.format(url=heard.url))

    def broker(self, user: str) -> Broker:
        """The broker as a user sees it."""
        login = Security(protocol="SASL_PLAINTEXT", username=user, password=PASSWORD)
        return Broker(self.login, login, namespace=self.lab.namespace)

    def logger(self, user: str) -> PredictionLogger:
        """A service's, or a feed's."""
        broker = self.broker(user)
        made = PredictionLogger(
            broker.servers, security=broker.security, namespace=broker.namespace
        )
        self.loggers.append(made)
        return made

    def close(self) -> None:
        """Close what talks to the broker while it is there."""
        for logger in self.loggers:
            logger.close()
        self.lab.close()

    def start(self, kind: str, user: str) -> Worker:
        """A process with the password of its user."""
        env = self.lab.env | {
            "REDISTILL_BROKER": self.login,
            "REDISTILL_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "REDISTILL_KAFKA_USERNAME": user,
            "REDISTILL_KAFKA_PASSWORD": PASSWORD,
            "TEAM_SECRET": SECRET,
        }
        made = Worker(kind, ["run", kind], env, self.lab.folder / "logs")
        self.lab.workers.append(made)
        return made.start()

    def waits(self, check: Any, what: str) -> Any:
        """Wait for a condition; fail with what the processes said."""
        try:
            return eventually(check, what)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.lab.logs()}") from None

    def announced(self, topic: str) -> int:
        """Records of a topic."""
        return sum(log_ends(self.server, self.lab.broker.topic(topic)).values())


def how(operation: str) -> ACLOperation:
    return ACLOperation[operation.upper()]


@pytest.fixture
def site(kafka_server: KafkaServer, tmp_path: Path, postgres_url: str) -> Iterator[Site]:
    server, broker = guarded(tmp_path / "guarded")
    server.scram |= dict.fromkeys(USERS, PASSWORD)
    server.start()
    lab = Lab(server.bootstrap, postgres_url, tmp_path)
    try:
        with receiver() as heard:
            made = Site(server, broker, lab, heard)
            try:
                yield made
            finally:
                made.close()
    finally:
        lab.close()
        server.stop()


def wrong(i: int) -> str:
    return "default" if truth(i) == "repay" else "repay"


def test_acls_of_the_document_suffice_for_everybody_and_refuse_all_else(site: Site) -> None:
    lab = site.lab
    stream, repair, alerts = (
        site.start(kind, user)
        for kind, user in (("stream", STREAM), ("repair", REPAIR), ("alerts", ALERTS))
    )
    site.waits(lambda: repair.says("repair_started"), "the repair worker runs")
    site.waits(lambda: alerts.says("alerts_lead"), "the alert process leads")

    services, feed, ledger = map(site.logger, (SERVICES, FEEDS, LEDGER))
    for start, right in ((0, True), (N, False)):
        rows = range(start, start + N)
        for i in rows:
            made = prediction(i, right=right)
            services.log(
                model=made.model, version=made.version, id=made.id, prediction=made.prediction,
                features=made.features, scores=made.scores,
            )  # fmt: skip
            ledger.label("credit", id=made.id, label=truth(i), source="ledger", bound=True)
            feed.label("credit", id=made.id, label=wrong(i), source="ledger")
        services.label("credit", id=f"row-{start}", label=wrong(start), source="ledger")
        for each in (services, feed, ledger):
            assert each.flush(60)
        site.waits(lambda n=start + N: lab.counted("ledger") >= n, "labels of the source are read")
        site.waits(lambda n=start + N: lab.counted("labels") > n, "other labels are read")
        outcomes = sa.select(sa.func.count()).select_from(t.outcomes)
        site.waits(lambda n=start + N, q=outcomes: lab.scalar(q) == n, "each has its outcome")
    assert {r.source for r in lab.rows(t.outcomes)} == {"ledger"}

    # stream workers announce; repair workers hear, and announce; alert processes tell
    site.waits(lambda: site.announced("drift"), "harm is announced")
    site.waits(lambda: site.announced("incidents"), "an incident is announced")
    site.waits(lambda: site.heard.requests, "somebody is told")
    write(site.broker(SERVICES), lab.broker.topic("predictions"), b"rubbish")
    site.waits(lambda: site.announced("dlq"), "a dead letter is announced")
    unsent = sa.select(sa.func.count()).select_from(t.outbox).where(t.outbox.c.sent_at.is_(None))
    site.waits(lambda: lab.scalar(unsent) == 0, "nothing waits to be announced")
    hears_pointers(site)
    stores_activations(site)
    assert all(w.alive for w in (stream, repair, alerts))
    for w in (stream, repair, alerts):
        assert "uthorizationFailed" not in w.log.read_text(), w.tail()

    operator = lab.broker
    assert topic_writers.doubts(operator, ["ledger"]) == []
    assert topic_writers.writers(site.broker(REPAIR), site.topics[-1]) is None, "it may not know"
    for user in USERS:
        for topic in site.topics:
            may = (user, "Write", "topic", topic.removeprefix(f"{lab.namespace}.")) in ACLS
            assert may_write(site.broker(user), topic) is may, (user, topic)
    grant(site.server, TOPIC, site.topics[-1], how("Write"), user=FEEDS)
    (told,) = topic_writers.doubts(operator, ["ledger"])
    assert f"(User:{FEEDS}, User:{LEDGER})" in told


def send(broker: Broker, event: Any) -> None:
    made = encode(event, source="/test")
    write(broker, broker.topic(made.topic), made.value, made.headers)


def write(broker: Broker, topic: str, value: bytes, headers: Any = ()) -> None:
    client = producer(broker)
    try:
        client.send(topic, key=b"credit", value=value, headers=list(headers)).get(30)
    finally:
        client.close()


def may_write(broker: Broker, topic: str) -> bool:
    try:
        write(broker, topic, b"forged")
    except KafkaError as refused:
        # of the topic, or, to who may write nowhere, already of a producer's number
        if "AuthorizationFailed" in f"{type(refused).__name__} {refused}":
            return False
        raise
    return True


def hears_pointers(site: Site) -> None:
    """A service, as soon as a worker announces one."""
    told: list[Any] = []
    heard: list[PointerMoved] = []
    listener = PointerListener(
        site.broker(SERVICES), trouble=told.append, failed=lambda *x: told.append(x)
    )
    listener.add("credit", heard.append)
    thread = threading.Thread(target=listener.run, daemon=True)
    thread.start()
    moved = PointerMoved(
        model="credit", stable="7", stable_sha256="0" * 64, epoch=1, reason="", at=utc(0)
    )
    send(site.broker(REPAIR), moved)
    site.waits(lambda: heard, "the service hears it")
    listener.stopping.set()
    thread.join(30)
    assert [x for x in told if x is not None] == []


def stores_activations(site: Site) -> None:
    """The repair worker, as services say what they serve."""
    serves = VersionActivated(
        model="credit", instance_id="svc", version="7", sha256="0" * 64, epoch=1, at=utc(0)
    )
    send(site.broker(SERVICES), serves)
    site.waits(lambda: site.lab.rows(activations), "it is stored")
