"""``log()`` on the caller's thread at 10,000 calls a second, on a real Kafka, and with it away.

Baseline: ``json.dumps`` and kafka-python's own ``send``. Memory is what is added to a process that
has imported what the logger needs.

    python tests/benchmarks/bench_logger.py [--seconds 10] [--rate 10000]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import kafka  # noqa: F401  (its memory is not the logger's)
import kafka_server
from rich.console import Console
from rich.table import Table

from redistill import PredictionLogger
from redistill.streams.kafka.broker import Broker, admin, producer

NAMES = [f"feature_{j:02d}" for j in range(20)]


def megabytes() -> float:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def drive(call: Callable[[dict[str, float]], object], seconds: float, rate: int) -> list[float]:
    """Call at a steady rate; returns sorted microseconds of each call."""
    rng = random.Random(0)
    rows = [{n: rng.random() for n in NAMES} for _ in range(1_000)]
    spent = []
    began = time.perf_counter()
    for i in range(int(seconds * rate)):
        while time.perf_counter() - began < i / rate:
            time.sleep(0.0005)
        before = time.perf_counter()
        call(rows[i % 1_000])
        spent.append((time.perf_counter() - before) * 1e6)
    return sorted(spent)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=int, default=10_000)
    args = parser.parse_args()
    table = Table(
        "", "p50 µs", "p99 µs", "max ms", "CPU s", "MB added", "sent", "dropped",
        title=f"{args.rate:,} calls/s for {args.seconds:g} s, 20 features",
    )  # fmt: skip

    def add(
        name: str, call: Callable[[dict[str, float]], object], finish: Callable[[], str]
    ) -> None:
        memory, cpu = megabytes(), time.process_time()
        spent = drive(call, args.seconds, args.rate)
        grown = megabytes() - memory
        outcome = finish().split()
        n = len(spent)
        table.add_row(
            name, f"{spent[n // 2]:.1f}", f"{spent[int(n * 0.99)]:.0f}", f"{spent[-1] / 1e3:.0f}",
            f"{time.process_time() - cpu:.1f}", f"{grown:.0f}", *outcome,
        )  # fmt: skip

    with tempfile.TemporaryDirectory() as folder:
        server = kafka_server.KafkaServer(Path(folder))
        try:
            server.start()
        except kafka_server.Unavailable as why:
            print(f"no Kafka: {why}")
            return 1
        broker = Broker(server.bootstrap)
        client = admin(broker)
        client.create_topics(
            {"predictions": {"num_partitions": 4, "replication_factor": 1}}, wait_for_metadata=True
        )
        client.close()
        plain = producer(broker)

        def send(features: dict[str, float]) -> object:
            body = {"id": "x", "model": "credit", "features": features, "prediction": "repay"}
            return plain.send("predictions", value=json.dumps(body).encode(), key=b"credit")

        def flush_plain() -> str:
            plain.flush(30)
            return f"{int(args.seconds * args.rate)} 0"

        add("json + kafka-python send", send, flush_plain)
        plain.close()
        log = PredictionLogger(server.bootstrap)

        def call(features: dict[str, float]) -> object:
            return log.log(
                model="credit",
                version="7",
                prediction="repay",
                scores=[0.9, 0.1],
                features=features,
            )

        def flush() -> str:
            log.flush(30)
            stats = log.stats()
            return f"{stats.sent} {stats.dropped}"

        add("log()", call, flush)
        server.kill()
        sent = log.stats().sent

        def away() -> str:
            stats = log.stats()
            return f"{stats.sent - sent} {stats.dropped}"

        add("log(), broker away", call, away)
        log.close(timeout=0)
        server.stop()
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
