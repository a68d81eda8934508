"""Peak memory of a piece of work: in a process of its own.

Each is forked from the same process, so that none finds memory that another one left behind, and
the kernel counts its peak (``VmHWM``) from what is resident when it begins. What was freed before
is given back first: a page of it that is used again would not count.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import select
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from redistill import confinement

__all__ = ["peak_of"]

STATUS = Path("/proc/self/status")
CPU_SECONDS = 10
"""Loading and some calls take milliseconds; what takes longer is refused where it is loaded in
earnest."""
WALL_SECONDS = 20.0
"""Twice that: a busy machine may be the reason."""


def peak_of(work: Callable[[], object], *, first: Callable[[], object]) -> int | None:
    """Bytes of resident memory that a piece of work adds, at its peak.

    Parameters
    ----------
    work
        Is called in a forked process, whose limits are this one's and 10 s of CPU time.
    first
        Is called before it, and not counted: what every such piece of work pays once.

    Returns
    -------
    int or None
        ``None``: it failed, died, took too long, or this system does not tell.
    """
    if not (sys.platform == "linux" and STATUS.exists()):
        return None
    gc.collect()
    _give_back()
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # importing ONNX Runtime leaves a thread that sleeps; a lock of it that a fork would not
        # give back costs the wait below, and no more
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):  # whatever happens here, this process ends below
            _measure(work, first, writer)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        told, _, _ = select.select([pipe], [], [], WALL_SECONDS)
        if not told:
            os.kill(child, signal.SIGKILL)
        said = pipe.read()
    os.waitpid(child, 0)
    return int(said) if said else None


def _measure(work: Callable[[], object], first: Callable[[], object], writer: int) -> None:
    confinement.die_with_parent()
    gc.disable()  # a collection would touch, and so copy, every page of Python's objects
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    most = CPU_SECONDS if hard == resource.RLIM_INFINITY else min(CPU_SECONDS, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (most, most))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # its last words are not this probe's
    first()
    _give_back()
    (STATUS.parent / "clear_refs").write_text("5")  # the peak begins anew, at what is resident
    before = _kilobytes("VmRSS")
    work()
    os.write(writer, str(max(0, _kilobytes("VmHWM") - before) * 1024).encode())


def _kilobytes(key: str) -> int:
    line = next(x for x in STATUS.read_text().splitlines() if x.startswith(f"{key}:"))
    return int(line.split()[1])


def _give_back() -> None:
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)
