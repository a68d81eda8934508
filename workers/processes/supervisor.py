"""Supervisor of processes on one machine: starts, watches, starts again, stops them together.

Used by ``redistill up`` and by the demo. In production a real supervisor (systemd, Kubernetes) does
this.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from redistill.workers.errors import UsageError, WorkersError
from redistill.workers.processes.log_file import numbered, open_log
from redistill.workers.processes.log_lines import in_words, shortened

__all__ = [
    "Death",
    "ProcessSpec",
    "Supervisor",
    "delay",
    "last_line",
    "last_words",
    "spawn",
]

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 10.0
STEADY_SECONDS = 30.0
"""A process that ran this long and then dies is started again without waiting: its earlier deaths
are forgotten."""
STOP_SECONDS = 30.0
"""Workers finish a flush or a step on SIGTERM, most in under two seconds; the stream worker gives
itself ten while the broker is away, the repair worker 20 while the database hangs, and then tries
once more to give its leases back."""
TAIL_BYTES = 262_144
"""Of a log, in which its last line is looked for: a traceback is a part of its line."""
STOPPING_SECONDS = 0.1
"""How often it is looked whether whoever stops them is in a hurry by now."""
USAGE_STATUS = 2
"""Exit status of wrong settings or arguments, which a process finds at its start: starting again
cannot help. One that had run steadily is started again, and finds them then, if that is it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessSpec:
    """A process to keep running: ``python -m MODULE ARGS``."""

    name: str
    module: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str]
    """Its whole environment: see :func:`redistill.workers.settings.environment.environment`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Death:
    """A process ended without being asked to, or could not be started.

    Examples
    --------
    >>> print(Death(name="web", status=1, seconds=2.0, last_words="no disk", again_in=0.4))
    web ended with status 1 after 2.0 s: no disk; starting it again in 0.4 s
    >>> print(Death(name="web", status=None, seconds=0.0, last_words="no memory", again_in=0.4))
    web could not be started: no memory; starting it again in 0.4 s
    >>> print(Death(name="web", status=2, seconds=1.0, last_words="no port", again_in=None))
    web ended with status 2 after 1.0 s: no port; it is not started again
    """

    name: str
    status: int | None
    """Exit status; minus the signal's number; ``None``: it could not be started."""
    seconds: float
    """How long it had run."""
    last_words: str
    """Last line of its log, in words; or why it could not be started."""
    again_in: float | None
    """Seconds until it is started again; ``None``: it is not."""

    def __str__(self) -> str:
        if self.status is None:
            how = "could not be started"
        else:
            by = f"signal {-self.status}" if self.status < 0 else f"status {self.status}"
            how = f"ended with {by} after {self.seconds:.1f} s"
        # what a killed process wrote last has nothing to do with its end
        words = "" if self.status is not None and self.status <= 0 else self.last_words
        said = f": {words}" if words else ""
        then = (
            "it is not started again"
            if self.again_in is None
            else f"starting it again in {self.again_in:.1f} s"
        )
        return f"{self.name} {how}{said}; {then}"


@dataclass(slots=True)
class _Child:
    task: ProcessSpec
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: int = 0
    """In a row, without a steady run between them."""
    due: float | None = None
    """When it is started again."""
    starts: int = field(default=0)


def delay(deaths: int) -> float:
    """Seconds to wait after so many deaths in a row.

    Examples
    --------
    >>> [delay(n) for n in (1, 2, 3, 20)]
    [0.2, 0.4, 0.8, 10.0]
    """
    return min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** min(deaths - 1, 30))


def spawn(task: ProcessSpec, log: Path) -> subprocess.Popen[bytes]:
    """Start a task once, its output appended to ``log``, which it keeps small itself; it ends when
    the calling thread does."""
    command = [
        sys.executable,
        "-m",
        "redistill.workers.processes.parent_watch",
        str(os.getpid()),
        f"--log={log.absolute()}",
        task.module,
        *task.args,
    ]
    try:
        out = open_log(log)
    except OSError:  # a full disk: it runs without one
        out = os.open(os.devnull, os.O_WRONLY)
    try:
        # a session of its own: Ctrl-C in the terminal reaches the supervisor only, which then
        # stops all in order
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=dict(task.env),
            start_new_session=True,
        )
    finally:
        os.close(out)


class Supervisor:
    """Keeps tasks running. Nothing happens in the background: call ``poll`` often, from the thread
    that made it.

    Parameters
    ----------
    logs
        Folder of one log file per task, ``NAME.log``, appended to.
    on_death
        Called for each process that ended without being asked to.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        logs: Path,
        *,
        on_death: Callable[[Death], None] = lambda death: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logs = logs
        self._on_death = on_death
        self._clock = clock
        self._children: dict[str, _Child] = {}

    def start(self, task: ProcessSpec) -> None:
        """Start a task and keep it running.

        Raises
        ------
        UsageError
            A task of this name runs already.
        WorkersError
            The folder of the logs cannot be made.
        """
        if task.name in self._children:
            raise UsageError(f"{task.name} runs already")
        try:
            self._logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkersError(
                f"the folder {self._logs} cannot be made: {error.strerror}"
            ) from error
        child = self._children[task.name] = _Child(task)
        self._spawn(child)

    def _spawn(self, child: _Child) -> None:
        """Start it; a machine that has no memory or process left for it may have some later."""
        child.started, child.due = self._clock(), None
        try:
            child.process = spawn(child.task, self.log(child.task.name))
        except OSError as error:
            self._ended(child, None, str(error))
        else:
            child.starts += 1

    def _ended(self, child: _Child, status: int | None, words: str) -> None:
        now = self._clock()
        ran = now - child.started
        child.process = None
        child.deaths = 1 if ran >= STEADY_SECONDS else child.deaths + 1
        given_up = status == USAGE_STATUS and ran < STEADY_SECONDS
        wait = None if given_up else delay(child.deaths)
        child.due = None if wait is None else now + wait
        self._on_death(
            Death(name=child.task.name, status=status, seconds=ran, last_words=words, again_in=wait)
        )

    def poll(self) -> None:
        """Take note of processes that ended; start again those whose time has come."""
        for child in self._children.values():
            if child.process is not None and (status := child.process.poll()) is not None:
                self._ended(child, status, last_words(self.log(child.task.name)))
            if child.process is None and child.due is not None and child.due <= self._clock():
                self._spawn(child)

    def keeps(self, name: str) -> bool:
        """Whether a task runs or is started again; false for one that is given up."""
        child = self._children.get(name)
        return child is not None and (child.process is not None or child.due is not None)

    def pid(self, name: str) -> int | None:
        """Process id of a task, ``None`` while it is down."""
        process = self._children[name].process
        return None if process is None or process.poll() is not None else process.pid

    def starts(self, name: str) -> int:
        """How often a task was started."""
        return self._children[name].starts

    def log(self, name: str) -> Path:
        """Log file of a task."""
        return self._logs / f"{name}.log"

    def kill(self, name: str, sign: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to a task's process and return its process id.

        Raises
        ------
        WorkersError
            The process is down.
        """
        pid = self.pid(name)
        if pid is None:
            raise WorkersError(f"{name} is down: it cannot be sent a signal")
        os.kill(pid, sign)
        return pid

    def stop(
        self,
        names: Sequence[str] | None = None,
        *,
        seconds: float = STOP_SECONDS,
        hurry: Callable[[], bool] = lambda: False,
    ) -> dict[str, int]:
        """Stop tasks (all if none are named): SIGTERM to each, SIGKILL to the sessions that do not
        end in time.

        Parameters
        ----------
        hurry
            Whether to wait no longer.

        Returns
        -------
        dict
            Exit status by name, of the processes that were running.
        """
        chosen = [
            self._children.pop(n)
            for n in (list(self._children) if names is None else names)
            if n in self._children
        ]
        running = [(c.task.name, c.process) for c in chosen if c.process is not None]
        for _, process in running:
            if process.poll() is None:
                process.terminate()
        end = self._clock() + seconds
        out = {}
        for name, process in running:
            while process.poll() is None and self._clock() < end and not hurry():
                with suppress(subprocess.TimeoutExpired):
                    process.wait(STOPPING_SECONDS)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            out[name] = process.wait()
        return out


def last_line(path: Path) -> str:
    """Last line of a log that is not empty; empty if there is none, or none that begins in the last
    ``TAIL_BYTES``. One that was just put aside is read where there is nothing yet in the new one.
    """
    for each in (path, numbered(path, 1)):
        try:
            with each.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
                lines = file.read().decode("utf-8", "replace").split("\n")
        except OSError:
            continue
        if found := next((line.strip() for line in reversed(lines) if line.strip()), ""):
            return found
    return ""


def last_words(path: Path) -> str:
    """Last line of a log in words, :func:`shortened`."""
    return shortened(in_words(last_line(path)))  # afterwards: half a line of JSON says nothing
