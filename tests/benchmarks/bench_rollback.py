"""From ``redistill rollback`` to services that answer with the old bytes: seconds, and what a call
costs.

Baselines in the same run: copying the file to every service (no signature, no check, no event), and
ONNX Runtime called directly.

    python tests/benchmarks/bench_rollback.py [--services 10] [--rounds 10]
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import onnxruntime as ort
from release_kit import NUMERIC, Installation, install, rows
from rich.console import Console
from rich.table import Table

from redistill.streams.client.model import ModelClient
from redistill.streams.store.relay import relay
from redistill.streams.wire.events import PointerMoved, VersionActivated
from redistill.workers.releases import release_requests


class Bus:
    """What a broker does for pointers, without one: hands announcements to every service at once."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[PointerMoved], None]] = []

    def on_pointer(self, model: str, callback: Callable[[PointerMoved], None]) -> None:
        """A service listens."""
        self.callbacks.append(callback)

    def report(self, event: VersionActivated) -> None:
        """A service told what it activated."""


class BusProducer:
    """The relay's producer, in place of Kafka's."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    def send(self, topic: str, value: bytes | None = None, **_: Any) -> BusProducer:
        """Deliver one record."""
        if topic == "pointers":
            import msgspec

            event = msgspec.json.decode(value or b"", type=PointerMoved)
            for callback in self.bus.callbacks:
                callback(event)
        return self

    def get(self, timeout: float | None = None) -> None:
        """Acknowledged at once."""


def move(inst: Installation, bus: Bus, kind: release_requests.Kind, body: dict[str, str]) -> None:
    """What the command and the repair worker's loop do between them."""
    with inst.database.begin() as conn:
        release_requests.submit(conn, kind, "m", body, actor="bench", now=inst.now)
    inst.tick()
    relay(inst.database, BusProducer(bus), holder="bench")


def until_served(clients: list[ModelClient], version: str) -> list[float]:
    """Seconds until each service answers with a version."""
    began, took = time.perf_counter(), [0.0] * len(clients)
    waiting = set(range(len(clients)))
    while waiting:
        for i in list(waiting):
            if clients[i].version == version:
                took[i] = time.perf_counter() - began
                waiting.discard(i)
        time.sleep(0.0005)
    return took


def timed(
    inst: Installation, bus: Bus, clients: list[ModelClient], kind: Any, body: Any, to: str
) -> list[float]:
    """Seconds from the command to each service."""
    began = time.perf_counter()
    worker = threading.Thread(target=move, args=(inst, bus, kind, body))
    worker.start()
    before = time.perf_counter() - began
    took = [before + t for t in until_served(clients, to)]
    worker.join()
    return took


def copies(model: Path, services: int, folder: Path) -> float:
    """Seconds to copy a file to each service and load it there: no check of any kind."""
    began = time.perf_counter()
    for i in range(services):
        target = folder / f"copy-{i}.onnx"
        shutil.copyfile(model, target.with_suffix(".new"))
        os.replace(target.with_suffix(".new"), target)
        ort.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    return time.perf_counter() - began


def microseconds(call: Callable[[], object], n: int = 3_000) -> float:
    """Median microseconds of a call."""
    spent = []
    for _ in range(n):
        began = time.perf_counter_ns()
        call()
        spent.append(time.perf_counter_ns() - began)
    return median(spent) / 1e3


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--services", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        inst = install(folder / "home", f"sqlite:///{folder}/r.db", clock=time.time)
        inst.register("m")
        package = inst.add("m", "v1", 1, "baseline", schema=NUMERIC)
        inst.add("m", "v2", 2, schema=NUMERIC)
        inst.publish("m", "v1")
        bus = Bus()
        clients = [
            ModelClient(
                "m",
                repository=inst.layout.repository,
                trust=inst.trust,
                cache=folder / f"cache-{i}",
                log=bus,
                poll_s=3_600,
            )
            for i in range(args.services)
        ]
        first = timed(inst, bus, clients, "publish", {"version": "v2"}, "v2")
        back, forward = [], []
        for _ in range(args.rounds):
            back += timed(inst, bus, clients, "rollback", {}, "v1")
            forward += timed(inst, bus, clients, "publish", {"version": "v2"}, "v2")
        model = inst.layout.path("m", "model.onnx", package.manifest.sha256)
        copied = [copies(model, args.services, folder) for _ in range(3)]

        table = Table(title=f"seconds until {args.services} services answer with other bytes")
        for column in ("what", "p50", "max"):
            table.add_column(column, justify="left" if column == "what" else "right")
        for name, values in (
            ("roll back (signed, verified, announced)", back),
            ("forward to a version that served before", forward),
            ("first publish (limited child in each service)", first),
            ("baseline: copy and load, no check", copied),
        ):
            table.add_row(name, f"{median(values):.3f}", f"{max(values):.3f}")
        console.print(table)

        client = clients[0]
        x = rows(NUMERIC, 1)
        row = dict(zip(NUMERIC.names, x[0].tolist(), strict=True))
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        bare = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        table = Table(title="microseconds of one call, 20 features, 4 classes")
        for column in ("what", "p50"):
            table.add_column(column, justify="left" if column == "what" else "right")
        table.add_row(
            "ModelClient.predict(dict)", f"{microseconds(lambda: client.predict(row)):.1f}"
        )
        table.add_row(
            "baseline: ONNX Runtime on a packed array",
            f"{microseconds(lambda: bare.run(['y'], {'x': x})):.1f}",
        )
        console.print(table)
        for each in clients:
            each.close()


if __name__ == "__main__":
    main()
