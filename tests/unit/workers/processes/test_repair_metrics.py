"""What Prometheus is told of incidents, jobs and tasks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import loop
import pytest
from loop import LIMITS, Clock, finding
from prometheus_client import generate_latest

from redistill.streams.errors import StreamsError
from redistill.streams.store.database import Database
from redistill.workers.incidents import ingest
from redistill.workers.processes.metrics_endpoint import registry_of
from redistill.workers.processes.repair_metrics import BELIEVED_SECONDS, RepairMetrics
from redistill.workers.store import clock_problem
from redistill.workers.store.clock_problem import ClockProblem


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
    """What is told after a round of the task that reads."""
    with suppress(StreamsError):
        metrics.refresh()
    return told(metrics)


def told(metrics: RepairMetrics) -> str:
    return generate_latest(registry_of("repair", [metrics])).decode()


def test_metrics_tell_incidents_and_jobs(database: Database) -> None:
    text = scrape(RepairMetrics(database, namespace="staging"))
    assert 'staging_redistill_repair_incidents_open{model="credit",state="diagnosing"} 1.0' in text
    assert 'staging_redistill_repair_jobs{model="credit",state="queued"} 1.0' in text
    assert "staging_redistill_repair_outbox_rows 3.0" in text
    assert "staging_redistill_repair_retention_stopped 0.0" in text
    assert "staging_redistill_repair_database_up 1.0" in text


def test_clocks_that_differ_are_seen_from_outside(database: Database) -> None:
    with database.begin() as conn:
        clock_problem.put(conn, ClockProblem(why="x", us=1, since=0, until=None, holder="w"))
    assert "redistill_repair_retention_stopped 1.0" in scrape(RepairMetrics(database))


def test_metrics_go_on_when_the_database_is_gone(tmp_path: Path) -> None:
    from redistill.streams.store.database import connect

    empty = connect(f"sqlite:///{tmp_path / 'empty.db'}")
    text = scrape(RepairMetrics(empty))
    assert "redistill_repair_database_up 0.0" in text
    assert "incidents_open{" not in text
    empty.dispose()


def test_scrape_asks_no_database_and_old_numbers_are_not_told(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    metrics = RepairMetrics(database, monotonic=lambda: now)
    assert "redistill_repair_database_up 0.0" in told(metrics)
    metrics.refresh()

    def hangs() -> None:
        raise AssertionError("a scrape waits for the database")

    monkeypatch.setattr(database, "read", hangs)
    now += BELIEVED_SECONDS
    assert 'redistill_repair_jobs{model="credit",state="queued"} 1.0' in told(metrics)
    now += 1
    assert "redistill_repair_database_up 0.0" in told(metrics)
    assert "redistill_repair_jobs{" not in told(metrics)
