"""A stream worker on a real Kafka: topics in a namespace of their own, a database, records, and
counts."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import loop
import sqlalchemy as sa
from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from processes import Worker, environment
from stream_rows import CONFIG, new_database, record, watch
from waiting import eventually

from redistill.streams.kafka.broker import Broker, producer
from redistill.streams.store import tables as t
from redistill.streams.store.database import Database
from redistill.streams.wire.events import LabelObserved, PredictionMade
from redistill.workers.settings.settings import Settings
from redistill.workers.store import audit_key, opening

PARTITIONS = 4


@dataclass
class Lab:
    """Everything a worker needs, and what it left behind."""

    bootstrap: str
    url: str
    folder: Path
    namespace: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:10]}")
    settings: dict[str, str] = field(default_factory=dict)
    workers: list[Worker] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.broker = Broker(self.bootstrap, namespace=self.namespace)  # or a dev:// address
        home = self.folder / "home"
        opening.upgrade(Settings.load({"database": self.url, "home": str(home)}))
        self.db: Database = new_database(self.url)
        watch(self.db, CONFIG)
        self.env = environment(
            broker=self.bootstrap,
            database=self.url,
            home=str(home),
            namespace=self.namespace,
            state_key="ab" * 32,
            **self.settings,
        )
        self._producer: Any = None

    def make_topics(self, names: Iterable[str] = ("predictions", "labels", "dlq", "drift")) -> Lab:
        client = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        client.create_topics([NewTopic(self.broker.topic(n), PARTITIONS, 1) for n in names])
        client.close()
        return self

    def register(self, *, bound: tuple[str, ...] = ()) -> Lab:
        """Let repair workers read the model, too, which may bind sources; no row is too old to be
        kept."""
        days = 3_650.0
        config = replace(CONFIG, wait_days=days, retention_days=days, bound_sources=bound)
        spec = loop.spec(level="rollback")
        spec = replace(
            spec,
            labels=replace(spec.labels, wait_days=days, bound=bound),
            privacy=replace(spec.privacy, retention_days=days),
        )
        home = Settings.load({"home": str(self.folder / "home")})
        with audit_key.with_key(self.db, home.audit_key_path).begin() as conn:
            values = {"spec": spec.to_json(), "watch": config.to_json().decode()}
            conn.execute(sa.update(t.specs).values(values))
            loop.told(conn, now=0)
        return self

    def delete_topics(self, *names: str) -> None:
        """Delete topics, and return when the broker knows them no more."""
        client = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        topics = {self.broker.topic(n) for n in names}
        client.delete_topics(sorted(topics))
        eventually(lambda: not topics & set(client.list_topics()), f"{topics} are gone")
        client.close()

    def send(
        self,
        events: Iterable[PredictionMade | LabelObserved],
        *,
        topic: str | None = None,
        flush: bool = True,
    ) -> None:
        """Send events to the partitions 0, 1, 2, 3, 0, ... of their topic, or of another one."""
        for i, event in enumerate(events):
            made = record(event, 0)
            self.client.send(
                self.broker.topic(topic or made.topic),
                made.value,
                key=made.key,
                headers=list(made.headers),
                partition=i % PARTITIONS,
            )
        if flush:
            self.client.flush(timeout=30)

    @property
    def client(self) -> Any:
        if self._producer is None:
            self._producer = producer(self.broker)
        return self._producer

    def hang_up(self) -> None:
        """Close the producer; the next ``send`` makes another one."""
        if self._producer is not None:
            self._producer.close()
            self._producer = None

    def worker(self, name: str = "stream", **settings: str) -> Worker:
        env = {**self.env, **{f"REDISTILL_{k.upper()}": v for k, v in settings.items()}}
        made = Worker(name, ["run", "stream"], env, self.folder / "logs")
        self.workers.append(made)
        return made

    def impatient(self, name: str, seconds: float, *more: str) -> Worker:
        """A worker whose watchdog waits no longer than so many seconds."""
        return self._patched(name, "impatient", str(seconds), *more)

    def deadly(self, name: str, how: str, patience: float) -> Worker:
        """A worker that a record with the word ``deadly`` ends, or keeps for ever."""
        return self._patched(name, "deadly", how, str(patience))

    def deaf(self, name: str) -> Worker:
        """A worker that knows nothing of bound topics."""
        return self._patched(name, "deaf")

    def hurried(self, name: str) -> Worker:
        """A worker in which Faust loses patience within a second."""
        return self._patched(name, "hurried")

    def _patched(self, name: str, module: str, *args: str) -> Worker:
        made = self.worker(name)
        made.module, made.args = module, list(args)
        made.env = {**made.env, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        return made

    def offsets(self) -> dict[tuple[str, int], Any]:
        with self.db.read() as conn:
            mine = t.offsets.c.topic.startswith(f"{self.namespace}.", autoescape=True)
            rows = conn.execute(sa.select(t.offsets).where(mine)).all()
        return {(r.topic.rpartition(".")[2], r.partition): r for r in rows}

    def counted(self, topic: str = "predictions") -> int:
        return sum(r.counted for (name, _), r in self.offsets().items() if name == topic)

    def wait_counted(self, n: int, topic: str = "predictions") -> None:
        try:
            eventually(lambda: self.counted(topic) >= n, f"{n} records of {topic} counted")
        except AssertionError as late:
            raise AssertionError(f"{late}; they are {self.offsets()}\n{self.logs()}") from None

    def rows(self, table: sa.Table) -> list[Any]:
        with self.db.read() as conn:
            return list(conn.execute(sa.select(table)))

    def scalar(self, query: Any) -> Any:
        with self.db.read() as conn:
            return conn.execute(query).scalar()

    def logs(self) -> str:
        return "\n".join(f"--- {w.name}\n{w.tail()}" for w in self.workers)

    def close(self) -> None:
        for w in self.workers:
            w.stop()
        self.hang_up()
        self.db.dispose()
