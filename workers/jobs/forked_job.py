"""Forked job: what a process does that was forked for one job, from its first line to its end.

Before it does anything it gives up what it does not need: longer life than the fork server's, core
dumps, new privileges, the network, and more memory and time than it was granted. It imports the
standard library and ``redistill.confinement`` only, and the module it is told to run.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from redistill import confinement
from redistill.workers.jobs.folder_lock import lock

__all__ = ["failure", "live"]

LONGEST_MESSAGE = 4_000
"""Characters of an error that are told; the log has all of it."""

REPORT = "report.json"
"""Removed before the work begins: what stands there afterwards is of this run."""


def live(
    entry: str, request: Mapping[str, Any], *, server: int, reports: int, output: int
) -> NoReturn:
    """Do one job and end; to be called in a process that was just forked.

    Parameters
    ----------
    entry
        ``module:function``, called with the folder and ``progress``.
    request
        ``folder``, ``cpu_seconds``, ``memory_bytes``.
    server
        Process id of the fork server.
    reports, output
        Descriptors: JSON lines (``step``, ``share`` or ``error``) are written to one, what is
        printed to the other.
    """
    status = 1
    try:
        confinement.die_with_parent(server)
        os.setsid()  # a group of its own: what it starts is killed with it
        for sign in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(sign, signal.SIG_DFL)
        os.dup2(output, 1)
        os.dup2(output, 2)
        status = _work(entry, request, reports)
    finally:
        os._exit(status)


def failure(error: BaseException) -> dict[str, Any]:
    """An error as it is told to the worker."""
    return {
        "kind": type(error).__name__,
        "message": (str(error) or repr(error))[:LONGEST_MESSAGE],
        "errno": error.errno if isinstance(error, OSError) else None,
        "retriable": bool(getattr(error, "retriable", False))
        or isinstance(error, (OSError, MemoryError)),
    }


def _work(entry: str, request: Mapping[str, Any], reports: int) -> int:
    say = _teller(reports)

    def progress(step: str, share: float) -> None:
        say({"step": step, "share": share})

    try:
        faulthandler.enable(2)  # a segmentation fault says where
        folder = Path(request["folder"])
        lock(folder)
        (folder / REPORT).unlink(missing_ok=True)
        _limit(request.get("cpu_seconds"), request.get("memory_bytes"))
        confinement.deny_network()  # whether it can be done was told by the server
        module, _, name = entry.partition(":")
        getattr(importlib.import_module(module), name)(folder, progress=progress)
    except BaseException as error:  # whatever it was: the worker is told, and this process ends
        with suppress(Exception):  # memory may be too short for it
            traceback.print_exc()
        say({"error": failure(error)})
        return 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # the job may have closed it
                stream.flush()
    return 0


def _teller(reports: int) -> Callable[[dict[str, Any]], None]:
    def say(message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(reports, data) :]

    return say


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
