"""PostgreSQL is killed under workers with traffic and comes back: they wait, say so, and count
every offset once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import loop
import postgres_server as postgres
import pytest
import sqlalchemy as sa
from processes import Worker, redistill
from stream_lab import PARTITIONS, Lab
from stream_rows import CONFIG, label, prediction
from waiting import eventually

from redistill.streams.store import tables as t
from redistill.workers.processes import topics
from redistill.workers.store.tables import incidents as INCIDENTS

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

AWAY_SECONDS = 20.0
PATIENCE_SECONDS = 12.0
"""Of one worker's watchdog: shorter than the outage, longer than a rebalance with a dead member."""
LINES_A_WORKER = 60
"""What a worker may say of such an outage: a few lines for each of its tasks, no flood."""


@pytest.fixture
def own_postgres(postgres_server: postgres.PostgresServer) -> Iterator[postgres.PostgresServer]:
    """One that may be killed; the shared fixture skips where there is none."""
    folder = Path(tempfile.mkdtemp(prefix="redistill-postgres-"))
    server = postgres.PostgresServer(folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


def kill(server: postgres.PostgresServer) -> None:
    """``kill -9`` to the server and everything it started."""
    assert server.process is not None
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait(10)


def said(worker: Worker, since: int) -> list[dict[str, Any]]:
    """What a worker logged from a line on."""
    lines = worker.log.read_text(errors="replace").splitlines()[since:]
    return [json.loads(line) if line.startswith("{") else {"raw": line} for line in lines]


def test_workers_wait_for_a_database_that_was_killed(
    kafka_server: Any, own_postgres: postgres.PostgresServer, tmp_path: Path
) -> None:
    lab = Lab(kafka_server.bootstrap, own_postgres.new_database(), tmp_path)
    topics.apply(
        lab.broker, topics.wanted(lab.broker, partitions=PARTITIONS), replication=1, create=True
    )
    # one that the repair worker can read, too; its retention would delete rows that are this old
    ages = {"wait_days": 3_650.0, "retention_days": 3_650.0}
    watch = replace(CONFIG, **ages).to_json().decode()  # type: ignore[arg-type]
    spec = loop.spec(level="rollback")
    spec = replace(
        spec,
        labels=replace(spec.labels, wait_days=ages["wait_days"]),
        privacy=replace(spec.privacy, retention_days=ages["retention_days"]),
    )
    with lab.db.begin() as conn:
        conn.execute(sa.update(t.specs).values(spec=spec.to_json(), watch=watch))
    assert redistill(["keys", "init"], lab.env).returncode == 0
    sent = 0

    def send(n: int) -> None:
        nonlocal sent
        lab.send(prediction(i, right=i % 5 > 0) for i in range(sent, sent + n))
        lab.send(label(i) for i in range(sent, sent + n))
        sent += n

    try:
        workers = [
            lab.worker("first").start(),
            lab.impatient("second", PATIENCE_SECONDS).start(),
            Worker("repair", ["run", "repair"], lab.env, tmp_path / "logs").start(),
        ]
        lab.workers.append(workers[-1])
        send(400)
        lab.wait_counted(sent)
        eventually(lambda: '"repair_started"' in workers[2].tail(20_000), lab.logs())
        eventually(lambda: '"assigned"' in workers[1].tail(20_000), lab.logs())
        quiet = [len(said(w, 0)) for w in workers]

        kill(own_postgres)
        away = time.monotonic()
        os.kill(workers[0].pid, signal.SIGSTOP)  # longer than its session lasts: a rebalance
        while time.monotonic() < away + AWAY_SECONDS:
            send(40)
            time.sleep(0.25)
            if time.monotonic() > away + AWAY_SECONDS / 2:
                os.kill(workers[0].pid, signal.SIGCONT)
        lab.db.dispose()
        own_postgres.start()
        send(200)
        lab.wait_counted(sent)
        lab.wait_counted(sent, topic="labels")
        outcomes = sa.select(sa.func.count()).select_from(t.outcomes)
        eventually(lambda: lab.scalar(outcomes) == sent, f"outcomes\n{lab.logs()}")
        unsent = sa.select(sa.func.count()).where(t.outbox.c.sent_at.is_(None))
        eventually(lambda: lab.scalar(unsent) == 0, f"announcements\n{lab.logs()}")

        assert [w.alive for w in workers] == [True] * 3, lab.logs()
        assert {r.counted for r in lab.offsets().values()} == {sent // PARTITIONS}
        assert lab.scalar(sa.select(sa.func.sum(t.input_states.c.rows))) == sent
        for worker, since in zip(workers, quiet, strict=True):
            lines = said(worker, since)
            kinds = Counter(str(x.get("action", x.get("event", x))) for x in lines)
            assert any("cannot be reached" in str(x) for x in lines), kinds
            assert len(lines) <= LINES_A_WORKER, kinds
            assert not [x for x in lines if "raw" in x or "exception" in x], kinds
        incidents = sa.select(sa.func.count()).select_from(INCIDENTS)
        assert lab.scalar(incidents) == 1, "what was found meanwhile is acted upon"
        checked = redistill(["check-history"], lab.env)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert "8 of 8 invariants hold (database and topics)" in checked.stdout

        kill(own_postgres)
        quiet = [len(said(w, 0)) for w in workers]
        assert [w.stop() for w in workers] == [0] * 3, lab.logs()
        for worker, since in zip(workers, quiet, strict=True):
            ours = [x for x in said(worker, since) if not str(x.get("logger")).startswith("faust")]
            assert not [x for x in ours if "raw" in x or "exception" in x]
    finally:
        lab.close()
