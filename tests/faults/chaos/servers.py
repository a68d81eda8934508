"""Servers that all scenarios of a run share: one Kafka, one PostgreSQL where it is installed, and a
home with the credit model registered, from which each world takes a copy.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import credit
import kafka_server
import postgres_server
import processes

BASELINE = "2026-03"
EXTRAS = """max_jobs_per_day = 500
[gates]
trusted = { margin_points = 3.0 }
worst_class = { max_loss_points = 15.0, excluded_loss_points = 50.0 }
"""
"""Gates have tests of their own: here a repair has to pass, whatever rows it happens to get, and
as often as the world shifts."""
EVERY_ROW = """join_rows_per_second = 100000
feature_rows_per_second = 100000
"""
"""So that ids can be compared, and not only counts: nothing is left out as a sample."""


@dataclass
class Servers:
    """What is started once.

    Parameters
    ----------
    folder
        Of logs and data.
    database
        ``postgres``, ``sqlite``, or ``None``: PostgreSQL where it is installed.
    seed
        Of the model.
    sampled
        Keep samples, as an installation does by default, in place of every row.
    """

    folder: Path
    database: str | None = None
    seed: int = 0
    sampled: bool = False
    lent: tuple[kafka_server.KafkaServer, postgres_server.PostgresServer | None] | None = None
    """Of somebody else, who also stops them; ``None``: our own."""
    kafka: kafka_server.KafkaServer = field(init=False)
    postgres: postgres_server.PostgresServer | None = field(init=False, default=None)
    templates: dict[str, tuple[Path, str]] = field(init=False, default_factory=dict)

    def start(self) -> Servers:
        """Start them and build the model."""
        if self.lent is not None:
            self.kafka, self.postgres = self.lent
        else:
            self._start()
        spec = credit.build(self.folder / "model", name="credit", level="repair", seed=self.seed)
        text = spec.read_text().replace("wait_hours = 1\n", "wait_hours = 1\n" + EXTRAS)
        if not self.sampled:
            text = text.replace("[watch]\n", "[watch]\n" + EVERY_ROW)
        spec.write_text(text)
        return self

    def _start(self) -> None:
        self.kafka = kafka_server.KafkaServer(self.folder / "kafka").start()
        if self.database != "sqlite":
            server = postgres_server.PostgresServer(self.folder / "postgres")
            try:
                self.postgres = server.start()
            except postgres_server.Unavailable as why:
                if self.database == "postgres":
                    raise
                print(f"PostgreSQL: {why}; using SQLite", flush=True)

    @property
    def kind(self) -> str:
        """``postgres`` or ``sqlite``: what worlds get that ask for nothing."""
        return "sqlite" if self.postgres is None else "postgres"

    def installation(self, kind: str, home: Path) -> str:
        """A home with the model registered, as a copy; returns the URL of its database."""
        if kind == "postgres" and self.postgres is None:
            raise postgres_server.Unavailable("PostgreSQL is not installed")
        if kind not in self.templates:
            self.templates[kind] = self._install(kind)
        template, url = self.templates[kind]
        shutil.copytree(template, home)
        if kind == "sqlite":
            return f"sqlite:///{home / 'redistill.db'}"
        assert self.postgres is not None
        return copy_of(self.postgres, url)

    def _install(self, kind: str) -> tuple[Path, str]:
        home = self.folder / f"template-{kind}"
        if kind == "sqlite":
            url = f"sqlite:///{home / 'redistill.db'}"
        else:
            assert self.postgres is not None
            url = self.postgres.new_database()
        self.install(home, url)
        return home, url

    def install(self, home: Path, url: str) -> None:
        """An installation from nothing, by the commands that an operator types."""
        env = processes.environment(home=str(home), database=url, broker=self.kafka.bootstrap)
        spec = str(self.folder / "model" / "model.toml")
        for command in (["db", "upgrade"], ["keys", "init"], ["register", spec]):
            done = processes.redistill(command, env, 240.0)
            if done.returncode:
                said = done.stdout + done.stderr
                raise RuntimeError(f"redistill {' '.join(command)} failed:\n{said}")

    def stop(self) -> None:
        """End both; what they wrote stays."""
        if self.lent is not None:
            return
        with contextlib.suppress(Exception):
            self.kafka.resume()
        if self.postgres is not None:
            self.postgres.stop()
        self.kafka.stop()


def copy_of(server: postgres_server.PostgresServer, url: str) -> str:
    """A new database with the rows of another one, to which nobody is connected."""
    import psycopg

    made = server.new_database()
    ours, theirs = made.rpartition("/")[2], url.rpartition("/")[2]
    root = f"postgresql://redistill@127.0.0.1:{server.port}/postgres"
    with psycopg.connect(root, autocommit=True) as conn:
        conn.execute(f"DROP DATABASE {ours}".encode())
        conn.execute(f"CREATE DATABASE {ours} TEMPLATE {theirs}".encode())
        conn.execute("CHECKPOINT")  # or a crash sets the sequences of the copy back
    return made
