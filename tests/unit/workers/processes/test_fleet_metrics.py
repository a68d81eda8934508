"""One worker tells the figures; they are bounded, and never older than they look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import loop
import pytest
import sqlalchemy as sa
from metric_scrapes import add_incident, add_job, add_outcomes, families
from prometheus_client import generate_latest

from redistill.streams.errors import StreamsError
from redistill.streams.store.clock import DatabaseClock
from redistill.streams.store.database import Database
from redistill.streams.store.tables import findings, specs
from redistill.times import SECOND
from redistill.workers.processes.fleet_metrics import BELIEVED_SECONDS, FleetMetrics
from redistill.workers.processes.metrics_endpoint import registry_of
from redistill.workers.processes.repair_metrics import RepairMetrics
from redistill.workers.store.model_status import accuracy
from redistill.workers.store.queries import overview
from redistill.workers.store.tables import incidents, jobs
from redistill.workers.web.metrics import WebMetrics


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    with opened.begin() as conn:
        loop.register(conn, loop.spec())
        add_outcomes(conn, "credit", "v1", [1] * 180 + [0] * 20)
    yield opened
    opened.dispose()


class Time:
    """Seconds that pass when they are told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def told(metrics: FleetMetrics) -> dict[str, float]:
    return {s.name: s.value for family in metrics.collect() for s in family.samples}


def test_accuracy_is_that_of_the_command_models(database: Database) -> None:
    metrics = FleetMetrics(database, holder="a")
    metrics.refresh()
    with database.read() as conn:
        shown = accuracy(overview(conn, "credit", loop.NOW))
    assert shown is not None
    values = told(metrics)
    assert values["redistill_model_accuracy_ratio"] == shown.value == 0.9
    assert values["redistill_model_accuracy_low_ratio"] == shown.low
    assert values["redistill_model_accuracy_high_ratio"] == shown.high
    assert values["redistill_model_labelled_rows"] == 200
    assert values["redistill_model_base_error_ratio"] == 0.05
    assert 0.05 < values["redistill_model_base_error_high_ratio"] < 0.07
    assert values["redistill_model_label_lag_seconds"] == 60


def test_one_worker_tells_and_another_when_it_left(database: Database) -> None:
    first, second = (FleetMetrics(database, holder=name) for name in "ab")
    for metrics in (first, second, first):
        metrics.refresh()
    assert (bool(told(first)), bool(told(second))) == (True, False)
    first.leave()
    second.refresh()
    first.refresh()
    assert (bool(told(first)), bool(told(second))) == (False, True)


def test_figures_that_cannot_be_read_anew_are_told_a_while_and_no_longer(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = Time()
    metrics = FleetMetrics(database, holder="a", monotonic=time)
    assert told(metrics) == {}
    metrics.refresh()

    def away() -> None:
        raise StreamsError("the server is away")

    monkeypatch.setattr(database, "begin", away)
    with pytest.raises(StreamsError):
        metrics.refresh()
    time.now += BELIEVED_SECONDS
    assert told(metrics)
    time.now += 1
    assert told(metrics) == {}


def test_worker_that_lost_its_database_falls_silent_before_another_takes_over(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the answer to its last question took: the lease counts from before."""
    time, wall = Time(), [loop.NOW]
    clock = DatabaseClock(shared=False, process=lambda: wall[0])
    monkeypatch.setattr(database, "clock", clock)
    first, second = (FleetMetrics(database, holder=h, monotonic=time) for h in "ab")
    begin = database.begin

    @contextmanager
    def slowly() -> Iterator[sa.Connection]:
        with begin() as conn:
            yield conn
        time.now += 30  # until it knows of the commit

    began = time.now
    with monkeypatch.context() as slow:
        slow.setattr(database, "begin", slowly)
        first.refresh()
    assert told(first)
    while told(first):
        time.now += 1
    silent = time.now - began
    while not told(second):
        wall[0] += SECOND
        second.refresh()
    assert silent < (wall[0] - loop.NOW) / SECOND == 60


def copies(conn: sa.Connection, table: sa.Table, count: int, **own: Callable[[int], Any]) -> None:
    """More rows like the one that is there."""
    row = dict(conn.execute(sa.select(table)).mappings().one())
    rows = [{**row, **{key: of(n) for key, of in own.items()}} for n in range(count)]
    conn.execute(sa.insert(table), rows)


@pytest.mark.parametrize("most", [10, 500])
def test_two_thousand_models_are_counted_and_few_of_them_named(
    database: Database, most: int
) -> None:
    def name(n: int) -> str:
        return f"m{n:04}"

    with database.begin() as conn:
        add_incident(conn, "credit")
        add_job(conn, 0, "credit")
        loop.store(conn, loop.finding(kind="input", contributors=("x",)))
        copies(conn, specs, 1_999, model=name, registered_at=lambda n: loop.NOW + n)
        copies(conn, incidents, 1_999, model=name, incident_id=name)
        copies(conn, jobs, 1_999, model=name, job_id=name, number=lambda n: n + 1)
        copies(conn, findings, 1_999, model=name, finding_id=name)
    fleet = FleetMetrics(database, holder="a", most_models=most)
    numbers = RepairMetrics(database, most_models=most)
    for each in (fleet, numbers):
        each.refresh()
    registry = registry_of("repair", [fleet, numbers])
    text = generate_latest(registry).decode()
    text += generate_latest(WebMetrics(database, "", most_models=most).registry).decode()
    named: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    for name, family in families(text).items():
        for sample in family.samples:
            if "model" in sample.labels:
                named[sample.labels["model"]] += 1
                totals[name] += int(sample.value)
    assert len(named) == most + 1
    assert {"credit", "m0000", "_other"} <= set(named)
    assert max(named.values()) < 20
    for name in (
        "redistill_model_incidents_open",
        "redistill_incidents_open",
        "redistill_repair_jobs",
    ):
        assert totals[name] == 2_000
    assert families(text)["redistill_models_unnamed"].samples[0].value == 2_000 - most
    assert families(text)["redistill_models_registered"].samples[0].value == 2_000
