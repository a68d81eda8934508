"""A database that is killed, hangs, takes no connections, is locked, read-only, or has no room, under
workers with traffic: they wait, say so in a few lines, and count every offset once."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import database_faults as faults
import pids
import postgres_server as postgres
import pytest
import sqlalchemy as sa
from processes import Worker, redistill
from stream_lab import PARTITIONS, Lab
from stream_rows import label, prediction
from waiting import eventually

from redistill.streams.store import tables as t
from redistill.workers.exit_codes import ExitCode
from redistill.workers.processes import topics
from redistill.workers.store.tables import incidents as INCIDENTS

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

AWAY_SECONDS = 16.0
PATIENCE_SECONDS = 12.0
"""Of a worker's watchdog: shorter than the outage, longer than a rebalance with a dead member."""
LINES_A_WORKER = 60
"""What a worker may say of a rebalance, too; of an outage alone it says two lines."""
LINES_A_FAULT = 12
"""Away, busy and back, findings, and what Kafka's library says of a group that a slow machine lost."""
DISK_MEGABYTES = 160


@pytest.fixture
def own_postgres(
    postgres_server: postgres.PostgresServer,
) -> Iterator[tuple[postgres.PostgresServer, Path | None]]:
    """One that may be killed, and the small disk on which its tables lie, where there can be one;
    the shared fixture skips where there is no server."""
    folder = Path(tempfile.mkdtemp(prefix="redistill-postgres-"))
    folder.chmod(0o755)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        disk: Path | None = None
        server = postgres.PostgresServer(folder / "server")
        with contextlib.suppress(postgres.Unavailable):  # no right to mount: all but that fault
            disk = stack.enter_context(faults.small_disk(folder / "disk", DISK_MEGABYTES))
            server = postgres.PostgresServer(disk / "server", wal=folder / "wal")
            (folder / "wal").mkdir()
        server.start()
        stack.callback(server.stop)
        yield server, disk


def kill(server: postgres.PostgresServer) -> None:
    """``kill -9`` to the server and everything it started."""
    assert server.process is not None
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait(10)


def said(worker: Worker, since: int) -> list[dict[str, Any]]:
    """What a worker logged from a line on."""
    lines = worker.log.read_text(errors="replace").splitlines()[since:]
    return [json.loads(line) if line.startswith("{") else {"raw": line} for line in lines]


class World:
    """Two stream workers and a repair worker on one database, and what they were sent."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.sent = 0
        self.workers = [
            lab.impatient("first", PATIENCE_SECONDS).start(),
            lab.impatient("second", PATIENCE_SECONDS).start(),
            Worker("repair", ["run", "repair"], lab.env, lab.folder / "logs").start(),
        ]
        lab.workers.append(self.workers[-1])
        self.send(400)
        lab.wait_counted(self.sent)
        eventually(lambda: '"repair_started"' in self.workers[2].tail(20_000), lab.logs())
        eventually(lambda: '"assigned"' in self.workers[1].tail(20_000), lab.logs())
        self.listen()

    def send(self, n: int) -> None:
        """So many predictions and their labels."""
        ids = range(self.sent, self.sent + n)
        self.lab.send(prediction(i, right=i % 5 > 0) for i in ids)
        self.lab.send(label(i) for i in ids)
        self.sent += n

    def listen(self) -> None:
        """What is said from here on is what :meth:`heard` gives."""
        self.quiet = [len(said(w, 0)) for w in self.workers]

    def heard(self) -> list[list[dict[str, Any]]]:
        """What each worker has said."""
        return [said(w, since) for w, since in zip(self.workers, self.quiet, strict=True)]

    def goes_on_for(self, seconds: float) -> None:
        """Traffic, whatever the database does."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.send(40)
            time.sleep(0.25)

    def catches_up(self) -> None:
        """Everything is stored, joined and announced."""
        lab = self.lab
        lab.db.dispose()
        self.send(40)
        lab.wait_counted(self.sent)
        lab.wait_counted(self.sent, topic="labels")
        outcomes = sa.select(sa.func.count()).select_from(t.outcomes)
        eventually(lambda: lab.scalar(outcomes) == self.sent, f"outcomes\n{lab.logs()}")
        unsent = sa.select(sa.func.count()).where(t.outbox.c.sent_at.is_(None))
        eventually(lambda: lab.scalar(unsent) == 0, f"announcements\n{lab.logs()}")
        assert [w.alive for w in self.workers] == [True] * 3, lab.logs()
        assert {r.counted for r in lab.offsets().values()} == {self.sent // PARTITIONS}
        assert lab.scalar(sa.select(sa.func.sum(t.input_states.c.rows))) == self.sent


def few_lines(heard: list[list[dict[str, Any]]], most: int) -> None:
    """No worker floods its log, and none writes a traceback."""
    for lines in heard:
        kinds = Counter(str(x.get("action", x.get("event", x))) for x in lines)
        assert len(lines) <= most, kinds
        assert not [x for x in lines if "raw" in x or "exception" in x], kinds


def wait_out(world: World, fault: Callable[[], AbstractContextManager[None]], words: str) -> None:
    """A fault for some seconds; who writes says it, and everything is caught up with."""
    world.listen()
    with fault():
        world.goes_on_for(1.0)
        eventually(
            lambda: all(words in str(lines) for lines in world.heard()[:2]),
            f"{words!r} in {world.heard()}",
        )
        world.goes_on_for(2.0)
    world.catches_up()
    few_lines(world.heard(), LINES_A_FAULT)


def test_workers_wait_for_a_database_whatever_is_wrong_with_it(
    kafka_server: Any,
    own_postgres: tuple[postgres.PostgresServer, Path | None],
    tmp_path: Path,
) -> None:
    server, disk = own_postgres
    lab = Lab(kafka_server.bootstrap, server.new_database(), tmp_path)
    topics.apply(
        lab.broker, topics.wanted(lab.broker, partitions=PARTITIONS), replication=1, create=True
    )
    lab.register()
    assert redistill(["keys", "init"], lab.env).returncode == 0
    try:
        world = World(lab)
        kill(server)
        with pids.frozen([world.workers[0].pid]):  # longer than its session: a rebalance
            world.goes_on_for(AWAY_SECONDS / 2)
        world.goes_on_for(AWAY_SECONDS / 2)
        server.start()
        world.catches_up()
        few_lines(world.heard(), LINES_A_WORKER)
        for lines in world.heard():
            assert any("cannot be reached" in str(x) for x in lines)
        incidents = sa.select(sa.func.count()).select_from(INCIDENTS)
        eventually(lambda: lab.scalar(incidents) == 1, "what was found meanwhile is acted upon")

        wait_out(world, lambda: faults.frozen(server), "cannot be reached")
        wait_out(world, lambda: faults.exhausted(server), "too many clients")
        wait_out(world, lambda: faults.locked(server, lab.url, "offsets"), "lock timeout")
        wait_out(world, lambda: faults.read_only(server), "read-only transaction")
        if disk is not None:
            wait_out(world, lambda: filled(server, disk), "No space left on device")
        checked = redistill(["check-history"], lab.env)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert "11 of 11 invariants hold (database and topics)" in checked.stdout

        with faults.frozen(server):  # workers end while the database hangs, and a command does
            world.listen()
            for worker in world.workers:
                os.kill(worker.pid, signal.SIGTERM)
            asked = redistill(["models"], lab.env)
            assert [w.stop() for w in world.workers] == [0] * 3, lab.logs()
            for lines in world.heard():
                ours = [x for x in lines if not str(x.get("logger")).startswith("faust")]
                assert not [x for x in ours if "raw" in x or "exception" in x]
            assert asked.returncode == ExitCode.FAILED
            assert "cannot be reached" in asked.stderr
            assert "Traceback" not in asked.stderr
    finally:
        lab.close()


@contextlib.contextmanager
def filled(server: postgres.PostgresServer, disk: Path) -> Iterator[None]:
    """No room for a row more; a server that could not bear it is started again afterwards."""
    with faults.full(disk):
        yield
    assert server.process is not None
    if server.process.poll() is not None:
        server.start()
