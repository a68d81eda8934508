"""Rows a second of the whole stream worker on a real Kafka, beside stock Faust and a bare
confluent-kafka loop.

``python tests/benchmarks/bench_stream.py [--rows 300000] [--arrow-rows 2000000] [--database URL]
[--json]``

All in one run on one broker: JSON events of 480 bytes with 20 features, then Arrow batches of 500
rows. CPU seconds are those of the measured process alone (user + system), between two moments while
it works.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import numpy as np
from kafka_server import KafkaServer
from stream_lab import PARTITIONS, Lab
from stream_rows import watch

from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.reference import build_profile
from redistill.streams.store.database import upsert
from redistill.streams.store.tables import profiles
from redistill.streams.wire.block import Feature, Schema
from redistill.streams.wire.codec import (
    Record,
    decode_predictions,
    encode,
    encode_batch,
    headers_of,
)
from redistill.streams.wire.events import PredictionMade
from redistill.times import now_us

CONFIG = WatchConfig(
    model="credit",
    level="rollback",
    schema=Schema(
        features=tuple(Feature(name=f"f{i}") for i in range(20)), classes=("repay", "default")
    ),
)
BATCH = 500

STOCK = """
import asyncio, sys, json, faust, msgspec
from river import drift
group, server, topic, total = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
app = faust.App(group, broker=f"aiokafka://{server}", store="memory://", web_enabled=False,
    topic_allow_declare=False, topic_disable_leader=True, consumer_auto_offset_reset="earliest",
    stream_wait_empty=False, value_serializer="raw", logging_config=None)
source = app.topic(topic, value_type=bytes, value_serializer="raw")
adwins = [drift.ADWIN(), drift.ADWIN()]
decode = msgspec.json.Decoder().decode
seen = 0
@app.agent(source)
async def count(stream):
    global seen
    async for value in stream:
        event = decode(value)
        adwins[0].update(max(event["scores"])); adwins[1].update(event["features"]["f0"])
        seen += 1
        if seen % 1000 == 0:
            print(seen, flush=True)
async def main():
    await app.start()
    while seen < total:
        await asyncio.sleep(.1)
    print(seen, flush=True)
asyncio.run(main())
"""

BARE = """
import sys
from confluent_kafka import Consumer
group, server, topic, total = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
c = Consumer({"bootstrap.servers": server, "group.id": group, "auto.offset.reset": "earliest",
    "enable.auto.commit": False, "fetch.queue.backoff.ms": 5})
c.subscribe([topic])
seen = 0
while seen < total:
    seen += len(c.consume(500, 1.0))
    print(seen, flush=True)
"""


@dataclass(frozen=True)
class Figure:
    """One measured program."""

    program: str
    input: str
    rows: int
    wall_seconds: float
    cpu_seconds: float
    peak_mb: float
    """Largest resident memory of the process so far."""

    @property
    def rows_per_second(self) -> float:
        return self.rows / max(self.wall_seconds, 1e-9)

    @property
    def rows_per_core(self) -> float:
        return self.rows / max(self.cpu_seconds, 1e-9)


def cpu(pid: int) -> float:
    """User and system seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb(pid: int) -> float:
    """Peak resident memory of a process; NaN if it has ended."""
    found = Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()
    return int(found[0]) / 1024 if found else float("nan")


def measure(
    program: str, kind: str, pid: int, total: int, seen: Callable[[], int], unit: int = 1
) -> Figure:
    """From the first tenth to the end: without start, join and imports."""
    while (first := seen()) < total // 10:
        time.sleep(0.02)
    wall, used = time.perf_counter(), cpu(pid)
    while (last := seen()) < total:
        time.sleep(0.02)
    wall, used = time.perf_counter() - wall, cpu(pid) - used
    return Figure(program, kind, (last - first) * unit, wall, used, peak_mb(pid))


def script(
    text: str, program: str, kind: str, lab: Lab, topic: str, total: int, unit: int = 1
) -> Figure:
    """Measure a baseline that prints how many records it has seen."""
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(
            [sys.executable, "-c", text, f"{program}-{kind}", lab.bootstrap, topic, str(total)],
            stdout=out, stderr=subprocess.DEVNULL,
        )  # fmt: skip

        def seen() -> int:
            end = out.seek(0, 2)
            out.seek(max(0, end - 64))
            lines = out.read().split()
            return int(lines[-1]) if lines else 0

        try:
            return measure(program, kind, process.pid, total, seen, unit)
        finally:
            process.kill()
            process.wait()


def worker(lab: Lab, kind: str, total: int, unit: int = 1) -> Figure:
    """Measure the stream worker by what it has committed to SQL."""
    process = lab.worker(f"stream-{kind}").start()
    assert process.process is not None
    before = lab.counted()
    try:
        name = f"redistill ({'SQLite' if lab.db.is_sqlite else 'PostgreSQL'})"
        return measure(name, kind, process.process.pid, total, lambda: lab.counted() - before, unit)
    finally:
        process.stop()


def events(n: int) -> list[Any]:
    """``n`` encoded JSON events, served a few microseconds apart, as in heavy traffic."""
    rng = np.random.default_rng(0)
    begin = datetime.now(UTC)
    values = rng.normal(size=(n, 20)).round(4).tolist()
    return [
        encode(
            PredictionMade(
                id=f"row-{i:09d}",
                model="credit",
                version="7",
                served_at=begin + timedelta(microseconds=10 * i),
                features={f"f{j}": v for j, v in enumerate(row)},
                prediction="repay",
                scores=[0.75, 0.25],
            ),
            source="/bench",
        )
        for i, row in enumerate(values)
    ]


def arrow(n: int, first: int) -> bytes:
    """A batch of ``n`` rows."""
    rng = np.random.default_rng(first)
    begin = now_us()
    return encode_batch(
        model="credit",
        version="7",
        ids=[f"arrow-{i:09d}" for i in range(first, first + n)],
        served_at=np.arange(begin, begin + n),
        feature_names=CONFIG.schema.names,
        features=rng.normal(size=(n, 20)).astype(np.float32),
        prediction=["repay"] * n,
        scores=np.tile(np.array([0.75, 0.25], np.float32), (n, 1)),
    )


def prepare(lab: Lab, sample: list[Any]) -> None:
    """Put the model under watch, with a profile of normal rows."""
    watch(lab.db, CONFIG)
    records = [Record(m.topic, 0, i, 0, m.key, m.value, m.headers) for i, m in enumerate(sample)]
    (block,) = decode_predictions(records, lambda _: CONFIG.schema).blocks
    profile = build_profile(block, CONFIG.schema).to_bytes()
    with lab.db.begin() as conn:
        conn.execute(
            upsert(profiles, ["model", "version"], update=["profile"]).values(
                model="credit", version="7", profile=profile, provisional=False
            )
        )


def send_json(lab: Lab, made: list[Any], copies: int) -> None:
    """Fill the topic, ids made unique by their place in the text."""
    from confluent_kafka import Producer

    p = Producer({"bootstrap.servers": lab.bootstrap, "linger.ms": 20, "acks": 1})
    topic = lab.broker.topic("predictions")
    for copy in range(copies):
        for i, m in enumerate(made):
            value = m.value.replace(b'"row-', b'"r%02d-' % copy, 1)
            while True:
                try:
                    p.produce(topic, value, key=m.key, headers=m.headers, partition=i % PARTITIONS)
                    break
                except BufferError:
                    p.poll(0.1)
            p.poll(0)
    p.flush()


def send_arrow(lab: Lab, batches: int) -> None:
    """Fill the topic with batches."""
    from confluent_kafka import Producer

    p = Producer({"bootstrap.servers": lab.bootstrap, "linger.ms": 20, "acks": 1})
    topic = lab.broker.topic("predictions")
    for i in range(batches):
        headers = headers_of(
            PredictionMade,
            source="/bench",
            event_id=f"b{i}",
            content_type=b"application/vnd.apache.arrow.stream",
        )
        p.produce(topic, arrow(BATCH, i * BATCH), key=b"credit", headers=headers, partition=i % 4)
        p.poll(0)
        if i % 200 == 199:
            p.flush()
    p.flush()


def main() -> None:
    """Run everything and print a table, or JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--arrow-rows", type=int, default=2_000_000)
    parser.add_argument("--database", help="default: a SQLite file in a temporary folder")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-stream-"))
    server = KafkaServer(folder / "kafka").start()

    def show(f: Figure) -> None:
        if args.json:
            both = {"rows_per_second": f.rows_per_second, "rows_per_core": f.rows_per_core}
            print(json.dumps(asdict(f) | both), flush=True)
            return
        print(
            f"{f.input:<9} {f.program:<28} {f.rows_per_second:>12,.0f} rows/s wall "
            f"{f.rows_per_core:>12,.0f} rows per CPU second, peak {f.peak_mb:,.0f} MB",
            flush=True,
        )

    try:
        url = args.database or f"sqlite:///{folder / 'bench.db'}"
        made = events(min(args.rows, 50_000))
        copies = max(1, args.rows // len(made))
        total = copies * len(made)
        lab = Lab(server.bootstrap, url, folder).make_topics()
        prepare(lab, made[:10_000])
        send_json(lab, made, copies)
        topic = lab.broker.topic("predictions")
        show(worker(lab, "json", total))
        show(script(BARE, "confluent-kafka, bare loop", "json", lab, topic, total))
        stock = min(total, 60_000)
        show(script(STOCK, "Faust, stock", "json", lab, topic, stock))
        lab.close()
        batches = args.arrow_rows // BATCH
        lab = Lab(server.bootstrap, url, folder).make_topics()
        prepare(lab, made[:10_000])
        send_arrow(lab, batches)
        show(worker(lab, "arrow500", batches, BATCH))
        topic = lab.broker.topic("predictions")
        show(script(BARE, "confluent-kafka, bare loop", "arrow500", lab, topic, batches, BATCH))
        lab.close()
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
