"""Seconds from the commit of a finding to the receivers: a webhook, and a real Alertmanager.

    python tests/benchmarks/bench_alerts.py [--findings 40] [--json FILE]

Real repair and alert processes on SQLite and a real Kafka. Baseline in the same run,
finding by finding in turn: the same processes without a broker, so that nothing wakes them and they
find everything by looking. Both contain ``[storm] settle_seconds`` (0.5 s, as it comes), for which an alert waits before it is told
first.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import alertmanager_server
import kafka_server
import loop
import numpy as np
from processes import Worker, environment, redistill
from receivers import Receiver, Request, Talk, answers, receiver
from rich.console import Console
from rich.table import Table
from waiting import eventually

from redistill.streams.kafka.broker import Broker
from redistill.streams.store.database import Database
from redistill.times import now_us
from redistill.workers.processes import topics
from redistill.workers.settings.settings import Settings
from redistill.workers.store import opening

WOKEN, POLLING = "woken by the broker", "baseline: polling only"
WEBHOOK, ALERTMANAGER = "webhook", "Alertmanager"
NOBODY = "127.0.0.1:9"
"""A broker's address at which nothing listens: the repair process will not start without one."""
SECRET = "whsec_" + "QUFB" * 12
LOOK_SECONDS = 0.01
"""Between two looks at Alertmanager: its figures are late by this at most, and by one answer."""
REST_SECONDS = 1.0
"""At most so long after the last delivery, by chance, comes the next finding: no round of any
process is met at the same moment each time."""

HOOK_PATH = "/alerts"
HOOK = """
[channels.hook]
kind = "webhook"
url = "{url}"
secret = "env:HOOK_SECRET"
allow_private = ["127.0.0.0/8"]
[storm]
alerts = 10000                 # each finding is a message of its own
"""
TOLD = """
[channels.am]
kind = "alertmanager"
url = "{url}"
allow_private = ["127.0.0.0/8"]
"""


class Arrivals:
    """When (monotonic seconds) the webhook was first told of each model."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}

    def __call__(self, request: Request, talk: Talk) -> None:
        """Note it, and answer; what Alertmanager tells on comes here as well, and is not counted."""
        now = time.monotonic()
        if request.path == HOOK_PATH:
            self.at.setdefault(request.json["data"]["model"], now)
        talk.answer(200)


class Site:
    """An installation with a repair and an alert process.

    Parameters
    ----------
    broker
        What wakes both; ``None``: nothing does.
    """

    def __init__(self, folder: Path, broker: Broker | None, alerts: str) -> None:
        home = folder / "home"
        settings = Settings.load({"home": home})
        opening.upgrade(settings)
        self.database: Database = opening.open(settings)
        (home / "alerts.toml").write_text(alerts)
        env = environment(home=str(home)) | {"HOOK_SECRET": SECRET}
        known = {} if broker is None else {
            "REDISTILL_BROKER": broker.servers, "REDISTILL_NAMESPACE": broker.namespace,
        }  # fmt: skip
        done = redistill(["keys", "init"], env)
        if done.returncode:
            raise RuntimeError(done.stderr)
        repair = env | {"REDISTILL_BROKER": NOBODY} | known
        self.workers = [
            Worker("repair", ["run", "repair"], repair, folder / "logs"),
            Worker("alerts", ["run", "alerts"], env | known, folder / "logs"),
        ]

    def start(self) -> None:
        """Start both processes, and wait until they are at work."""
        repair, alerts = (worker.start() for worker in self.workers)
        self.wait(lambda: repair.says("repair_started") and alerts.says("alerts_lead"), "they run")

    def register(self, model: str) -> None:
        """A model that is watched."""
        with self.database.begin() as conn:
            loop.register(conn, loop.spec(model, level="rollback"), now=now_us())

    def harm(self, model: str) -> float:
        """Store a finding of harm; returns the moment of its commit, in monotonic seconds."""
        with self.database.begin() as conn:
            loop.store(conn, loop.finding(model=model, at=now_us()), now=now_us())
        return time.monotonic()

    def wait(self, check: Callable[[], object], what: str, every: float = 0.05) -> None:
        """Wait for a condition; fail with the processes' logs."""
        try:
            eventually(check, what, every=every)
        except AssertionError as late:
            logs = "\n".join(worker.tail() for worker in self.workers)
            raise RuntimeError(f"{late}\n{logs}") from None

    def close(self) -> None:
        """End both."""
        for worker in self.workers:
            worker.stop()
        self.database.dispose()


@dataclass
class Bench:
    """Receivers, and installations that tell them.

    Parameters
    ----------
    sites
        By what is measured. All are alive all the time, and take turns by chance: what else the
        machine does hits each of them alike.
    """

    sites: dict[str, Site]
    heard: Receiver
    manager: alertmanager_server.AlertmanagerServer | None
    rng: Random

    def measure(self, findings: int) -> dict[str, dict[str, list[float]]]:
        """Seconds from the commit of a finding to each receiver, by site and receiver; each finding
        is of another model. The first of a site finds everything cold and does not count."""
        arrivals = Arrivals()
        self.heard.behaviour = arrivals
        names = [WEBHOOK, ALERTMANAGER] if self.manager else [WEBHOOK]
        took: dict[str, dict[str, list[float]]] = {
            what: {name: [] for name in names} for what in self.sites
        }
        models = [f"model-{i:03}" for i in range((findings + 1) * len(self.sites))]
        left = iter(models)
        for _ in range(findings + 1):
            for what in self.rng.sample(list(self.sites), len(self.sites)):
                for name, seconds in self._one(self.sites[what], next(left), arrivals).items():
                    took[what][name].append(seconds)
        self.heard.behaviour = answers(200)
        return {
            what: {name: seconds[1:] for name, seconds in by.items()} for what, by in took.items()
        }

    def _one(self, site: Site, model: str, arrivals: Arrivals) -> dict[str, float]:
        site.register(model)
        time.sleep(self.rng.uniform(0.0, REST_SECONDS))
        began, took = site.harm(model), {}
        if (manager := self.manager) is not None:
            fires = f"{model} fires in Alertmanager"
            site.wait(lambda: manager.alerts(model=model), fires, every=LOOK_SECONDS)
            took[ALERTMANAGER] = time.monotonic() - began
        site.wait(lambda: model in arrivals.at, f"{model} is told")
        return took | {WEBHOOK: arrivals.at[model] - began}


def kafka(stack: ExitStack, folder: Path) -> Broker | None:
    """A real one with its topics; ``None``: there is none, and it is said why."""
    server = kafka_server.KafkaServer(folder)
    try:
        server.start()
    except kafka_server.Unavailable as why:
        print(f"no Kafka, so no ratio: {why}")
        return None
    stack.callback(server.stop)
    broker = Broker(server.bootstrap, namespace="bench")
    topics.apply(broker, topics.wanted(broker), replication=1, create=True)
    return broker


def alertmanager(
    stack: ExitStack, folder: Path, webhook: str
) -> alertmanager_server.AlertmanagerServer | None:
    """A real one; ``None``: there is none, and it is said why."""
    server = alertmanager_server.AlertmanagerServer(folder, webhook)
    try:
        server.start()
    except alertmanager_server.Unavailable as why:
        print(f"no Alertmanager, so only the webhook: {why}")
        return None
    stack.callback(server.stop)
    return server


def percentiles(seconds: list[float]) -> dict[str, float]:
    """p50 and p95."""
    p50, p95 = np.percentile(seconds, [50, 95])
    return {"p50": round(float(p50), 4), "p95": round(float(p95), 4)}


def ratios(figures: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Woken over polling, by receiver and percentile; empty where one of them was not measured."""
    if WOKEN not in figures:
        return {}
    return {
        name: {p: round(value / figures[POLLING][name][p], 3) for p, value in found.items()}
        for name, found in figures[WOKEN].items()
    }


def show(report: dict[str, Any]) -> None:
    """Print the table."""
    table = Table(title=f"seconds from a finding's commit, {report['findings']} findings each")
    for column in ("receiver", "what", "p50", "p95"):
        table.add_column(column, justify="right" if column.startswith("p") else "left")
    for what, found in report["seconds"].items():
        for name, by in found.items():
            table.add_row(name, what, f"{by['p50']:.3f}", f"{by['p95']:.3f}")
    for name, by in report["ratio"].items():
        table.add_row(name, "ratio", f"{by['p50']:.2f}", f"{by['p95']:.2f}")
    Console().print(table)


def main() -> None:
    """Measure, print a table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--findings", type=int, default=40)
    parser.add_argument("--json", type=Path, default=Path("build/bench/alerts.json"))
    args = parser.parse_args()
    load = [round(os.getloadavg()[0], 1)]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        heard = stack.enter_context(receiver())
        text = HOOK.format(url=heard.url + HOOK_PATH)
        manager = alertmanager(stack, folder / "am", f"{heard.url}/on")
        if manager is not None:
            text += TOLD.format(url=manager.url)
        brokers = {POLLING: None, WOKEN: kafka(stack, folder / "kafka")}
        sites: dict[str, Site] = {}
        for what, broker in brokers.items():
            if what == POLLING or broker is not None:
                sites[what] = Site(folder / f"site-{len(sites)}", broker, text)
                stack.callback(sites[what].close)
        for site in sites.values():
            site.start()
        took = Bench(sites, heard, manager, Random(11)).measure(args.findings)
        load.append(round(os.getloadavg()[0], 1))
    figures = {
        what: {name: percentiles(seconds) for name, seconds in by.items()}
        for what, by in took.items()
    }
    report = {
        "findings": args.findings,
        "seconds": figures,
        "ratio": ratios(figures),
        "load": load,
        "cores": os.cpu_count(),
    }
    show(report)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(report, indent=2) + "\n")
    print(f"load before and after: {load}, {os.cpu_count()} cores; {args.json}")


if __name__ == "__main__":
    main()
