"""Transactional producers of both families, as foreign feeds use them: librdkafka's and Java's."""

from __future__ import annotations

import base64
import subprocess
import uuid
from collections.abc import Iterable
from typing import Protocol

import confluent_kafka
from kafka_server import POM, Unavailable, jars

from redistill.streams.wire.codec import Record

SECONDS = 30.0
CLIENTS = ("librdkafka", "java")


class Transactional(Protocol):
    """One producer with a transactional id of its own."""

    def begin(self) -> None: ...

    def send(self, topic: str, partition: int, records: Iterable[Record]) -> None:
        """Written to the log when it returns."""

    def commit(self) -> None: ...

    def abort(self) -> None: ...


class Producers:
    """Makes producers of one family.

    Parameters
    ----------
    client
        One of ``CLIENTS``.
    bootstrap
        Of the broker.
    """

    def __init__(self, client: str, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._java = _Java(bootstrap) if client == "java" else None

    def open(self, *, codec: str = "none", timeout_seconds: float = 60.0) -> Transactional:
        """Another producer; the broker aborts what it leaves open for so long."""
        name, timeout = f"x{uuid.uuid4().hex[:8]}", round(1000 * timeout_seconds)
        if self._java is None:
            return _Librdkafka(self._bootstrap, name, codec, timeout)
        self._java.tell(f"open {name} {codec} {timeout}")
        return _JavaProducer(self._java, name)

    def die(self) -> None:
        """End as by ``kill -9``: what was begun stays open. librdkafka's are left to themselves."""
        if self._java is not None:
            self._java.process.kill()
            self._java.process.communicate(timeout=SECONDS)


class _Librdkafka:
    def __init__(self, bootstrap: str, name: str, codec: str, timeout_ms: int) -> None:
        self._producer = confluent_kafka.Producer(
            {
                "bootstrap.servers": bootstrap,
                "transactional.id": name,
                "transaction.timeout.ms": timeout_ms,
                "compression.type": codec,
                "linger.ms": 20,
            }
        )
        self._producer.init_transactions(SECONDS)
        self.begin = self._producer.begin_transaction
        self.commit = self._producer.commit_transaction
        self.abort = self._producer.abort_transaction

    def send(self, topic: str, partition: int, records: Iterable[Record]) -> None:
        for r in records:
            self._producer.produce(
                topic, r.value, key=r.key, headers=list(r.headers), partition=partition
            )
        assert self._producer.flush(SECONDS) == 0


class _Java:
    """The process that holds Java's producers."""

    def __init__(self, bootstrap: str) -> None:
        source = POM / "Transactions.java"
        self.process = subprocess.Popen(
            ["java", "-cp", f"{jars()}/*", str(source), bootstrap],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def tell(self, line: str) -> None:
        """Say a line and wait until it is done."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if not answer:
            raise Unavailable("java cannot run a source file (apt-get install openjdk-17-jdk)")
        assert answer == "ok", answer


class _JavaProducer:
    def __init__(self, java: _Java, name: str) -> None:
        self._java, self._name = java, name

    def begin(self) -> None:
        self._java.tell(f"begin {self._name}")

    def send(self, topic: str, partition: int, records: Iterable[Record]) -> None:
        for r in records:
            heads = " ".join(f"{k}={_base64(v)}" for k, v in r.headers)
            key, value = _base64(r.key), _base64(r.value)
            self._java.tell(f"send {self._name} {topic} {partition} {key} {value} {heads}")
        self._java.tell(f"flush {self._name}")

    def commit(self) -> None:
        self._java.tell(f"commit {self._name}")

    def abort(self) -> None:
        self._java.tell(f"abort {self._name}")


def _base64(data: bytes | None) -> str:
    return base64.b64encode(data or b"").decode()
