"""Watching processes: what they take, how they end, and starting them again as a supervisor would."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from processes import Worker

RESTART_SECONDS = 1.0
LOOK_SECONDS = 0.5
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Exit:
    """A process ended, and nobody had asked it to."""

    name: str
    status: int
    at: float
    """``time.monotonic()``."""


def resident(pid: int) -> int:
    """Bytes of a process's resident memory; 0: it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError, ValueError):
        return 0


def descriptors(pid: int) -> int:
    """Open files of a process."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def threads(pid: int) -> int:
    """Threads of a process."""
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


class Watch(threading.Thread):
    """Starts again what ends by itself, and notes it, with the most memory that each process took.

    What a scenario ends on purpose it takes out of ``wanted`` first.
    """

    def __init__(self) -> None:
        super().__init__(name="watch", daemon=True)
        self.lock = threading.RLock()
        self.workers: dict[str, Worker] = {}
        self.wanted: set[str] = set()
        self.exits: list[Exit] = []
        self.most_memory: dict[str, int] = {}
        self._due: dict[str, float] = {}
        self._ending = threading.Event()

    def run(self) -> None:
        """Until stopped."""
        while not self._ending.wait(LOOK_SECONDS):
            with self.lock:
                self._look(time.monotonic())

    def _look(self, now: float) -> None:
        for name in sorted(self.wanted):
            worker = self.workers[name]
            if worker.alive:
                used = resident(worker.pid)
                self.most_memory[name] = max(self.most_memory.get(name, 0), used)
            elif name not in self._due:
                status = worker.process.returncode if worker.process else 0
                self.exits.append(Exit(name, status, now))
                self._due[name] = now + RESTART_SECONDS
            elif now >= self._due[name]:
                del self._due[name]
                worker.start()

    def start_worker(self, name: str) -> None:
        """Start a process, and keep it running from now on."""
        with self.lock:
            if not self.workers[name].alive:
                self.workers[name].start()
            self._due.pop(name, None)
            self.wanted.add(name)

    def let_go(self, name: str) -> None:
        """What happens to it now is on purpose."""
        with self.lock:
            self.wanted.discard(name)
            self._due.pop(name, None)

    def stop(self) -> None:
        """Stop watching."""
        self._ending.set()
        if self.is_alive():
            self.join(10)
