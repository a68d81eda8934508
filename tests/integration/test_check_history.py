"""The invariants on real servers: both databases, the command, a relay without a broker, the topics
of a Kafka."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import finished
import pytest
import sqlalchemy as sa
from finished import Finished
from typer.testing import CliRunner

from redistill.streams.kafka.broker import Broker, admin, producer
from redistill.streams.store import lease, properties
from redistill.streams.store.relay import Relay
from redistill.streams.store.tables import outbox as outbox_table
from redistill.times import DAY, to_seconds
from redistill.workers.exit_codes import ExitCode
from redistill.workers.invariants import check as invariants
from redistill.workers.invariants.check import CheckedInvariant
from redistill.workers.invariants.topic_facts import ANNOUNCED
from redistill.workers.jobs.scheduler import LEASE as SCHEDULER
from redistill.workers.jobs.scheduler import Scheduler
from redistill.workers.settings.settings import Settings
from redistill.workers.store import audit, opening


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Finished]:
    made = finished.build(tmp_path)
    yield made
    made.database.dispose()


def check(made: Finished, **more: Any) -> list[CheckedInvariant]:
    more = {"settle_seconds": 0.0, "now": made.now + 2 * DAY, **more}
    return invariants.check(
        made.database, home=made.home, outbox_kept_us=30 * DAY,
        state_key=made.settings.state_key_bytes(), **more,
    )  # fmt: skip


def test_finished_installation_holds_on_both_databases(database_url: str, tmp_path: Path) -> None:
    made = finished.build(tmp_path / "home", database_url)
    checked = check(made)
    made.database.dispose()
    assert [(c.number, c.problems) for c in checked] == [(n, ()) for n in range(1, 12)]
    figures = {c.number: c.figures for c in checked}
    assert figures[1]["seals"] == 4
    assert figures[9]["recomputed"] == figures[1]["outcomes"]
    assert figures[5] == {"pointers": 1, "moves": 6, "releases": 2}
    assert figures[8]["audit_macs"] == "fit"
    assert figures[10]["signed_models"] == 1


def test_an_empty_database_holds(tmp_path: Path) -> None:
    database = opening.open(Settings.load({"home": tmp_path}))
    checked = invariants.check(database, now=1, home=tmp_path, outbox_kept_us=DAY)
    assert [c.problems for c in checked] == [()] * 11
    database.dispose()


def test_a_relay_that_fails_is_broken_while_its_worker_runs_and_pending_when_nobody_does(
    installation: Finished,
) -> None:
    """Real tasks of a repair worker, and a broker that is away."""
    database = installation.database

    def clock() -> int:
        return installation.now + 2 * DAY

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
    eighth = check(installation)[7]
    assert not eighth.holds
    assert "nothing was ever sent; their log says why (relay_failed)" in eighth.problems[0]
    assert eighth.figures["workers"] == "run"

    scheduler.stop()
    relay.close()
    with database.begin() as conn:
        assert lease.expire(conn, SCHEDULER, "w")
    eighth = check(installation)[7]
    assert eighth.holds
    assert eighth.figures["workers"] == "nobody runs"
    assert int(eighth.figures["unsent"]) > 10
    assert float(eighth.figures["outbox_lag_s"]) > 2 * 86_400


def test_the_command_prints_a_line_each_and_exits_1_when_broken(
    installation: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    from redistill.workers.cli.check_history import app

    monkeypatch.setenv("REDISTILL_HOME", str(installation.home))
    monkeypatch.setenv("REDISTILL_STATE_KEY", finished.KEY)
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 12
    assert "11 of 11 invariants hold (database only: no broker given)" in result.output
    with installation.database.begin() as conn:
        properties.put(conn, audit.HEAD, f"9 {'0' * 64}")
    result = CliRunner().invoke(app, ["--json"])
    assert result.exit_code == ExitCode.REFUSED
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [x["number"] for x in lines if x.get("holds") is False] == [8]
    assert lines[-1] == {"summary": {"invariants": 11, "broken": 1, "topics": False}}


@pytest.mark.kafka
def test_what_is_stored_is_compared_with_the_topics(
    kafka_server: Any, installation: Finished
) -> None:
    broker = Broker(kafka_server.bootstrap, namespace=f"h{uuid.uuid4().hex[:8]}")
    client = admin(broker)
    client.create_topics(
        {broker.topic(n): {"num_partitions": 1, "replication_factor": 1} for n in ANNOUNCED}
    )
    client.close()
    out = producer(broker)
    last = next(r for r in installation.topics.records if r.topic == "drift")
    sent = [r for r in installation.topics.records if r is not last]
    for record in sent:
        out.send(broker.topic(record.topic), record.value, record.key, list(record.headers))
    out.flush(30)
    second = check(installation, broker=broker, now=installation.now)[1]
    assert "is marked as sent, and is not in the topic" in "; ".join(second.problems)

    out.send(broker.topic(last.topic), last.value, last.key, list(last.headers))
    out.flush(30)
    second = check(installation, broker=broker, now=installation.now)[1]
    assert second.problems == ()

    out.send(broker.topic("incidents"), b"{}", headers=[("ce_id", b"forged")])
    out.flush(30)
    out.close()
    second = check(installation, broker=broker, now=installation.now)[1]
    assert second.problems == ("incidents holds event forged, which nobody announced",)
