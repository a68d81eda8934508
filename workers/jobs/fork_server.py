"""Fork server, the process from which job processes are forked: torch is loaded once, a job
starts in milliseconds.

It is started before the worker has a thread, a Kafka client or a database connection, with an
environment from which everything but a few names was taken, so that a job has no key, no database
URL and no proxy to reach anything with. It imports the standard library and the preloaded module
only, keeps one thread, and ends when its parent does.

It speaks JSON lines over the socket whose descriptor is its argument:

- from the parent: ``{"run": id, "folder": path, "cpu_seconds": n, "memory_bytes": n}`` and
  ``{"kill": id}``
- to the parent: ``{"ready": true}``, ``{"started": id, "pid": n}``,
  ``{"progress": id, "step": s, "share": x}`` and ``{"ended": id, "status": n, "signal": n | null,
  "error": {"kind", "message", "retriable"} | null, "cpu_seconds": x, "memory_bytes": n}``
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib
import json
import os
import resource
import selectors
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["LOG"]

LOG = "child.log"
"""What a job's process and the libraries in it print, in the job's folder."""

LOCK = ".lock"
"""Held while a process works in the folder: two processes never write one job's files."""

LOCK_SECONDS = 5.0
"""An orphan of a killed worker ends as soon as it is told (well under a second); longer means it
hangs."""

PR_SET_PDEATHSIG = 1


@dataclass
class _Running:
    run: str
    pid: int
    buffer: bytes = b""
    error: dict[str, Any] | None = None


def _die_with_parent() -> None:
    """Ask Linux to kill this process when its parent is gone; elsewhere the closed socket does it,
    a little later."""
    try:
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    except (AttributeError, OSError):
        return


def _lock(folder: Path) -> int:
    """Lock the job's folder; the lock ends with the process."""
    fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise TimeoutError(f"another process is still working in {folder}") from None
            time.sleep(0.02)
        else:
            return fd


def _limit(cpu_seconds: float | None, memory_bytes: int | None) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if cpu_seconds is not None:
        whole = max(1, round(cpu_seconds))
        resource.setrlimit(resource.RLIMIT_CPU, (whole, whole + 5))
    if memory_bytes is not None:
        # Beyond what the preloaded libraries have already mapped: their size differs by machine
        # and build.
        pages = (
            int(Path("/proc/self/statm").read_text().split()[0])
            if Path("/proc/self/statm").exists()
            else 0
        )
        limit = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _work(entry: str, request: dict[str, Any], out: int) -> int:
    """Run one job in this (forked) process; the exit status."""

    def say(message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(out, data) :]

    def progress(step: str, share: float) -> None:
        say({"step": step, "share": share})

    try:
        folder = Path(request["folder"])
        log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        _lock(folder)
        _limit(request.get("cpu_seconds"), request.get("memory_bytes"))
        module, _, name = entry.partition(":")
        getattr(importlib.import_module(module), name)(folder, progress=progress)
    except BaseException as error:  # whatever it was: the parent is told, and this process ends
        traceback.print_exc()
        sys.stderr.flush()
        say(
            {
                "error": {
                    "kind": type(error).__name__,
                    "message": str(error) or repr(error),
                    "retriable": bool(getattr(error, "retriable", False))
                    or isinstance(error, (OSError, MemoryError)),
                }
            }
        )
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _fork(entry: str, request: dict[str, Any], control: socket.socket) -> tuple[_Running, int]:
    """Fork a process for a job; returns it and the descriptor on which it reports."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _die_with_parent()
            os.setsid()  # a group of its own: what it starts is killed with it
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            control.close()
            os.close(reading)
            status = _work(entry, request, writing)
        finally:
            os._exit(status)
    os.close(writing)
    os.set_blocking(reading, False)
    return _Running(run=str(request["run"]), pid=pid), reading


def _kill(job: _Running) -> None:
    for send in (os.killpg, os.kill):  # the group exists a moment later than the process
        try:
            send(job.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def serve(control: socket.socket, entry: str) -> None:
    """Take requests until the parent closes the socket; then end every job and return."""
    module = importlib.import_module(entry.partition(":")[0])
    if (warm := getattr(module, "warm", None)) is not None:
        warm()

    def say(message: dict[str, Any]) -> None:
        control.sendall(json.dumps(message).encode() + b"\n")

    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    jobs: dict[int, _Running] = {}
    pending = b""
    try:
        say({"ready": True})
        while True:
            for key, _ in selector.select():
                if key.fileobj is control:
                    data = control.recv(65_536)
                    if not data:
                        return
                    *lines, pending = (pending + data).split(b"\n")
                    for line in lines:
                        request = json.loads(line)
                        if "kill" in request:
                            for job in jobs.values():
                                if job.run == request["kill"]:
                                    _kill(job)
                            continue
                        job, fd = _fork(entry, request, control)
                        jobs[fd] = job
                        selector.register(fd, selectors.EVENT_READ)
                        say({"started": job.run, "pid": job.pid})
                    continue
                fd = key.fd
                job = jobs[fd]
                try:
                    data = os.read(fd, 65_536)
                except BlockingIOError:
                    continue
                *lines, job.buffer = (job.buffer + data).split(b"\n")
                for line in lines:
                    message = json.loads(line)
                    if "error" in message:
                        job.error = message["error"]
                    else:
                        say({"progress": job.run, **message})
                if not data:  # the pipe closed: the process has ended
                    selector.unregister(fd)
                    os.close(fd)
                    del jobs[fd]
                    _, status, usage = os.wait4(job.pid, 0)
                    killed = os.WIFSIGNALED(status)
                    say(
                        {
                            "ended": job.run,
                            "status": None if killed else os.WEXITSTATUS(status),
                            "signal": os.WTERMSIG(status) if killed else None,
                            "error": job.error,
                            "cpu_seconds": usage.ru_utime + usage.ru_stime,
                            "memory_bytes": usage.ru_maxrss
                            * (1 if sys.platform == "darwin" else 1024),
                        }
                    )
    except (BrokenPipeError, ConnectionResetError):
        return  # the parent was killed
    finally:
        for job in jobs.values():
            _kill(job)


def main(argv: list[str]) -> NoReturn:
    """Entry point: ``python -m redistill.workers.jobs.fork_server FD MODULE:FUNCTION``.

    It ends by the closed socket and not by Linux's signal, which comes when the parent's *thread*
    ends.
    """
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C goes to the terminal's whole group; the parent decides
    control = socket.socket(fileno=int(argv[0]))
    control.setblocking(True)
    serve(control, argv[1])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # taking torch apart costs two seconds, and there is nothing left to save


if __name__ == "__main__":
    main(sys.argv[1:])
