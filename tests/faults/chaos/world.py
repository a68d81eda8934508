"""World of one scenario: a namespace, a database and a home of its own on the shared servers;
workers as processes, load, and what is done to them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import backlog
import pids
import postgres_server
import processes
import sqlalchemy as sa
from database_faults import small_disk
from forking_services import ForkingServices
from load import Load
from postgres_server import PostgresServer
from servers import BASELINE, Servers
from waiting import eventually
from watch import Watch

from redistill.streams.kafka.broker import Broker
from redistill.streams.store.database import Database, connect
from redistill.workers.processes import topics
from redistill.workers.releases.release_files import RepositoryLayout

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
PARTITIONS = 4
PATIENCE_SECONDS = 240.0
SERVING_SECONDS = 1.0


class Skipped(Exception):
    """A scenario cannot run on this machine; the message says what it needs."""


def say(words: str) -> None:
    """A line of progress."""
    print(f"    {time.strftime('%H:%M:%S')} {words}", flush=True)


@dataclass
class World:
    """Where one scenario plays.

    Parameters
    ----------
    servers
        Shared by all.
    name
        Of the scenario; its logs go to a folder of this name.
    rng
        Of everything that happens at random.
    kind
        ``postgres`` or ``sqlite``; ``None``: as the servers have it.
    home_disk, database_disk
        Megabytes of a file system of its own for the home (SQLite's file is in it) or for a
        PostgreSQL server of its own; 0: none.
    """

    servers: Servers
    name: str
    rng: random.Random
    rows_per_second: int = 300
    arrow: float = 0.6
    kind: str | None = None
    streams: int = 2
    home_disk: int = 0
    database_disk: int = 0
    settings: dict[str, str] = field(default_factory=dict)
    shorten: float = 1.0
    """Outages are this many times as long: below 1 in the tests that run at each change."""
    quiet: bool = False

    def __post_init__(self) -> None:
        self.folder = self.servers.folder / self.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.kind = self.kind or self.servers.kind
        self.namespace = f"c{uuid.uuid4().hex[:10]}"
        self.home = self.folder / "home"
        self.stack = contextlib.ExitStack()
        self.disk: Path | None = None
        self.postgres = self.servers.postgres if self.kind == "postgres" else None
        try:
            self.url = self._install()
        except postgres_server.Unavailable as why:
            self.stack.close()
            raise Skipped(str(why)) from why
        self.database: Database = connect(self.url)
        self.broker = Broker(self.servers.kafka.bootstrap, None, self.namespace)
        self.env = processes.environment(
            broker=self.servers.kafka.bootstrap, database=self.url, home=str(self.home),
            namespace=self.namespace, max_jobs_per_day="500", cool_down_minutes="0",
            **self.settings,
        )  # fmt: skip
        self.watch = Watch()
        self.faults = 0
        self.catch_ups: list[float] = []
        self.facts: dict[str, Any] = {}
        self.load: Load | None = None
        # what a service would serve: the version, and its graph
        self.serving: tuple[str, Path] = (BASELINE, self.servers.folder / "model/student.onnx")
        self.services = ForkingServices(self.folder, self.servers.kafka.bootstrap, self.namespace)
        self._ending = threading.Event()
        if self.kind == "sqlite":
            self.streams = 1

    def _install(self) -> str:
        if self.home_disk:
            self.disk = self.stack.enter_context(small_disk(self.folder / "disk", self.home_disk))
            self.home = self.disk / "home"
        if not self.database_disk:
            return self.servers.installation(self.kind or "", self.home)
        if self.servers.postgres is None:
            raise Skipped("PostgreSQL is not installed")
        self.disk = self.stack.enter_context(small_disk(self.folder / "disk", self.database_disk))
        self.postgres = PostgresServer(self.disk / "postgres").start()
        self.stack.callback(self.postgres.stop)
        url = self.postgres.new_database()
        self.servers.install(self.home, url)
        return url

    # --- beginning and end -------------------------------------------------------------------

    def begin(self, *, load: bool = True) -> World:
        """Topics, workers, load; returns when outcomes are made."""
        topics.apply(self.broker, topics.wanted(self.broker, partitions=PARTITIONS), replication=1)
        for i in range(self.streams):
            self.add(f"stream-{i + 1}", ["run", "stream"])
        self.add("repair", ["run", "repair"])
        self.add("web", ["run", "web", "--port", "0"])
        self.watch.start()
        for name in list(self.watch.workers):
            self.watch.start_worker(name)
        if load:
            threading.Thread(target=self._follow_pointer, name="serving", daemon=True).start()
            self.load = Load(
                self.broker, lambda: self.serving, rows_per_second=self.rows_per_second,
                seed=self.rng.randrange(2**31), arrow=self.arrow,
            )  # fmt: skip
            self.load.start()
            self.until(lambda: self.count("outcomes") > 0, "outcomes are made")
        return self

    def add(self, name: str, args: list[str], **env: str) -> processes.Worker:
        """A process of the world, not yet started."""
        made = processes.Worker(name, args, {**self.env, **env}, self.folder)
        with self.watch.lock:
            self.watch.workers[name] = made
        return made

    def close(self) -> None:
        """End everything, whatever state it is in."""
        self._ending.set()
        self.watch.stop()
        if self.load is not None:
            self.load.halt.set()
        self.services.kill()
        for worker in self.watch.workers.values():
            if worker.alive:
                with contextlib.suppress(OSError):
                    os.killpg(worker.pid, signal.SIGCONT)
        for worker in self.watch.workers.values():
            worker.stop(30)
        if self.load is not None and self.load.ident is not None:
            self.load.join(30)
        self.database.dispose()
        self.stack.close()

    def _follow_pointer(self) -> None:
        """The version that a service would serve: its graph comes from the signed repository."""
        while not self._ending.wait(SERVING_SECONDS):
            with contextlib.suppress(Exception):
                version, files = self.rows(
                    "SELECT p.stable, v.files FROM pointers p JOIN versions v"
                    " ON v.model = p.model AND v.version = p.stable WHERE p.model = 'credit'"
                )[0]
                sha256 = json.loads(files)["model.onnx"]["sha256"]
                path = RepositoryLayout(self.home).path("credit", "model.onnx", sha256)
                if path.exists() and version != self.serving[0]:
                    self.serving = (version, path)

    @property
    def first_version(self) -> str:
        """What served before any repair."""
        return BASELINE

    # --- looking ------------------------------------------------------------------------------

    def rows(self, query: str) -> list[Any]:
        """Rows of a query."""
        with self.database.read() as conn:
            return list(conn.execute(sa.text(query)).all())

    def count(self, table: str, where: str = "1 = 1") -> int:
        """Rows of a table."""
        return int(self.rows(f"SELECT count(*) FROM {table} WHERE {where}")[0][0])

    def until(
        self, check: Callable[[], object], what: str, *, patience: float = PATIENCE_SECONDS
    ) -> None:
        """Wait for a condition; a database that is away is no answer."""

        def asked() -> object:
            if self.load is not None and self.load.failure is not None:
                raise self.load.failure
            try:
                return check()
            except AssertionError:
                raise
            except Exception:
                return False

        eventually(asked, f"{self.name}: {what}", every=0.25, patience=patience)

    def now_us(self) -> int:
        """Microseconds since 1970."""
        return round(time.time() * 1e6)

    def behind(self) -> int:
        """Records in the log that SQL does not know yet."""
        stored = backlog.stored(self.database)
        return sum(max(0, end - stored.get(at, 0)) for at, end in self.ends().items())

    def ends(self) -> dict[backlog.Place, int]:
        """End of each input partition's log."""
        return backlog.ends(self.servers.kafka.bootstrap, self.namespace, PARTITIONS)

    # --- faults -------------------------------------------------------------------------------

    def say(self, words: str) -> None:
        """A line of progress, unless it is a test that plays."""
        if not self.quiet:
            say(words)

    def fault(self, words: str) -> None:
        """Something is done to somebody."""
        self.faults += 1
        self.say(words)

    def rest(self, seconds: float) -> None:
        """Let the world go on."""
        time.sleep(seconds * self.shorten)

    def healed(self) -> float:
        """Wait until what was acknowledged by now is counted; the seconds that it took."""
        began = time.monotonic()
        ends: dict[backlog.Place, int] = {}

        def caught_up() -> bool:
            nonlocal ends
            ends = ends or self.ends()
            stored = backlog.stored(self.database)
            return all(stored.get(at, 0) >= end for at, end in ends.items())

        self.until(caught_up, "what was acknowledged is counted")
        took = time.monotonic() - began
        self.catch_ups.append(took)
        return took

    def drift(self) -> None:
        """The world shifts: the student is wrong now, and a repair gets under way."""
        if self.load is not None:
            self.load.boom = True
            self.say("the world shifts")

    @property
    def names(self) -> list[str]:
        """Processes that are wanted."""
        with self.watch.lock:
            return sorted(self.watch.wanted)

    def kill(self, name: str, *, back_after: float = 0.0) -> None:
        """``kill -9``, and a new start after a pause."""
        self.watch.let_go(name)
        self.watch.workers[name].kill()
        self.fault(f"kill -9 {name}")
        time.sleep(back_after)
        self.watch.start_worker(name)

    def restart(self, name: str) -> int | None:
        """SIGTERM, wait for the end, start again; the exit status."""
        self.watch.let_go(name)
        status = self.watch.workers[name].stop(30)
        self.fault(f"SIGTERM {name}: {status}")
        self.watch.start_worker(name)
        return status

    @contextlib.contextmanager
    def frozen(self, pid: int, words: str) -> Iterator[None]:
        """SIGSTOP, and SIGCONT at the end."""
        self.fault(f"SIGSTOP {words}")
        with pids.frozen([pid]):
            yield

    def pid(self, name: str) -> int:
        """Of a process."""
        return self.watch.workers[name].pid

    def fork_server(self) -> int | None:
        """Of the repair worker."""
        return pids.fork_server(self.pid("repair"))

    def clocked(self, name: str, offset: str) -> None:
        """Start a process again with a clock that is wrong: ``+40d``, ``-1h``."""
        if not FAKETIME.exists():
            raise Skipped("libfaketime is not installed")
        self.watch.let_go(name)
        worker = self.watch.workers[name]
        worker.stop(30)
        rc = self.folder / f"{name}.clock"
        rc.write_text(offset)
        worker.env = {
            **worker.env, "LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(rc),
            "FAKETIME_CACHE_DURATION": "1", "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "PYTHONPATH": str(Path(__file__).parent / "clocked"),
        }  # fmt: skip
        self.fault(f"the clock of {name} is at {offset}")
        self.watch.start_worker(name)

    def jump(self, name: str, offset: str) -> None:
        """Its clock jumps while it runs."""
        (self.folder / f"{name}.clock").write_text(offset)
        self.fault(f"the clock of {name} jumps to {offset}")

    def database_again(self) -> None:
        """Start a database that had to give up, as its supervisor would."""
        server = self.postgres
        if server is not None and server.process is not None and server.process.poll() is not None:
            self.say(f"PostgreSQL had ended with {server.process.returncode}; started again")
            server.start()

    def remove(self) -> None:
        """Take the home and the database away; the logs stay."""
        if self.disk is None:
            shutil.rmtree(self.home, ignore_errors=True)
            if self.postgres is not None:
                with contextlib.suppress(Exception):
                    self.postgres.drop(self.url)
