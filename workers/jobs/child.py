"""Child process that runs ``redistill.compress.pipeline``: a folder in, a report or an error out.

The worker starts one :class:`Child` at boot, before its threads. Its process
(``redistill.workers.jobs.fork_server``) holds torch; each job is a fork of it, with limits of
memory and CPU time and a deadline, in a folder that is locked
while the job runs. Nothing of the worker's environment reaches it but the names in ``KEPT``.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from redistill import child_path
from redistill.compress.plan import Report, read_report
from redistill.workers.errors import WorkersError
from redistill.workers.jobs.fork_server import LOG

__all__ = ["Child", "ChildCancelled", "ChildFailed", "ChildRun", "scrubbed_environment"]

ENTRY = "redistill.compress.pipeline:run"

INHERITED = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "PYTHONPATH",
    "PYTHONHOME",
    "LD_LIBRARY_PATH",
    "SYSTEMROOT",
)
"""Environment variables that a job inherits: what a Python process needs to start, and nothing to
reach anything with."""

THREADS = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    # Arrow's allocator cleans up when it is used
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
"""One thread: on a busy two-core machine two torch threads were 7.6 times slower than one, and a
fork keeps one only."""

START_SECONDS = 120.0
"""Loading torch takes 2 s alone, 7 s when every process of a machine starts at once, more on a
cold disk."""

TAIL_BYTES = 4_000
"""How much of a dead job's output an error quotes."""


class ChildFailed(WorkersError):
    """A job's process could not do its work.

    Parameters
    ----------
    message
        What happened, for a person.
    kind
        Class name of the error in the child (``BadData``), or ``killed``, ``crashed``,
        ``deadline``, ``gone``.
    retriable
        Whether the same folder may succeed in another try.
    tail
        The end of what the child wrote, for the log.
    """

    def __init__(self, message: str, *, kind: str, retriable: bool, tail: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.retriable = retriable
        self.tail = tail


class ChildCancelled(WorkersError):
    """The job's process was ended because the caller asked for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChildRun:
    """What a run gave and cost."""

    report: Report
    seconds: float
    cpu_seconds: float
    memory_bytes: int


def scrubbed_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a job: no key, no database URL, no broker, no proxy.

    Examples
    --------
    >>> given = {"PATH": "/bin", "REDISTILL_DATABASE": "x", "HTTPS_PROXY": "y"}
    >>> sorted(scrubbed_environment(given))[-2:]
    ['PATH', 'PYTHONSAFEPATH']
    """
    kept = {k: v for k, v in environment.items() if k in INHERITED}
    # the current folder is the worker's, and may hold a kafka.py or json.py of somebody's own
    return kept | THREADS | {"PYTHONSAFEPATH": "1"}


class Child:
    """A warm process that runs jobs one after the other or side by side; thread-safe.

    Examples
    --------
    ::

        with Child.start() as child:
            ran = child.run(folder, deadline_s=600)
    """

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self._process = process
        self._control = control
        self._send = threading.Lock()
        self._inboxes: dict[str, queue.SimpleQueue[dict[str, Any]]] = {}
        self._ready = threading.Event()
        self._gone = threading.Event()
        self._reader = threading.Thread(target=self._read, name="child-reader", daemon=True)
        self._reader.start()

    @classmethod
    def start(cls, entry: str = ENTRY, *, environment: Mapping[str, str] | None = None) -> Child:
        """Start the process; returns at once, it loads meanwhile.

        Parameters
        ----------
        entry
            ``module:function`` with the signature of ``redistill.compress.pipeline.run``; the
            module is loaded now, and its ``warm()`` called if it has one.
        environment
            What to take the permitted variables from; ``None``: this process's, and the path that
            its children import from.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.set_inheritable(True)
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "redistill.workers.jobs.fork_server",
                    str(theirs.fileno()),
                    entry,
                ],
                env=scrubbed_environment(
                    {**os.environ, **child_path.variables()} if environment is None else environment
                ),
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        return cls(process, ours)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether it can take jobs."""
        return not self._gone.is_set()

    @property
    def ready(self) -> bool:
        """Whether everything is loaded."""
        return self._ready.is_set()

    @property
    def pid(self) -> int:
        """Process id of the warm process."""
        return self._process.pid

    def wait_ready(self, seconds: float = START_SECONDS) -> bool:
        """Wait until everything is loaded."""
        until = time.monotonic() + seconds
        while not self._ready.wait(0.05):
            if self._gone.is_set() or time.monotonic() > until:
                return False
        return True

    def run(
        self,
        folder: Path,
        *,
        deadline_s: float,
        memory_bytes: int | None = None,
        progress: Callable[[str, float], None] | None = None,
        cancelled: threading.Event | None = None,
    ) -> ChildRun:
        """Run the job in ``folder`` and wait for its report.

        Parameters
        ----------
        folder
            With ``job.json`` and what it needs (``redistill.compress.plan``).
        deadline_s
            Wall-clock seconds after which the process is killed. Its CPU time has the same limit.
        memory_bytes
            What it may use beyond the loaded libraries; ``None``: no limit.
        progress
            Called on this thread with the step and the share done.
        cancelled
            When set, the process is killed and ``ChildCancelled`` raised.

        Raises
        ------
        ChildFailed
            It raised, crashed, was killed, or ran past its deadline; the message says which.
        ChildCancelled
            ``cancelled`` was set.
        """
        if not self.wait_ready():
            raise ChildFailed("the process for jobs did not start", kind="gone", retriable=True)
        run, inbox = uuid.uuid4().hex, queue.SimpleQueue[dict[str, Any]]()
        self._inboxes[run] = inbox
        began = time.monotonic()
        ending: str | None = None  # why we killed it
        over = False
        try:
            self._request(
                {
                    "run": run,
                    "folder": str(folder),
                    "cpu_seconds": deadline_s,
                    "memory_bytes": memory_bytes,
                }
            )
            while True:
                try:
                    message = inbox.get(timeout=0.05)
                except queue.Empty:
                    if self._gone.is_set() and inbox.empty():
                        raise ChildFailed(
                            "the process for jobs is gone",
                            kind="gone",
                            retriable=True,
                            tail=output_tail(folder),
                        ) from None
                    if ending is None and cancelled is not None and cancelled.is_set():
                        ending = "cancelled"
                    elif ending is None and time.monotonic() - began > deadline_s:
                        ending = "deadline"
                    else:
                        continue
                    self._request({"kill": run})
                    continue
                if "progress" in message:
                    if progress is not None:
                        progress(str(message["step"]), float(message["share"]))
                elif "ended" in message:
                    over = True
                    return self._result(
                        folder, message, ending, time.monotonic() - began, deadline_s
                    )
        finally:
            self._inboxes.pop(run, None)
            if not over:  # ``progress`` raised: nobody wants the result any more
                self._request({"kill": run})

    def _result(
        self,
        folder: Path,
        ended: dict[str, Any],
        ending: str | None,
        seconds: float,
        deadline_s: float,
    ) -> ChildRun:
        if ended["status"] == 0:  # it may have finished while we were about to kill it
            report = read_report((folder / "report.json").read_bytes())
            return ChildRun(
                report=report,
                seconds=seconds,
                cpu_seconds=float(ended["cpu_seconds"]),
                memory_bytes=int(ended["memory_bytes"]),
            )
        if ending == "cancelled":
            raise ChildCancelled(f"the job in {folder.name} was ended on request")
        text = output_tail(folder)
        if ending == "deadline" or ended["signal"] == signal.SIGXCPU:
            raise ChildFailed(
                f"it did not finish within {deadline_s:.0f} s",
                kind="deadline",
                retriable=False,
                tail=text,
            )
        if (error := ended["error"]) is not None:
            raise ChildFailed(
                f"{error['kind']}: {error['message']}",
                kind=str(error["kind"]),
                retriable=bool(error["retriable"]),
                tail=text,
            )
        if ended["signal"] is not None:
            name = signal.Signals(ended["signal"]).name
            last = text.strip().splitlines()[-1:] or ["it wrote nothing"]
            raise ChildFailed(
                f"it was killed by {name} (out of memory, or by hand); last line: {last[0]}",
                kind="killed",
                retriable=True,
                tail=text,
            )
        raise ChildFailed(
            f"it ended with status {ended['status']}", kind="crashed", retriable=True, tail=text
        )

    def close(self, seconds: float = 5.0) -> None:
        """End the process and every job in it."""
        with contextlib.suppress(OSError):  # it is gone already
            self._control.shutdown(socket.SHUT_RDWR)
        try:
            # while it still loads it does not listen, and there is nothing that it could lose
            self._process.wait(seconds if self._ready.is_set() else 0.1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(seconds)
        self._control.close()

    def _request(self, message: dict[str, Any]) -> None:
        try:
            with self._send:
                self._control.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self._gone.set()

    def _read(self) -> None:
        pending = b""
        while True:
            try:
                data = self._control.recv(65_536)
            except OSError:
                data = b""
            if not data:
                self._gone.set()
                return
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if "ready" in message:
                    self._ready.set()
                    continue
                run = message.get("progress") or message.get("ended") or message.get("started")
                inbox = self._inboxes.get(str(run))
                if inbox is not None:
                    inbox.put(message)


def output_tail(folder: Path) -> str:
    """The end of what the job's process wrote."""
    try:
        with (folder / LOG).open("rb") as f:
            f.seek(0, os.SEEK_END)
            f.seek(max(0, f.tell() - TAIL_BYTES))
            return f.read().decode(errors="replace")
    except OSError:
        return ""
