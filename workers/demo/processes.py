"""Processes of the demo: broker, workers, teacher, services, and commands as a user types them."""

from __future__ import annotations

import contextlib
import csv
import json
import socket
import subprocess
import uuid
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from redistill.files import write_unsynced
from redistill.streams.wire.events import TOPICS
from redistill.workers.demo import world
from redistill.workers.demo.teacher import MODEL
from redistill.workers.demo.world import Config, ServiceStats, World
from redistill.workers.errors import WorkersError
from redistill.workers.processes.supervisor import Death, ProcessSpec, Supervisor, last_words, spawn
from redistill.workers.settings.environment import Process, environment
from redistill.workers.settings.settings import Settings

if TYPE_CHECKING:
    from redistill.streams.kafka.dev_broker import DevBroker

__all__ = ["SERVICES", "WORKERS", "DemoProcesses"]

SERVICES = ("north", "south", "west")
WORKERS: tuple[Process, ...] = ("stream", "repair", "web")
DEV_SESSION_SECONDS = 3.0
"""The dev broker makes a worker that was killed wait for its old session to end before it may join
again: 6 s, the least that a real broker allows, would outlast the start of the new process."""


@dataclass(slots=True)
class Command:
    """A ``redistill`` command under way."""

    words: str
    """As typed."""
    process: subprocess.Popen[bytes]
    log: Path

    def ended(self) -> int | None:
        """Its exit status, ``None`` while it runs."""
        return self.process.poll()

    def output(self) -> str:
        """What it printed."""
        return self.log.read_text(encoding="utf-8", errors="replace").strip()


class DemoProcesses:
    """Everything that runs. ``close`` ends all of it, whatever happened.

    Parameters
    ----------
    folder
        Where everything is kept; must be empty or absent.
    seed
        Of data, models, services and labels.
    broker
        ``host:port`` of a real Kafka; ``None``: the in-memory dev broker.
    """

    def __init__(self, folder: Path, *, seed: int, broker: str | None) -> None:
        self.folder = folder
        self.seed = seed
        self.real_broker = broker is not None
        self.home = folder / "home"
        self.project = folder / "project"
        self.logs = folder / "logs"
        self.world_folder = folder / "world"
        for made in (self.home, self.project, self.logs, self.world_folder):
            made.mkdir(parents=True, exist_ok=True)
        self.namespace = f"demo-{uuid.uuid4().hex[:8]}" if self.real_broker else ""
        self.web_port = _free_port()
        self.deaths: list[Death] = []
        self.supervisor = Supervisor(self.logs, on_death=self.deaths.append)
        self._devbroker: DevBroker | None = None
        self._servers = broker
        self._children: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._services: list[subprocess.Popen[bytes]] = []
        self._teacher: subprocess.Popen[bytes] | None = None
        self._commands = 0

    # --- settings ---

    @property
    def settings(self) -> Settings:
        """The settings that the workers get; nothing of the user's environment is among them."""
        return Settings.load(self._values())

    def _values(self) -> dict[str, Any]:
        own: dict[str, Any] = {
            "home": str(self.home),
            "namespace": self.namespace,
            "servers": self._servers,
            "web_port": self.web_port,
        }
        if not self.real_broker:
            own["session_timeout_seconds"] = DEV_SESSION_SECONDS
        return own

    def env(self, process: Process) -> dict[str, str]:
        """Environment of a process: no setting of the user's own installation reaches it."""
        clean: dict[str, Any] = dict.fromkeys(Settings.model_fields)
        out = environment(clean | self._values(), process=process)
        out["OMP_NUM_THREADS"] = "1"
        return out

    # --- processes ---

    def start_broker(self) -> None:
        """Start the dev broker, unless a real one was given."""
        if not self.real_broker:
            from redistill.streams.kafka.dev_broker import DevBroker

            self._devbroker = DevBroker()
            self._servers = self._devbroker.start().servers

    def start_teacher(self) -> None:
        """Begin to train, in a process of its own."""
        task = ProcessSpec(
            name="teacher",
            module="redistill.workers.demo.teacher",
            args=(str(self.project), str(self.seed)),
            env=self.env("none"),
        )
        self._teacher = self._spawn(task)

    def teacher_steps(self) -> list[dict[str, Any]]:
        """What the training process has reported so far.

        Raises
        ------
        WorkersError
            It ended before it was done.
        """
        log = self.logs / "teacher.log"
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        steps = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        done = bool(steps) and steps[-1]["step"] == "done"
        status = None if self._teacher is None else self._teacher.poll()
        if status not in (None, 0) and not done:
            raise WorkersError(f"training ended with status {status}: {last_words(log)}")
        return steps

    def start_workers(self, *names: Process) -> None:
        """Start workers (of ``WORKERS``), kept running from now on."""
        for name in names:
            self.supervisor.start(
                ProcessSpec(name=name, module="redistill", args=("run", name), env=self.env(name))
            )

    def start_services(self) -> None:
        """Start the three services; they wait for their configuration."""
        for name in SERVICES:
            task = ProcessSpec(
                name=name,
                module="redistill.workers.demo.service",
                args=(str(self._config(name)),),
                env=self.env("none"),
            )
            self._services.append(self._spawn(task))

    def open_services(self, scene: World) -> None:
        """Let the services begin, in a scene."""
        self.set_world(scene)
        for number, name in enumerate(SERVICES):
            config = Config(
                name=name,
                folder=str(self.world_folder),
                servers=str(self._servers),
                namespace=self.namespace,
                repository=f"http://127.0.0.1:{self.web_port}",
                trust=str(self.settings.keys_folder / "root.json"),
                model=MODEL,
                cache=str(self.folder / "cache" / name),
                seed=self.seed,
                number=number,
            )
            write_unsynced(self._config(name), msgspec.json.encode(config))

    def _config(self, name: str) -> Path:
        return self.world_folder / f"service-{name}.json"

    def command(self, *words: str) -> Command:
        """Begin ``redistill WORDS``."""
        self._commands += 1
        task = ProcessSpec(
            name=f"command-{self._commands:02d}-{words[0]}",
            module="redistill",
            args=words,
            env=self.env("command"),
        )
        process = self._spawn(task)
        return Command("redistill " + " ".join(words), process, self.logs / f"{task.name}.log")

    def _spawn(self, task: ProcessSpec) -> subprocess.Popen[bytes]:
        process = spawn(task, self.logs / f"{task.name}.log")
        self._children.append((task.name, process))
        return process

    def poll(self) -> None:
        """Restart workers that died.

        Raises
        ------
        WorkersError
            A service ended: production services do not do that in this story.
        """
        self.supervisor.poll()
        for name, process in zip(SERVICES, self._services, strict=False):
            if process.poll() not in (None, 0):
                said = last_words(self.logs / f"{name}.log")
                raise WorkersError(f"service {name} ended with status {process.poll()}: {said}")

    def services_ended(self) -> bool:
        """Whether all services have closed their clients and ended."""
        return all(process.poll() is not None for process in self._services)

    # --- the outside world ---

    def set_world(self, scene: World) -> None:
        """Change what the services are asked about."""
        self._world = scene
        world.write(self.world_folder / world.FILE, scene)

    def close_services(self) -> None:
        """Tell the services to stop."""
        self.set_world(replace(self._world, closing=True))

    def stats(self) -> list[ServiceStats]:
        """What the services say of themselves."""
        return world.read_stats(self.world_folder)

    def latest_truth(self, rows: int) -> list[dict[str, Any]]:
        """The last rows that the services served, with their true digit, oldest first."""
        found: deque[dict[str, Any]] = deque()
        for name in SERVICES:
            with (self.world_folder / f"truth-{name}.jsonl").open("rb") as file:
                tail = deque(file, maxlen=rows)
            found.extend(msgspec.json.decode(line) for line in tail if line.endswith(b"\n"))
        return sorted(found, key=lambda row: float(row["at"]))[-rows:]

    def write_labels(self, rows: Iterable[tuple[str, str]]) -> Path:
        """Write labels as somebody would hand them over, in a CSV file."""
        path = self.world_folder / "labels.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "label"])
            writer.writerows(rows)
        return path

    def broker_forgot(self, read: Mapping[tuple[str, int], int]) -> list[str]:
        """Partitions from which the dev broker dropped records before they were read; sentences.

        Parameters
        ----------
        read
            Next offset to read by topic and partition.
        """
        return [] if self._devbroker is None else self._devbroker.forgotten(read)

    # --- the end ---

    def remove_topics(self) -> None:
        """Take the demo's own topics off a real broker; the dev broker takes them with it.

        Raises
        ------
        BrokerUnavailable, BrokerRefused
            With the cause.
        """
        if not self.real_broker:
            return
        from redistill.streams.kafka.broker import admin

        broker = self.settings.broker()
        client = admin(broker)
        try:
            client.delete_topics([broker.topic(name) for name in TOPICS.values()])
        finally:
            client.close()

    def close(self, names: Sequence[str] = WORKERS) -> None:
        """End every process and the broker. Safe to call twice."""
        for process in self._services:
            if process.poll() is None:
                process.terminate()
        self.supervisor.stop(names)
        for _, process in self._children:
            if process.poll() is None:
                process.terminate()
        for _, process in self._children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            if process.poll() is None:
                process.kill()
                process.wait()
        if self._devbroker is not None:
            self._devbroker.stop()
            self._devbroker = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
