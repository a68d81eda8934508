"""Fork server, the process from which job processes are forked: torch is loaded once, a job
starts in milliseconds.

It is started with an environment from which everything but a few names was taken, so that a job has
no key, no database URL and no proxy to reach anything with. It imports the standard library and the
preloaded module only, keeps one thread, and ends when its parent does. It waits for nothing but
messages: a parent that gets no answer for long may take it for frozen, and kill it.

It speaks JSON lines over the socket whose descriptor is its argument:

- from the parent: ``{"run": id, "folder": path, "cpu_seconds": n, "memory_bytes": n}``,
  ``{"kill": id}`` and ``{"ping": n}``
- to the parent: ``{"ready": true, "network": s | null}`` (why jobs have a network, if they do),
  ``{"pong": n}``, ``{"started": id, "pid": n}``, ``{"progress": id, "step": s, "share": x}`` and
  ``{"ended": id, "status": n | null, "signal": n | null, "error": {"kind", "message", "errno",
  "retriable"} | null, "cpu_seconds": x, "memory_bytes": n}``
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import selectors
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from redistill import confinement
from redistill.workers.jobs import forked_job
from redistill.workers.jobs.output_log import OutputLog

__all__ = []

READ_BYTES = 65_536
LONGEST_LINE = 65_536
"""Bytes of one report of a job; its steps are words. A longer one is no report."""
LEFT_BYTES = 1 << 20
"""What is read of a job that has ended: its pipes hold less, unless somebody still writes."""

PR_SET_CHILD_SUBREAPER = 36


class _Gone(Exception):
    """The parent has closed the socket, or is gone."""


@dataclass
class _Running:
    """A job at work."""

    run: str
    pid: int
    reports: int
    output: int
    log: OutputLog
    buffer: bytes = b""
    error: dict[str, Any] | None = None


class _Server:
    """Takes requests, forks jobs, and tells what becomes of them."""

    def __init__(self, control: socket.socket, entry: str) -> None:
        self._control = control
        self._entry = entry
        self._jobs: dict[int, _Running] = {}
        self._pending = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ, self._requests)
        # the end of a process wakes us, not that of its pipes: others may hold those
        waking, self._woken_by = os.pipe()
        for end in (waking, self._woken_by):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._woken_by, warn_on_full_buffer=False)
        self._selector.register(waking, selectors.EVENT_READ, self._reap)
        self._waking = waking

    def serve(self) -> None:
        """Work until the parent is gone; then end every job."""
        try:
            self._say({"ready": True, "network": _why_network()})
            while True:
                for key, _ in self._selector.select():
                    # not of a job that just ended, whose descriptors another may have by now
                    if self._selector.get_map().get(key.fd) is key:
                        key.data()
        except (_Gone, BrokenPipeError, ConnectionResetError):
            return
        finally:
            for job in self._jobs.values():
                _kill(job.pid)

    def _say(self, message: dict[str, Any]) -> None:
        self._control.sendall(json.dumps(message).encode() + b"\n")

    def _requests(self) -> None:
        data = self._control.recv(READ_BYTES)
        if not data:
            raise _Gone
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            if "kill" in request:
                for job in self._jobs.values():
                    if job.run == request["kill"]:
                        _kill(job.pid)
            elif "ping" in request:
                self._say({"pong": request["ping"]})
            else:
                self._start(request)

    def _start(self, request: dict[str, Any]) -> None:
        try:
            job = self._fork(request)
        except OSError as error:  # too many processes, no memory, no folder: of this job alone
            self._say(_ended(str(request["run"]), error=forked_job.failure(error)))
            return
        self._jobs[job.pid] = job
        self._selector.register(job.reports, selectors.EVENT_READ, lambda: self._hear(job))
        self._selector.register(job.output, selectors.EVENT_READ, lambda: self._copy(job))
        self._say({"started": job.run, "pid": job.pid})

    def _fork(self, request: dict[str, Any]) -> _Running:
        log = OutputLog(Path(request["folder"]))
        pipes: list[int] = []
        try:
            pipes += os.pipe()
            pipes += os.pipe()
            server, pid = os.getpid(), os.fork()
        except OSError:
            for end in pipes:
                os.close(end)
            log.close()
            raise
        reports, reports_to, output, output_to = pipes
        if pid == 0:
            signal.set_wakeup_fd(-1)
            self._control.close()
            self._close_in_job()
            forked_job.live(
                self._entry, request, server=server, reports=reports_to, output=output_to
            )
        for end in (reports_to, output_to):
            os.close(end)
        for end in (reports, output):
            os.set_blocking(end, False)
        return _Running(str(request["run"]), pid, reports, output, log)

    def _close_in_job(self) -> None:
        """A job holds nothing of the server's or of other jobs'."""
        for job in self._jobs.values():
            os.close(job.reports)
            os.close(job.output)
            job.log.close()
        self._selector.close()
        os.close(self._waking)
        os.close(self._woken_by)

    def _hear(self, job: _Running) -> int:
        """Pass on what a job reports; the bytes that were read."""
        if not (data := self._read(job.reports)):
            return 0
        *lines, job.buffer = (job.buffer + data).split(b"\n")
        try:
            for line in lines:
                message = json.loads(line)
                if "error" in message:
                    job.error = dict(message["error"])
                else:
                    self._say({"progress": job.run, **message})
            if len(job.buffer) > LONGEST_LINE:
                raise ValueError("a line without end")
        except (ValueError, TypeError) as error:  # its memory may be in any state
            job.buffer, told = b"", forked_job.failure(error)
            job.error = told | {"kind": "Garbled", "retriable": True}
            _kill(job.pid)
        return len(data)

    def _copy(self, job: _Running) -> int:
        """Write down what a job printed; the bytes that were read."""
        data = self._read(job.output)
        job.log.write(data)
        return len(data)

    def _read(self, end: int) -> bytes:
        try:
            data = os.read(end, READ_BYTES)
        except BlockingIOError:
            return b""
        if not data:  # closed by the job, which is reaped when it ends
            with suppress(KeyError):
                self._selector.unregister(end)
        return data

    def _reap(self) -> None:
        """Take note of every process that has ended: jobs, and what jobs left over."""
        with suppress(BlockingIOError):
            while os.read(self._waking, READ_BYTES):
                continue
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if (job := self._jobs.pop(pid, None)) is not None:
                self._finish(job, status, usage)

    def _finish(self, job: _Running, status: int, usage: Any) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(job.pid, signal.SIGKILL)  # what it started
        for pid in _children() - set(self._jobs):  # and what left its group
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        left = LEFT_BYTES
        while left > 0 and (read := self._hear(job) + self._copy(job)):
            left -= read
        for end in (job.reports, job.output):
            with suppress(KeyError):
                self._selector.unregister(end)
            os.close(end)
        job.log.close()
        killed = os.WIFSIGNALED(status)
        self._say(
            _ended(
                job.run,
                status=None if killed else os.WEXITSTATUS(status),
                signal=os.WTERMSIG(status) if killed else None,
                error=job.error,
                cpu_seconds=usage.ru_utime + usage.ru_stime,
                memory_bytes=usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
            )
        )


def _ended(run: str, **values: Any) -> dict[str, Any]:
    none = dict.fromkeys(("status", "signal", "error"))
    return {"ended": run, **none, "cpu_seconds": 0.0, "memory_bytes": 0, **values}


def _kill(pid: int) -> None:
    for send in (os.killpg, os.kill):  # the group exists a moment later than the process
        with suppress(ProcessLookupError, PermissionError):
            send(pid, signal.SIGKILL)


def _children() -> set[int]:
    """Process ids of this process's children, where Linux tells them."""
    try:
        told = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    except OSError:
        return set()
    return set(map(int, told.split()))


def _adopt() -> None:
    """Ask Linux for what jobs leave over: it becomes our child and is ended and reaped here, not by
    a first process that in a container may be anything."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _why_network() -> str | None:
    """Why jobs have a network, tried in a process that ends; ``None``: they have none."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, (confinement.deny_network() or "").encode()[:400])
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as told:
        why = told.read().decode(errors="replace")
    os.waitpid(pid, 0)
    return why or None


def main(argv: list[str]) -> NoReturn:
    """Entry point: ``python -m redistill.workers.jobs.fork_server FD MODULE:FUNCTION PARENT``.

    On Linux it ends with the parent's *thread* that started it, even if it is stopped; elsewhere
    with the closed socket.
    """
    if len(argv) > 2:
        confinement.die_with_parent(int(argv[2]))
    # Ctrl-C goes to the terminal's whole group; the parent decides
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=int(argv[0]))
    control.setblocking(True)
    module = importlib.import_module(argv[1].partition(":")[0])
    if (warm := getattr(module, "warm", None)) is not None:
        warm()
    _adopt()
    _Server(control, argv[1]).serve()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # taking torch apart costs two seconds, and there is nothing left to save


if __name__ == "__main__":
    main(sys.argv[1:])
