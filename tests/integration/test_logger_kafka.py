"""The logger on a real Kafka: nothing lost, nothing twice, whatever befalls the broker or the
process."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hostile
import kafka_server as kafka
import pytest
from logged_rows import ids, log_rows, make_topics, read_all
from ports import free_port
from waiting import PATIENCE_SECONDS, eventually

from redistill.streams.client.logger import PredictionLogger
from redistill.streams.kafka.broker import Broker, Security, producer
from redistill.streams.wire.codec import decode, encode
from redistill.streams.wire.events import (
    LabelObserved,
    PointerMoved,
    PredictionMade,
    VersionActivated,
)

pytestmark = [
    pytest.mark.kafka,
    # kafka-python leaves the sockets of failed connections to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Sockets are collected here, where their warning is expected."""
    yield
    gc.collect()


@pytest.fixture
def broker(kafka_server: kafka.KafkaServer) -> Broker:
    """The session's Kafka with this test's own topics."""
    made = Broker(kafka_server.bootstrap, namespace=f"t{uuid.uuid4().hex[:8]}")
    make_topics(made, "predictions", "labels", "activations", "pointers")
    return made


@dataclass
class Shaky:
    """A Kafka of this module's own, to be killed and paused, with a listener that wants a login."""

    server: kafka.KafkaServer
    login: str

    def broker(self, *topics: str) -> Broker:
        """It, running, with topics of the test's own."""
        if self.server.process is None or self.server.process.poll() is not None:
            self.server.start()
        made = Broker(self.server.bootstrap, namespace=f"t{uuid.uuid4().hex[:8]}")
        if topics:
            make_topics(made, *topics)
        return made


@pytest.fixture(scope="module")
def shaky(
    kafka_server: kafka.KafkaServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shaky]:
    plain, control, login = free_port(), free_port(), free_port()
    listeners = f"PLAINTEXT://127.0.0.1:{plain},LOGIN://127.0.0.1:{login}"
    server = kafka.KafkaServer(
        tmp_path_factory.mktemp("shaky"), port=plain, controller_port=control,
        scram={"svc": "right"},
        extra={
            "listeners": f"{listeners},CONTROLLER://127.0.0.1:{control}",
            "advertised.listeners": listeners,
            "listener.security.protocol.map":
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LOGIN:SASL_PLAINTEXT",
            "sasl.enabled.mechanisms": "SCRAM-SHA-256",
            "listener.name.login.scram-sha-256.sasl.jaas.config":
                "org.apache.kafka.common.security.scram.ScramLoginModule required;",
        },
    )  # fmt: skip
    server.start()
    yield Shaky(server, f"127.0.0.1:{login}")
    server.stop()


@pytest.fixture
def log(broker: Broker) -> Iterator[PredictionLogger]:
    made = PredictionLogger(broker.servers, namespace=broker.namespace)
    yield made
    made.close(timeout=0)


def test_rows_labels_and_events_arrive(broker: Broker, log: PredictionLogger) -> None:
    sent = log_rows(log, 1_234)
    at = datetime(2026, 1, 2, tzinfo=UTC)
    log.label("credit", id="r1", label="no", source="ledger", observed_at=at)
    activation = VersionActivated(
        model="credit", instance_id="i", version="7", sha256="ab" * 32, epoch=1, at=at
    )
    log.report(activation)
    assert log.flush(60)
    assert sorted(ids(broker)) == sorted(sent)
    (label,) = [decode(r, expect=LabelObserved) for r in read_all(broker, "labels")]
    assert label == LabelObserved(
        id="r1", model="credit", label="no", source="ledger", observed_at=at, arrival="api"
    )
    assert [decode(r) for r in read_all(broker, "activations")] == [activation]
    records = read_all(broker, "predictions")
    assert {r.key for r in records} == {b"credit"}
    assert len(records) < 100, "rows were not batched"
    stats = log.stats()
    assert (stats.logged, stats.sent, stats.dropped, stats.invalid) == (1_236, 1_236, 0, 0)
    assert (stats.pending, stats.pending_bytes, stats.trouble) == (0, 0, None)


def test_a_few_rows_arrive_soon_without_a_flush(broker: Broker, log: PredictionLogger) -> None:
    log_rows(log, 3)
    eventually(lambda: log.stats().sent == 3)
    log_rows(log, 3, "s")
    eventually(lambda: log.stats().sent == 6)
    assert sorted(ids(broker)) == ["r0", "r1", "r2", "s0", "s1", "s2"]


def test_many_threads_lose_nothing(broker: Broker, log: PredictionLogger) -> None:
    threads = [threading.Thread(target=log_rows, args=(log, 500, f"{t}-")) for t in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert log.flush(60)
    assert sorted(ids(broker)) == sorted(f"{t}-{i}" for t in range(8) for i in range(500))


def test_new_ids_are_unique(log: PredictionLogger) -> None:
    made = [log.log(model="credit", version="7", prediction="yes") for _ in range(2_000)]
    assert len(set(made)) == 2_000


def test_an_event_loop_is_not_held_up(shaky: Shaky) -> None:
    broker = shaky.broker("predictions")

    async def serve() -> None:
        for i in range(300):
            log_rows(log, 1, f"{i}-")
            await asyncio.sleep(0)

    with PredictionLogger(broker.servers, namespace=broker.namespace) as log:
        log_rows(log, 1, "connected-")
        assert log.flush(60)
        shaky.server.pause()  # whoever waited for an answer would wait here
        try:
            asyncio.run(serve())
            assert (log.stats().sent, log.stats().logged) == (1, 301)
        finally:
            shaky.server.resume()
        assert log.flush(60)
    assert len(ids(broker)) == 301


def test_broker_down_at_the_start_costs_nothing_but_time(
    shaky: Shaky, caplog: pytest.LogCaptureFixture
) -> None:
    broker = shaky.broker("predictions")
    shaky.server.kill()
    log = PredictionLogger(broker.servers, namespace=broker.namespace)
    try:
        log_rows(log, 2_000)  # returns, though nothing can be sent
        eventually(lambda: log.stats().trouble)
        assert "is the broker running" in (log.stats().trouble or "")
        assert log.flush(0.1) is False
        lines = [r for r in caplog.records if "is the broker running" in r.getMessage()]
        assert len(lines) == 1
        shaky.server.start()
        assert log.flush(60)
        assert sorted(ids(broker)) == sorted(f"r{i}" for i in range(2_000))
        assert log.stats().trouble is None
    finally:
        log.close(timeout=0)


@pytest.mark.slow
def test_broker_killed_and_paused_under_load_loses_nothing(shaky: Shaky) -> None:
    broker = shaky.broker("predictions")
    log = PredictionLogger(broker.servers, namespace=broker.namespace)
    try:
        wanted: list[str] = []
        for round_, (down, up) in enumerate(
            [
                (shaky.server.kill, shaky.server.start),
                (shaky.server.pause, shaky.server.resume),
                (shaky.server.kill, shaky.server.start),
            ]
        ):
            before = log.stats().sent
            wanted += log_rows(log, 1_000, f"{round_}a")
            eventually(lambda before=before: log.stats().sent > before)  # type: ignore[misc]
            down()
            wanted += log_rows(log, 1_000, f"{round_}b")
            eventually(lambda: log.stats().trouble)
            up()
        assert log.flush(60)
        assert set(ids(broker)) == set(wanted)
        assert log.stats().dropped == 0
    finally:
        log.close(timeout=0)


def test_a_missing_topic_is_named_and_does_not_hold_up_others(
    kafka_server: kafka.KafkaServer,
) -> None:
    broker = Broker(kafka_server.bootstrap, namespace=f"t{uuid.uuid4().hex[:8]}")
    make_topics(broker, "predictions")
    with PredictionLogger(broker.servers, namespace=broker.namespace) as log:
        log.label("credit", id="a", label="yes")
        eventually(lambda: log.stats().trouble)
        assert "labels' is missing; make it with `redistill topics apply`" in (
            log.stats().trouble or ""
        )
        log_rows(log, 50)
        eventually(lambda: log.stats().sent == 50)
        make_topics(broker, "labels")
        assert log.flush(60)
        assert len(read_all(broker, "labels")) == 1


def test_bad_credentials_are_named(shaky: Shaky) -> None:
    broker = shaky.broker("predictions")
    for password, works in (("wrong", False), ("right", True)):
        security = Security(protocol="SASL_PLAINTEXT", username="svc", password=password)
        log = PredictionLogger(shaky.login, security=security, namespace=broker.namespace)
        log_rows(log, 5)
        if works:
            assert log.flush(60)
        else:
            eventually(
                lambda log=log: (
                    "refuses the credentials of user 'svc'" in (log.stats().trouble or "")
                )  # type: ignore[misc]
            )
            assert log.flush(0.1) is False
        log.close(timeout=0)


def test_a_full_send_buffer_drops_counts_and_recovers(shaky: Shaky) -> None:
    broker = shaky.broker("predictions")
    shaky.server.kill()
    log = PredictionLogger(
        broker.servers, namespace=broker.namespace, max_rows=2_000, max_bytes=100_000
    )
    try:
        for round_ in range(5):
            log_rows(log, 1_000, f"{round_}-")
            assert log.flush(0.3) is False
        stats = log.stats()
        assert stats.dropped > 0
        assert stats.logged == 5_000
        assert stats.pending_bytes <= 100_000
        shaky.server.start()
        assert log.flush(60)
        stats = log.stats()
        assert stats.sent + stats.dropped == stats.logged == 5_000
        assert len(ids(broker)) == stats.sent > 0
    finally:
        log.close(timeout=0)


def test_fork_gives_the_child_its_own_queue_and_connection(
    broker: Broker, log: PredictionLogger
) -> None:
    log_rows(log, 100, "before-")
    assert log.flush(60)
    log_rows(log, 100, "queued-")  # in the parent's queue when it forks: sent once
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            child = log_rows(log, 100, "child-")
            stats = log.stats()
            code = 0 if log.flush(60) and len(child) == stats.logged == 100 else 2
        finally:
            os._exit(code)
    log_rows(log, 100, "parent-")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert log.flush(60)
    want = [f"{p}-{i}" for p in ("before", "queued", "child", "parent") for i in range(100)]
    assert sorted(ids(broker)) == sorted(want)


def _child(log: PredictionLogger, name: str) -> None:
    log_rows(log, 50, name)
    log.flush(60)  # connected
    log_rows(log, 50, f"{name}late-")  # and ends at once: drained on the way out


def test_children_of_multiprocessing_drain_at_their_end(
    broker: Broker, log: PredictionLogger
) -> None:
    log_rows(log, 10, "p")
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_child, args=(log, f"{c}-")) for c in range(2)]
    for c in children:
        c.start()
    for c in children:
        c.join(PATIENCE_SECONDS)
        assert c.exitcode == 0
    assert log.flush(60)
    names = ("0-", "0-late-", "1-", "1-late-")
    want = [f"p{i}" for i in range(10)] + [f"{name}{i}" for name in names for i in range(50)]
    assert sorted(ids(broker)) == sorted(want)


def _script(broker: Broker, body: str) -> subprocess.CompletedProcess[str]:
    head = f"""
        from redistill import PredictionLogger
        log = PredictionLogger({broker.servers!r}, namespace={broker.namespace!r})
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(body)],
        capture_output=True, text=True, timeout=60, check=False, cwd=ROOT,
    )  # fmt: skip


def test_a_process_drains_at_its_end(broker: Broker) -> None:
    done = _script(
        broker,
        """
        def rows(start, end):
            for i in range(start, end):
                log.log(model="credit", version="7", prediction="no", features={"x": i, "y": 1}, id=f"r{i}")
        rows(0, 1)
        assert log.flush(60)  # connected
        rows(1, 2_000)
        """,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(ids(broker)) == sorted(f"r{i}" for i in range(2_000))


def test_a_process_ends_in_time_when_the_broker_is_away() -> None:
    nowhere = Broker(f"127.0.0.1:{free_port()}")
    done = _script(nowhere, 'log.log(model="credit", version="7", prediction="no")')
    assert done.returncode == 0
    assert "is the broker running" in done.stderr


def test_nothing_that_a_service_passes_raises(
    broker: Broker, log: PredictionLogger, caplog: pytest.LogCaptureFixture
) -> None:
    class Raises:
        @property
        def model(self) -> str:
            raise RuntimeError("boom")

    bad: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((), {}),
        ((object(),), {}),
        ((Raises(),), {}),
        ((), {"model": "credit", "version": "7", "prediction": "no", "features": [1, 2]}),
        ((), {"model": "credit", "version": "7", "prediction": "no", "scores": 3}),
        ((), {"model": "Not A Name", "version": "7", "prediction": "no"}),
        ((), {"model": ["credit"], "version": {}, "prediction": "no"}),
        ((), {"model": "credit", "version": "7", "prediction": object()}),
    ]
    for args, kwargs in bad * 20:
        assert isinstance(log.log(*args, **kwargs), str)
    log.label("credit", id=None, label=object())  # type: ignore[arg-type]
    log.label("credit", id="a", label="x", observed_at="today")  # type: ignore[arg-type]
    log.report(object())  # type: ignore[arg-type]
    log_rows(log, 5)
    assert log.flush(60)
    stats = log.stats()
    assert (stats.sent, stats.invalid, stats.pending) == (5, 20 * len(bad) + 3, 0)
    said = [
        r for r in caplog.records if r.name == "redistill.client" and r.levelno >= logging.WARNING
    ]
    assert 5 <= len(said) <= 12, "one line per cause"


def test_closing_is_final_and_counts_what_comes_later(broker: Broker) -> None:
    log = PredictionLogger(broker.servers, namespace=broker.namespace)
    log_rows(log, 10)
    log.close(60)
    assert log.stats().sent == 10
    log_rows(log, 5)
    log.close(60)
    assert (log.stats().sent, log.stats().dropped) == (10, 5)
    eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith("redistill-")])


# ------------------------------------------------------------------------------------ pointers


def pointer(epoch: int, model: str = "credit") -> PointerMoved:
    return PointerMoved(
        model=model, stable=f"v{epoch}", stable_sha256="ab" * 32, epoch=epoch, reason="test",
        at=datetime(2026, 1, 2, tzinfo=UTC) + timedelta(seconds=epoch),
    )  # fmt: skip


def announce(broker: Broker, *events: PointerMoved | bytes) -> None:
    client = producer(broker)
    for event in events:
        if isinstance(event, bytes):
            client.send(broker.topic("pointers"), key=b"credit", value=event)
        else:
            made = encode(event, source="/test")
            client.send(
                broker.topic("pointers"), key=made.key, value=made.value, headers=made.headers
            )
    client.flush(60)
    client.close()


def test_pointers_wake_with_the_newest_and_with_each_move(
    broker: Broker, log: PredictionLogger
) -> None:
    announce(broker, pointer(1), pointer(1, "other"), b"not an event", pointer(2))
    heard: list[int] = []
    log.on_pointer("credit", lambda event: heard.append(event.epoch))
    eventually(lambda: heard == [2])
    announce(broker, pointer(3))
    eventually(lambda: heard == [2, 3])
    late: list[int] = []
    log.on_pointer("credit", lambda event: late.append(event.epoch))
    eventually(lambda: late == [3])
    announce(broker, pointer(3), pointer(4))
    eventually(lambda: (heard, late) == ([2, 3, 4], [3, 4]))


def test_strange_records_among_pointers_do_not_end_the_listening(
    broker: Broker, log: PredictionLogger
) -> None:
    heard: list[int] = []
    log.on_pointer("credit", lambda event: heard.append(event.epoch))
    announce(broker, pointer(1))
    eventually(lambda: heard == [1])
    hostile.send(broker, "pointers", *hostile.strange_records(lambda i: pointer(i + 2)))
    eventually(lambda: heard[-1] == 11)  # the last of them, in structured mode
    announce(broker, pointer(20))
    eventually(lambda: heard[-1] == 20)


def test_a_callback_that_raises_does_not_end_the_listening(
    broker: Broker, log: PredictionLogger, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[int] = []

    def shaky(event: PointerMoved) -> None:
        heard.append(event.epoch)
        raise RuntimeError("no disk left")

    log.on_pointer("credit", shaky)
    announce(broker, pointer(1))
    eventually(lambda: heard == [1])
    announce(broker, pointer(2))
    eventually(lambda: heard == [1, 2])
    assert "no disk left" in caplog.text


def test_pointers_are_heard_when_broker_or_topic_come_late_and_after_a_kill(shaky: Shaky) -> None:
    broker = shaky.broker()
    shaky.server.kill()
    heard: list[int] = []
    with PredictionLogger(broker.servers, namespace=broker.namespace) as log:
        log.on_pointer("credit", lambda event: heard.append(event.epoch))
        eventually(lambda: "is the broker running" in (log.stats().trouble or ""))
        shaky.server.start()
        eventually(lambda: "pointers' is missing" in (log.stats().trouble or ""))
        make_topics(broker, "pointers")
        announce(broker, pointer(1))
        eventually(lambda: heard == [1])
        shaky.server.kill()
        shaky.server.start()
        announce(broker, pointer(2))
        eventually(lambda: heard == [1, 2])


def test_a_forked_child_hears_pointers_too(broker: Broker, log: PredictionLogger) -> None:
    heard: list[int] = []
    log.on_pointer("credit", lambda event: heard.append(event.epoch))
    announce(broker, pointer(1))
    eventually(lambda: heard == [1])
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            heard.clear()
            eventually(lambda: heard == [1])
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_single_events_carry_the_contract_of_the_wire(
    broker: Broker, log: PredictionLogger
) -> None:
    log.log(model="credit", version="7", prediction="no", features={"x": 1.5, "y": None}, id="a",
            segment={"channel": "web"}, latency_ms=2.5, sample_rate=0.5)  # fmt: skip
    assert log.flush(60)
    (record,) = read_all(broker, "predictions")
    made = decode(record, expect=PredictionMade)
    assert (made.id, made.features, made.segment) == (
        "a",
        {"x": 1.5, "y": None},
        {"channel": "web"},
    )
    assert (made.latency_ms, made.sample_rate) == (2.5, 0.5)
    assert abs((datetime.now(UTC) - made.served_at).total_seconds()) < 60
    assert json.loads(record.value or b"")["model"] == "credit"
