"""Every process's metrics, served as it serves them, over a database in which there is something of everything: for tests
that hold documents, rules and dashboards to what is really told."""

from __future__ import annotations

import json
import threading
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import loop
import sqlalchemy as sa
from doors import web_process
from prometheus_client.parser import text_string_to_metric_families
from waiting import eventually

from redistill.streams.engine.metrics import StreamMetrics
from redistill.streams.engine.metrics_address import MetricsAddress
from redistill.streams.store import properties
from redistill.streams.store.database import Database
from redistill.streams.store.process_rows import Presence
from redistill.streams.store.tables import input_states, outbox, outcomes
from redistill.times import DAY, SECOND, now_us
from redistill.workers.alerts.operational import heart
from redistill.workers.alerts.operational.heart import HeartState
from redistill.workers.processes import metrics_endpoint
from redistill.workers.processes.alert_metrics import AlertMetrics
from redistill.workers.processes.fleet_metrics import FleetMetrics
from redistill.workers.processes.periodic_tasks import PeriodicTask
from redistill.workers.processes.repair_metrics import RepairMetrics
from redistill.workers.processes.task_metrics import TaskMetrics
from redistill.workers.releases import roles
from redistill.workers.releases.roles import Lifetimes
from redistill.workers.settings.settings import Settings
from redistill.workers.store import event_counts, opening
from redistill.workers.store.tables import (
    activations,
    alert_deliveries,
    incidents,
    jobs,
    monitored_releases,
    operational_alerts,
    pauses,
)

PROCESSES = ("stream", "repair", "web", "alerts")


def add_incident(
    conn: sa.Connection, model: str, kind: str = "harm", *, stage: str = "detected", status: str = "open"
) -> None:  # fmt: skip
    """An incident of a model."""
    conn.execute(
        sa.insert(incidents).values(
            incident_id=str(uuid4()), model=model, version="v1", incident_class=kind, status=status, stage=stage,
            why="test", attempt=0, split_salt="00", opened_at=loop.NOW, updated_at=loop.NOW,
            open_mark=1 if status == "open" else None,
        )
    )  # fmt: skip


def add_job(conn: sa.Connection, number: int, model: str, state: str = "queued") -> None:
    """A live job."""
    conn.execute(
        sa.insert(jobs).values(
            job_id=str(uuid4()), number=number, model=model, attempt=1, trigger_kind="actor", trigger_id="x",
            state=state, options="{}", tries=0, not_before=loop.NOW, deadline_at=loop.NOW, created_at=loop.NOW,
            live_mark=1,
        )
    )  # fmt: skip


def add_outcomes(
    conn: sa.Connection, model: str, version: str, correct: list[int], *, lag: int = 60 * SECOND
) -> None:
    """Labelled rows, in this order."""
    conn.execute(
        sa.insert(outcomes),
        [
            {
                "model": model, "version": version, "seq": seq, "id_hash": zlib.crc32(f"{version} {seq}".encode()), "id": f"r{seq}", "correct": right,
                "prediction": "repay", "label": "repay" if right else "default", "served_at": loop.NOW,
                "observed_at": loop.NOW + lag, "source": "ledger", "uniform": True, "made_at": loop.NOW + lag,
            }
            for seq, right in enumerate(correct)
        ],
    )  # fmt: skip


def activate(conn: sa.Connection, model: str, instance: str, version: str, *, at: int) -> None:
    """An instance of a service began to serve a version."""
    conn.execute(
        sa.insert(activations).values(
            event_id=str(uuid4()), model=model, instance_id=instance, version=version, sha256=loop.SHA, epoch=1, at=at
        )
    )  # fmt: skip


def served(conn: sa.Connection, model: str, version: str, *, at: int) -> None:
    """A version's input state, with when it served last."""
    conn.execute(
        sa.insert(input_states).values(
            model=model, version=version, topic_id="t", partition=0, state=b"", rows=1, first_served_at=at,
            last_served_at=at, stored_at=at,
        )
    )  # fmt: skip


def fill(database: Database) -> None:
    """Something of everything that is told."""
    now = now_us()
    with database.begin() as conn:
        loop.register(conn, loop.spec())
        loop.store(conn, loop.finding(kind="input", contributors=("x", "y")))
        add_incident(conn, "credit", stage="awaiting_person")
        add_job(conn, 1, "credit")
        add_outcomes(conn, "credit", "v1", [1] * 95 + [0] * 5)
        activate(conn, "credit", "svc-1", "v1", at=now)
        served(conn, "credit", "v1", at=now)
        event_counts.count_job_end(conn, "succeeded", now=now)
        event_counts.count_refusals(conn, ["trusted"], now=now)
        roles.ensure(conn, b'{"signed": {"version": 1}}', now=now, lifetimes=Lifetimes())
        conn.execute(sa.insert(pauses).values(model="credit", until=now + DAY, reason="test"))
        conn.execute(
            sa.insert(monitored_releases).values(
                model="credit", epoch=1, version="v1", predecessor="v0", state="watching", last_seq=0, since=now,
                until=now + DAY,
            )
        )  # fmt: skip
        conn.execute(
            sa.insert(operational_alerts).values(
                alert_id="a", kind="lag", subject="predictions", severity="page", said="", remedy="", opened_at=now,
                updated_at=now, open_mark=1,
            )
        )  # fmt: skip
        conn.execute(
            sa.insert(alert_deliveries).values(
                channel="team", alert_key="incident:1", state="told", digest="d", title="t", severity="page",
                since=now, tries=0, not_before=now, wanted_at=now,
            )
        )  # fmt: skip
        conn.execute(
            sa.insert(outbox).values(
                event_id="e", topic="drift", key="credit", headers="{}", value=b"", created_at=now
            )
        )
        state = HeartState(why=(), since=now, sent_at=now, error=None)
        properties.put(conn, heart.NAME, json.dumps(asdict(state)))
    for kind in PROCESSES:
        Presence(database, kind, f"{kind}:1").say()  # type: ignore[arg-type]


def of_stream() -> StreamMetrics:
    """A stream worker's metrics, each with a number."""
    metrics = StreamMetrics()
    for counter in (
        metrics.rows,
        metrics.records,
        metrics.dead,
        metrics.aborted,
        metrics.gaps,
        metrics.truncated,
    ):
        counter.labels("predictions").inc(0)
    metrics.counted.labels("invalid_scores").inc(0)
    metrics.partition_lag.labels("predictions", "0").set(0)
    metrics.outcomes.labels("credit").inc(0)
    metrics.labels_requested.labels("credit").inc(0)
    metrics.labels_answered.labels("credit").inc(0)
    metrics.label_budget_left.labels("credit").set(0)
    metrics.findings_open.labels("credit").set(0)
    metrics.broker_up.set(1)
    for gauge in (metrics.lag, metrics.lag_seconds, metrics.lag_age):
        gauge.set(0)
    metrics.flushes.observe(0.01)
    return metrics


@contextmanager
def served_by_all(folder: Path) -> Iterator[dict[str, str]]:
    """URL of ``/metrics`` by process."""
    with ExitStack() as stack:
        settings = Settings.load({"home": folder / "home"})
        database = opening.open(settings)
        stack.callback(database.dispose)
        fill(database)
        nowhere = MetricsAddress(port=0)
        stop = threading.Event()
        task = PeriodicTask("sweep", lambda: False, every_seconds=1, stop=stop)
        fleet = FleetMetrics(database, holder="test")
        numbers = RepairMetrics(database)
        for each in (fleet, numbers):
            each.refresh()
        alerts = AlertMetrics(["team"])
        told = {
            "repair": (
                TaskMetrics({"sweep": task}, process="repair"),
                numbers,
                fleet,
            ),
            "alerts": (TaskMetrics({"plan": task}, process="alerts"), alerts),
        }
        urls = {}
        stream = of_stream().serve(nowhere)
        stack.callback(stream.close)
        urls["stream"] = stream.url
        for process, collectors in told.items():
            server = metrics_endpoint.serve(
                metrics_endpoint.registry_of(process, collectors), nowhere
            )
            stack.callback(server.close)
            urls[process] = server.url
        web = stack.enter_context(web_process({"home": str(settings.root)}, folder))
        urls["web"] = f"http://127.0.0.1:{web.port}/metrics"
        # an answer is told again for a second; the next one tells that it was given
        eventually(lambda: "web_requests_total{" in scrape(urls["web"]), "it tells its answers")
        yield urls


def scrape(url: str) -> str:
    """What a process tells."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        return str(answer.read().decode())


def families(text: str) -> dict[str, Any]:
    """What was told, by name as Prometheus stores it; without the times at which counters began."""
    out = {}
    for family in text_string_to_metric_families(text):
        if family.name.endswith("_created"):
            continue
        out[family.name + ("_total" if family.type == "counter" else "")] = family
    return out
