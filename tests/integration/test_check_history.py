"""The invariants on real servers: both databases, the command, a relay without a broker, the topics
of a Kafka."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from history import NOW, fill
from typer.testing import CliRunner

from redistill import times
from redistill.streams.kafka.broker import Broker, admin, producer
from redistill.streams.store import lease, properties
from redistill.streams.store.database import Database
from redistill.streams.store.relay import Relay
from redistill.streams.store.tables import offsets
from redistill.streams.store.tables import outbox as outbox_table
from redistill.times import DAY, to_seconds
from redistill.workers.invariants import check as invariants
from redistill.workers.invariants.check import CheckedInvariant
from redistill.workers.invariants.log_offsets import logs
from redistill.workers.jobs.scheduler import LEASE as SCHEDULER
from redistill.workers.jobs.scheduler import Scheduler
from redistill.workers.settings.settings import Settings
from redistill.workers.store import audit, opening


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = opening.open(Settings.load({"home": tmp_path}))
    fill(database, tmp_path)
    yield database
    database.dispose()


def check(database: Database, home: Path, **more: Any) -> list[CheckedInvariant]:
    more = {"settle_seconds": 0.0, **more}
    return invariants.check(database, now=NOW + 2 * DAY, home=home, outbox_kept_us=7 * DAY, **more)


def test_an_untouched_history_holds(database_url: str, tmp_path: Path) -> None:
    settings = Settings.load({"home": tmp_path, "database": database_url})
    opening.upgrade(settings)
    database = opening.open(settings)
    fill(database, tmp_path)
    checked = check(database, tmp_path)
    database.dispose()
    assert [(c.number, c.holds, c.problems) for c in checked] == [
        (n, True, ()) for n in range(1, 9)
    ]
    figures = {c.number: c.figures for c in checked}
    counts = {"counted": 90, "dead": 2, "skipped": 3, "gaps": 5, "rows": 900, "outcomes": 20}
    assert figures[1] == counts | {"last_gap_found": times.utc(NOW).isoformat(timespec="seconds")}
    assert figures[2] == {"findings": 1, "waiting": 0, "unsent": 0, "incidents": 1}
    assert figures[5] == {"pointers": 1, "moves": 2, "releases": 2}
    assert figures[7] == {"activations": 3, "declared_fallbacks": 1}


def test_an_empty_database_holds(tmp_path: Path) -> None:
    database = opening.open(Settings.load({"home": tmp_path}))
    assert all(c.holds for c in check(database, tmp_path))
    database.dispose()


def test_a_relay_that_fails_is_broken_while_its_worker_runs_and_pending_when_nobody_does(
    database: Database, tmp_path: Path
) -> None:
    """Real tasks of a repair worker, and a broker that is away."""

    def clock() -> int:
        return NOW + 2 * DAY

    fired = threading.Event()
    chore = {"expire": (0.1, fired.set)}
    scheduler = Scheduler(database, holder="w", chores=chore, on_job=lambda: None, clock=clock)
    relay = Relay(database, Broker("127.0.0.1:1"), holder="w", clock=lambda: to_seconds(clock()))
    with database.begin() as conn:
        conn.execute(sa.update(outbox_table).values(sent_at=None))
    scheduler.start()
    assert fired.wait(20)
    assert relay.run_once() == 0
    assert relay.failures == 1
    eighth = check(database, tmp_path)[7]
    assert not eighth.holds
    assert "nothing was ever sent; their log says why (relay_failed)" in eighth.problems[0]
    assert eighth.figures["workers"] == "run"

    scheduler.stop()
    relay.close()
    with database.begin() as conn:
        assert lease.expire(conn, SCHEDULER, "w")
    eighth = check(database, tmp_path)[7]
    assert eighth.holds
    assert (eighth.figures["unsent"], eighth.figures["workers"]) == (1, "nobody runs")
    assert eighth.figures["outbox_lag_s"] == 2 * 86_400


def test_the_command_prints_a_line_each_and_exits_1_when_broken(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from redistill.workers.cli.check_history import app

    monkeypatch.setenv("REDISTILL_HOME", str(tmp_path))
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 0, result.output
    assert len(result.output.splitlines()) == 9
    assert "8 of 8 invariants hold (database only: no broker given)" in result.output
    with database.begin() as conn:
        properties.put(conn, audit.HEAD, f"9 {'0' * 64}")
    result = CliRunner().invoke(app, ["--json"])
    assert result.exit_code == 3
    lines = [json.loads(line) for line in result.output.splitlines()]
    assert [x["number"] for x in lines if x.get("holds") is False] == [8]
    assert lines[-1] == {"summary": {"invariants": 8, "broken": 1, "topics": False}}


@pytest.mark.kafka
def test_what_is_stored_is_compared_with_the_topics(kafka_server: Any, tmp_path: Path) -> None:
    broker = Broker(kafka_server.bootstrap, namespace=f"h{uuid.uuid4().hex[:8]}")
    names = ("predictions", "drift", "incidents", "releases")
    client = admin(broker)
    client.create_topics(
        {broker.topic(n): {"num_partitions": 1, "replication_factor": 1} for n in names}
    )
    client.close()
    database = opening.open(Settings.load({"home": tmp_path}))
    out = producer(broker)
    for _ in range(150):
        out.send(broker.topic("predictions"), b"x")
    out.flush(30)
    (log,) = logs(broker, ["predictions"])
    fill(database, tmp_path, topic_id=log.topic_id)

    first = check(database, tmp_path, broker=broker)
    assert first[0].holds
    assert first[0].figures["pending"] == 40
    assert first[0].figures["produced"] == 140  # since its first offset, 10
    # SQL says that the finding was announced, but it is not in the topic
    assert not first[1].holds
    assert "is marked as sent, and is not in the topic" in first[1].problems[0]

    with database.read() as conn:
        event = conn.execute(sa.select(outbox_table)).one()
    out.send(broker.topic("drift"), event.value, headers=[("ce_id", event.event_id.encode())])
    out.flush(30)
    out.close()
    assert check(database, tmp_path, broker=broker)[1].holds

    with database.begin() as conn:
        conn.execute(sa.update(offsets).values(next_offset=210, counted=190))
    third = check(database, tmp_path, broker=broker)[0]
    assert "counted up to 210, the log ends at 150" in third.problems[0]
    database.dispose()
