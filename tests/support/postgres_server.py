"""A real PostgreSQL on loopback, for tests, fault runs and benchmarks."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ports import free_port, wait_open


class Unavailable(Exception):
    """PostgreSQL cannot run on this machine; the message says what is missing."""


def program(name: str) -> str:
    """Path of one of the server's programs, also where the distribution keeps them off PATH."""
    path = shutil.which(name) or next(
        iter(sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))[::-1]), None
    )
    if path is None:
        raise Unavailable(f"{name} is not installed (apt-get install postgresql)")
    return path


@dataclass
class PostgresServer:
    """One server with trust authentication on a loopback port."""

    folder: Path
    port: int = field(default_factory=free_port)
    durable: bool = True
    """``False`` does without fsync: faster, and safe while the machine itself does not die."""
    process: subprocess.Popen[bytes] | None = None
    wal: Path | None = None
    """Another folder for the write-ahead log: where only the tables' disk is to be full."""

    def _user(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        try:  # the server refuses to run as root
            account = pwd.getpwnam("postgres")
        except KeyError:
            account = pwd.getpwnam("nobody")
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}

    def start(self, seconds: float = 60.0) -> PostgresServer:
        """Make the cluster if there is none, start it, wait until it takes connections."""
        data = self.folder / "data"
        user = self._user()
        if not data.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            if user:
                os.chown(self.folder, user["user"], user["group"])
                if self.wal is not None:
                    os.chown(self.wal, user["user"], user["group"])
                for (
                    parent
                ) in self.folder.parents:  # the server's account must be able to reach its folder
                    if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                        parent.chmod(parent.stat().st_mode | 0o011)
            done = subprocess.run(
                [program("initdb"), "-D", str(data), "-U", "redistill", "-A", "trust", "-E", "UTF8", "--no-sync",
                 *([] if self.wal is None else ["-X", str(self.wal)])],
                capture_output=True, text=True, timeout=120, check=False, cwd="/", **user,
            )  # fmt: skip
            if done.returncode:
                raise Unavailable(f"initdb failed: {done.stderr[-600:]}")
        with (self.folder / "postgres.log").open("ab") as log:
            self.process = subprocess.Popen(
                [program("postgres"), "-D", str(data), "-p", str(self.port), "-h", "127.0.0.1",
                 "-k", "", "-c", "shared_buffers=64MB", "-c", "max_connections=100",
                 *([] if self.durable else ["-c", "fsync=off", "-c", "full_page_writes=off"])],
                stdout=log, stderr=log, cwd="/", start_new_session=True, **user,
            )  # fmt: skip
        process = self.process
        if not wait_open(self.port, seconds, lambda: process.poll() is None):
            raise Unavailable(
                f"PostgreSQL did not start: {(self.folder / 'postgres.log').read_text()[-800:]}"
            )
        end = time.monotonic() + seconds  # after a kill it listens before it has recovered
        ready = [program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, check=False, timeout=30).returncode:
            if time.monotonic() > end:
                raise Unavailable("PostgreSQL listens and takes no connection")
            time.sleep(0.1)
        return self

    def url(self, database: str = "postgres") -> str:
        """SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://redistill@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Create an empty database and return its URL."""
        import psycopg

        name = "t" + uuid.uuid4().hex[:12]
        with psycopg.connect(
            f"postgresql://redistill@127.0.0.1:{self.port}/postgres", autocommit=True
        ) as c:
            c.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database, whoever is still connected."""
        import psycopg

        name = url.rpartition("/")[2]
        server = f"postgresql://redistill@127.0.0.1:{self.port}/postgres"
        with psycopg.connect(server, autocommit=True) as c:
            c.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def stop(self, sign: int = signal.SIGINT) -> None:
        """Fast shutdown (SIGINT); SIGQUIT is the hard one."""
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, sign)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
