"""Lock of a job's folder: two processes never write one job's files.

It ends with the process that holds it. Whoever is told to work in a folder holds the job's lease,
so a holder that does not let go is one that should have ended: a job of a worker that is frozen and
has lost its lease. It is killed, and the folder taken over. It imports the standard library only.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path

__all__ = ["lock"]

FILE = ".lock"

LET_GO_SECONDS = 5.0
"""A worker that lives and has lost its lease ends its job within a second or so; so does, when it
is killed, a process with some GiB of memory. Longer means that it hangs."""


def lock(folder: Path, *, seconds: float = LET_GO_SECONDS) -> int:
    """Lock a folder for this process, and for those that it starts by ``fork``.

    Returns
    -------
    int
        The descriptor that holds it.

    Raises
    ------
    TimeoutError
        Another process works in it, and is not on this machine or does not end.
    """
    file = os.open(folder / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not _try(file, seconds):
        holder = _holder(file)
        if holder is not None:
            for kill in (os.killpg, os.kill):  # a job leads a group of its own
                try:
                    kill(holder, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    continue
        if holder is None or not _try(file, seconds):
            os.close(file)
            raise TimeoutError(f"another process is still working in {folder}")
        print(f"process {holder} still worked in {folder} and was ended", flush=True)
    os.ftruncate(file, 0)
    os.pwrite(file, _identity(os.getpid()).encode(), 0)
    return file


def _try(file: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        else:
            return True


def _identity(pid: int) -> str:
    """What no other process has, before or after, on this machine or another: process id, clock
    ticks from the machine's start to its own, and the machine's start. Empty where the platform
    does not tell."""
    try:
        started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (OSError, IndexError):
        return ""
    return f"{pid} {started} {boot}"


def _holder(file: int) -> int | None:
    """The process that says that it holds the lock, if it is one of this machine and lives."""
    said = os.pread(file, 200, 0).decode(errors="replace")
    pid = said.partition(" ")[0]
    if not pid.isdigit() or int(pid) in (0, 1, os.getpid()) or _identity(int(pid)) != said:
        return None
    return int(pid)
