"""What Prometheus is told of incidents, jobs and tasks."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import loop
import pytest
from loop import LIMITS, Clock, finding

from redistill.streams.engine.metrics import StreamMetrics
from redistill.streams.errors import StreamsError
from redistill.streams.store.database import Database
from redistill.workers.errors import UsageError
from redistill.workers.incidents import ingest
from redistill.workers.processes.periodic_tasks import PeriodicTask
from redistill.workers.processes.repair_metrics import RepairMetrics


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    with opened.begin() as conn:
        loop.register(conn, loop.spec())
        loop.store(conn, finding())
    ingest.ingest(opened, fleet_limits=LIMITS, actor="test", clock=Clock())
    yield opened
    opened.dispose()


def scrape(metrics: RepairMetrics) -> str:
    port = metrics.serve(0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())
    finally:
        metrics.close()


def test_a_port_that_is_taken_is_said(database: Database) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = f"on 127.0.0.1:{port}: Address already in use; choose another --metrics-port"
        with pytest.raises(UsageError, match=said):
            RepairMetrics(database, {}).serve(port)
        with pytest.raises(StreamsError, match=said):
            StreamMetrics("").serve(port)


def test_metrics_tell_incidents_jobs_and_tasks(database: Database) -> None:
    task = PeriodicTask("sweep", lambda: False, every_seconds=1, stop=threading.Event())
    text = scrape(RepairMetrics(database, {"sweep": task}, namespace="staging"))
    assert 'staging_redistill_repair_incidents_open{model="credit",state="diagnosing"} 1.0' in text
    assert 'staging_redistill_repair_jobs{model="credit",state="queued"} 1.0' in text
    assert 'staging_redistill_repair_duty_failures{duty="sweep"} 0.0' in text
    assert "staging_redistill_repair_outbox_rows 3.0" in text
    assert "staging_redistill_repair_database_up 1.0" in text


def test_metrics_go_on_when_the_database_is_gone(tmp_path: Path) -> None:
    from redistill.streams.store.database import connect

    empty = connect(f"sqlite:///{tmp_path / 'empty.db'}")
    text = scrape(RepairMetrics(empty, {}))
    assert "redistill_repair_database_up 0.0" in text
    assert "incidents_open{" not in text
    empty.dispose()
