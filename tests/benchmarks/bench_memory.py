"""Memory of the whole stream worker: over minutes of steady traffic, and under a lag.

``python tests/benchmarks/bench_memory.py [--minutes 10] [--rate 2000] [--lag 1000000] [--json]``

Steady: JSON predictions with 20 features and labels for a tenth of them, at a constant rate, on a
real Kafka; resident memory at minute 2 and at the end. Beside it a bare confluent-kafka loop on the
same topic, at the same moments. Then the worker is stopped while rows gather in the log, and
started again: its peak while it catches up.
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
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from bench_stream import BARE, events, peak_mb, prepare, send_json
from kafka_server import KafkaServer
from stream_lab import PARTITIONS, Lab

from redistill.streams.wire.codec import encode
from redistill.streams.wire.events import LabelObserved

FIRST_MINUTE = 2.0


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def steady(lab: Lab, made: list[Any], rate: int, seconds: float) -> Iterator[float]:
    """Send predictions, and a label for each tenth, at a rate; yields the seconds passed, about
    once a second."""
    from confluent_kafka import Producer

    p = Producer({"bootstrap.servers": lab.bootstrap, "linger.ms": 50, "acks": 1})
    predictions, labels = lab.broker.topic("predictions"), lab.broker.topic("labels")
    began, sent = time.monotonic(), 0
    while (now := time.monotonic() - began) < seconds:
        for _ in range(rate // 20):
            m = made[sent % len(made)]
            name = b'"s%05d-' % (sent // len(made))
            value = m.value.replace(b'"row-', name, 1)
            p.produce(predictions, value, key=m.key, headers=m.headers, partition=sent % PARTITIONS)
            if sent % 10 == 0:
                row = f"s{sent // len(made):05d}-{sent % len(made):09d}"
                label = encode(
                    LabelObserved(
                        id=row,
                        model="credit",
                        label="repay",
                        source="ledger",
                        observed_at=datetime.now(UTC),
                    ),
                    source="/bench",
                )
                p.produce(labels, label.value, key=label.key, headers=label.headers)
            sent += 1
        p.poll(0)
        if sent % rate == 0:
            yield now
        time.sleep(max(0.0, began + sent / rate - time.monotonic()))
    p.flush()


def main() -> None:
    """Run both and print a table, or JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=int, default=2_000, help="rows a second")
    parser.add_argument("--lag", type=int, default=1_000_000, help="rows to catch up with")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    first = min(FIRST_MINUTE, args.minutes / 2)
    folder = Path(tempfile.mkdtemp(prefix="bench-memory-"))
    server = KafkaServer(folder / "kafka").start()
    bare: subprocess.Popen[bytes] | None = None

    def show(**figures: Any) -> None:
        if args.json:
            print(json.dumps(figures), flush=True)
            return
        cells = (
            f"{k} {v:,.1f}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items()
        )
        print("  ".join(cells), flush=True)

    try:
        made = events(min(args.lag, 50_000))
        lab = Lab(server.bootstrap, f"sqlite:///{folder / 'bench.db'}", folder).make_topics()
        prepare(lab, made[:10_000])
        worker = lab.worker("memory").start()
        assert worker.process is not None
        topic = lab.broker.topic("predictions")
        loop = [sys.executable, "-c", BARE, "bare", lab.bootstrap, topic, str(10**12)]
        bare = subprocess.Popen(loop, stdout=subprocess.DEVNULL)
        processes = {"redistill": worker.process.pid, "bare loop": bare.pid}
        early: dict[str, float] = {}
        for now in steady(lab, made, args.rate, args.minutes * 60):
            if not early and now >= first * 60:
                early = {name: resident_mb(pid) for name, pid in processes.items()}
        for name, pid in processes.items():
            late = resident_mb(pid)
            show(
                program=name, rows=lab.counted() if name == "redistill" else 0, minute=first, mb=early[name],
                last_minute=args.minutes, last_mb=late, growth_percent=100 * (late / early[name] - 1),
            )  # fmt: skip
        worker.stop()
        copies = max(1, args.lag // len(made))
        before = lab.counted()
        send_json(lab, made, copies)
        worker = lab.worker("catching-up").start()
        assert worker.process is not None
        while lab.counted() - before < copies * len(made):
            time.sleep(0.5)
        show(program="redistill", lag=copies * len(made), peak_mb=peak_mb(worker.process.pid))
        worker.stop()
        lab.close()
    finally:
        if bare is not None:
            bare.kill()
            bare.wait()
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
