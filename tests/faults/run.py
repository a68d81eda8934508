"""``make faults KILLS=n``: workers under load on a real Kafka, n random ``kill -9``, then the
count.

Two stream workers and a repair worker run on a real broker and a real database (PostgreSQL where it
is installed, else SQLite with one stream worker). A load of JSON events, Arrow batches, labels and
broken records of the credit model goes on; after a while its world shifts, so that a repair is
under way while workers die. Killed workers are restarted after a random pause. Then the load ends,
the workers catch up, and what they stored is compared with what the broker acknowledged, record by
record.

The last line is ``n kills, x lost, y doubled, z invariants broken``; exit 0 only if x = y = z = 0.
Every run prints its seed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import credit
import kafka_server
import numpy as np
import onnxruntime as ort
import postgres_server
import processes
import sqlalchemy as sa
import waiting

from redistill.streams.kafka.broker import Broker, producer
from redistill.streams.store.database import connect
from redistill.streams.wire.arrow_encode import encode_batch
from redistill.streams.wire.codec import encode
from redistill.streams.wire.envelope import Encoded, headers_of
from redistill.streams.wire.events import LabelObserved, PredictionMade

NAME, NAMESPACE = "credit", "faults"
ARROW = b"application/vnd.apache.arrow.stream"


@dataclass
class Ledger:
    """What the broker acknowledged, per (topic, partition): records and rows."""

    records: Counter[tuple[str, int]] = field(default_factory=Counter)
    rows: Counter[tuple[str, int]] = field(default_factory=Counter)
    labelled: int = 0
    predicted: int = 0
    unreadable: int = 0


class Load(threading.Thread):
    """Predictions of the student and late labels, until told to stop; only acknowledged records
    count."""

    def __init__(self, broker: Broker, model: Path, *, rows_per_second: int, seed: int) -> None:
        super().__init__(name="load", daemon=True)
        self.broker, self.rate, self.ledger = broker, rows_per_second, Ledger()
        self.session = ort.InferenceSession(str(model))
        self.rng = np.random.default_rng(seed)
        self.boom, self.halt, self.failure = False, threading.Event(), None
        self.serial = 0

    def run(self) -> None:
        """Produce until ``halt`` is set."""
        try:
            self._run()
        except Exception as error:
            self.failure = error

    def _run(self) -> None:
        out = producer(self.broker, linger_ms=5, retries=2**31 - 1)
        late: list[tuple[float, LabelObserved]] = []
        while not self.halt.is_set():
            began = time.monotonic()
            n = max(1, self.rate // 4)
            columns = credit.rows(self.rng, n, boom=self.boom)
            best, scores = self.session.run(
                ["label", "probabilities"], {"x": credit.matrix(columns)}
            )
            ids = [f"r{self.serial + i:08d}" for i in range(n)]
            self.serial += n
            now = datetime.now(UTC)
            known = np.flatnonzero(self.rng.random(n) < 0.2)
            late += [(began + 1.0, self._label(ids[i], columns, i, now)) for i in known]
            make = self._batch if self.rng.random() < 0.5 else self._events
            sent = make(ids, columns, best, scores, now)
            if self.rng.random() < 0.1:  # what cannot be read goes to the dlq and is counted, too
                sent.append((Encoded("predictions", NAME.encode(), b"{", [], str(uuid4())), 0))
            due = [label for at, label in late if at <= began]
            late = [(at, label) for at, label in late if at > began]
            sent += [(encode(label, source="load"), 1) for label in due]
            futures = [
                (e.topic, rows, out.send(self.broker.topic(e.topic), value=e.value, key=e.key, headers=e.headers))
                for e, rows in sent
            ]  # fmt: skip
            out.flush(60)
            for topic, rows, future in futures:
                meta = future.get(60)
                self.ledger.records[topic, meta.partition] += 1
                self.ledger.rows[topic, meta.partition] += rows
                self.ledger.unreadable += not rows
            self.ledger.predicted += n
            self.ledger.labelled += len(due)
            self.halt.wait(max(0.0, 0.25 - (time.monotonic() - began)))
        out.close()

    def _label(self, row: str, columns: dict[str, Any], i: np.intp, now: datetime) -> LabelObserved:
        return LabelObserved(
            id=row, model=NAME, label=str(columns["label"][i]), observed_at=now, source="ledger",
            inclusion_probability=0.2,
        )  # fmt: skip

    def _events(
        self, ids: list[str], columns: dict[str, Any], best: Any, scores: Any, now: datetime
    ) -> list[tuple[Encoded, int]]:
        return [
            (
                encode(
                    PredictionMade(
                        id=ids[i], model=NAME, version="2026-03", served_at=now, features=features,
                        prediction=credit.CLASSES[best[i]], scores=scores[i].tolist(),
                        segment={"region": features["region"]},
                    ),
                    source="load",
                ),
                1,
            )
            for i, features in enumerate(credit.feature_dicts(columns))
        ]  # fmt: skip

    def _batch(
        self, ids: list[str], columns: dict[str, Any], best: Any, scores: Any, now: datetime
    ) -> list[tuple[Encoded, int]]:
        event_id = str(uuid4())
        value = encode_batch(
            model=NAME, version="2026-03", ids=ids, feature_names=credit.NUMERIC,
            served_at=np.full(len(ids), int(now.timestamp() * 1e6)),
            features=credit.matrix(columns)[:, : len(credit.NUMERIC)],
            categories={"region": list(columns["region"])},
            prediction=[credit.CLASSES[k] for k in best], scores=scores.astype(np.float32),
            segments={"region": list(columns["region"])},
        )  # fmt: skip
        headers = headers_of(PredictionMade, source="load", event_id=event_id, content_type=ARROW)
        return [(Encoded("predictions", NAME.encode(), value, headers, event_id), len(ids))]


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the kills' times and victims")
    parser.add_argument("--rows-per-second", type=int, default=400)
    parser.add_argument(
        "--keep", type=Path, help="folder for logs and data; default: a temporary one"
    )
    parser.add_argument(
        "--database", choices=["postgres", "sqlite"], help="default: postgres where it is installed"
    )
    return parser.parse_args(argv)


def start_database(
    folder: Path, wanted: str | None
) -> tuple[str, postgres_server.PostgresServer | None]:
    """URL of an empty database, and the server behind it if it is PostgreSQL."""
    if wanted != "sqlite":
        server = postgres_server.PostgresServer(folder / "postgres")
        try:
            server.start()
            return server.new_database(), server
        except postgres_server.Unavailable as why:
            if wanted == "postgres":
                raise
            print(f"PostgreSQL: {why}; using SQLite")
    return f"sqlite:///{folder / 'redistill.db'}", None


def must(args: list[str], env: dict[str, str]) -> str:
    """Run a command of redistill; stop with its words if it fails."""
    done = processes.redistill(args, env, 180.0)
    if done.returncode:
        raise SystemExit(f"redistill {' '.join(args)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def kill_at_random(workers: list[processes.Worker], load: Load, kills: int, seed: int) -> None:
    """Kill a random worker ``kills`` times, restart each after a random pause; shift the world
    early on."""
    rng = random.Random(seed)
    waiting: list[tuple[float, processes.Worker]] = []
    done = 0
    while done < kills or waiting:
        if load.failure is not None:
            raise load.failure
        now = time.monotonic()
        for at, worker in [w for w in waiting if w[0] <= now]:
            waiting.remove((at, worker))
            worker.start()
        alive = [w for w in workers if w.alive]
        if done < kills and alive:
            victim = rng.choice(alive)
            victim.kill()
            done += 1
            print(f"  kill {done}/{kills}: {victim.name}", flush=True)
            waiting.append((now + rng.uniform(0.0, 2.0), victim))
            if done == max(1, kills // 4):
                load.boom = True
        time.sleep(rng.uniform(1.0, 4.0))
        for worker in workers:  # the watchdog may have ended a worker, as a supervisor would see it
            if not worker.alive and all(w is not worker for _, w in waiting):
                print(
                    f"  {worker.name} had ended with {worker.process and worker.process.returncode}; restarted"
                )
                worker.start()


def compare(database_url: str, ledger: Ledger) -> tuple[int, int, dict[str, Any]]:
    """Rows lost and rows doubled: acknowledged by the broker against stored in SQL."""
    database = connect(database_url)
    with database.read() as conn:
        stored = {
            (r.topic.removeprefix(f"{NAMESPACE}."), r.partition): r
            for r in conn.execute(
                sa.text("SELECT topic, partition, counted, dead, rows FROM offsets")
            )
        }
        one = lambda query: int(conn.execute(sa.text(query)).scalar() or 0)  # noqa: E731
        facts = {
            "labels": one("SELECT count(*) FROM labels"),
            "state_rows": one("SELECT sum(rows) FROM input_states"),
            "outcomes": one("SELECT count(*) FROM outcomes"),
            "outcome_twice": one("SELECT count(*) - count(DISTINCT id_hash) FROM outcomes"),
            "releases_per_job": one(
                "SELECT max(n) FROM (SELECT count(*) AS n FROM versions WHERE job_id IS NOT NULL GROUP BY job_id) t"
            ),
            "published": one("SELECT count(*) FROM pointer_history WHERE epoch > 1"),
            "jobs": one("SELECT count(*) FROM jobs"),
            "dead": one("SELECT sum(dead) FROM offsets"),
        }
    lost = doubled = 0
    for key, rows in ledger.rows.items():
        counted = stored[key].rows if key in stored else 0
        lost += max(0, rows - counted)
        doubled += max(0, counted - rows)
    lost += max(0, ledger.labelled - facts["labels"]) + max(
        0, ledger.predicted - facts["state_rows"]
    )
    doubled += max(0, facts["state_rows"] - ledger.predicted) + facts["outcome_twice"]
    doubled += max(0, facts["releases_per_job"] - 1)
    lost += max(0, ledger.unreadable - facts["dead"])
    doubled += max(0, facts["dead"] - ledger.unreadable)
    return lost, doubled, facts


def has_rows(database_url: str, table: str) -> bool:
    """Whether anything stands in a table."""
    with connect(database_url).read() as conn:
        return conn.execute(sa.text(f"SELECT 1 FROM {table} LIMIT 1")).scalar() is not None


def stored_records(database_url: str) -> int:
    """Records behind the offsets."""
    with connect(database_url).read() as conn:
        total = conn.execute(sa.text("SELECT sum(counted + dead) FROM offsets")).scalar()
    return int(total or 0)


def caught_up(database_url: str, ledger: Ledger) -> bool:
    """Whether as many records are behind the offsets as were acknowledged, and no label waits for
    its row."""
    with connect(database_url).read() as conn:
        unjoined = conn.execute(
            sa.text("SELECT count(*) FROM labels WHERE state = 'waiting'")
        ).scalar()
        live = conn.execute(
            sa.text("SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')")
        ).scalar()
        unsent = conn.execute(sa.text("SELECT count(*) FROM outbox WHERE sent_at IS NULL")).scalar()
    return (
        stored_records(database_url) >= sum(ledger.records.values())
        and not unjoined
        and not live
        and not unsent
    )


def main(argv: list[str] | None = None) -> int:
    """Run it; 0 only if nothing was lost, doubled or broken."""
    args = arguments(argv)
    folder = args.keep or Path(tempfile.mkdtemp(prefix="redistill-faults-"))
    print(f"seed {args.seed}, {args.kills} kills, logs in {folder}", flush=True)
    broker_server = kafka_server.KafkaServer(folder / "kafka").start()
    url, postgres = start_database(folder, args.database)
    workers: list[processes.Worker] = []
    load: Load | None = None
    try:
        env = processes.environment(
            broker=broker_server.bootstrap, database=url, home=str(folder / "home"), namespace=NAMESPACE,
            max_jobs_per_day="50",
        )  # fmt: skip
        spec = credit.build(folder / "model", name=NAME, level="repair", seed=args.seed)
        for command in (
            ["db", "upgrade"],
            ["topics", "apply"],
            ["keys", "init"],
            ["register", str(spec)],
        ):
            must(command, env)
        streams = ["stream-1", "stream-2"] if postgres else ["stream-1"]
        workers = [processes.Worker(name, ["run", "stream"], env, folder) for name in streams]
        workers.append(processes.Worker("repair", ["run", "repair"], env, folder))
        for worker in workers:
            worker.start()
        broker = Broker(broker_server.bootstrap, None, NAMESPACE)
        load = Load(
            broker,
            folder / "model" / "student.onnx",
            rows_per_second=args.rows_per_second,
            seed=args.seed,
        )
        load.start()
        waiting.eventually(lambda: has_rows(url, "outcomes"), "the workers are at work")
        kill_at_random(workers, load, args.kills, args.seed)
        sent = sum(load.ledger.records.values())
        waiting.eventually(
            lambda: stored_records(url) > sent, "those that were started again are at work"
        )
        load.halt.set()
        load.join(90)
        if load.failure is not None:
            raise load.failure
        ledger = load.ledger
        try:
            waiting.eventually(
                lambda: caught_up(url, ledger), "the workers catch up", every=1.0, patience=240
            )
        except AssertionError as late:
            print(f"  {late}")
        check = processes.redistill(["check-history", "--json"], env)
        for worker in workers:
            worker.stop()
        lost, doubled, facts = compare(url, ledger)
        try:
            verdicts = [
                json.loads(line) for line in check.stdout.splitlines() if line.startswith("{")
            ]
            broken = [v for v in verdicts if v.get("holds") is False]
        except json.JSONDecodeError:
            broken = [{"check-history": check.stdout + check.stderr}]
        if check.returncode and not broken:
            broken = [{"check-history": check.stdout + check.stderr}]
        for verdict in broken:
            print("  broken:", json.dumps(verdict)[:600])
        print(
            f"  {ledger.predicted} predictions, {ledger.labelled} labels,"
            f" {ledger.unreadable} unreadable records acknowledged; stored: {json.dumps(facts)}"
        )
        print(f"  restarts: {', '.join(f'{w.name} {w.starts - 1}' for w in workers)}")
        print(
            f"{args.kills} kills, {lost} lost, {doubled} doubled, {len(broken)} invariants broken",
            flush=True,
        )
        return 0 if not (lost or doubled or broken) else 1
    finally:
        if load is not None:
            load.halt.set()
        for worker in workers:
            worker.stop(10)
        if postgres is not None:
            postgres.stop()
        broker_server.stop()


if __name__ == "__main__":
    sys.exit(main())
