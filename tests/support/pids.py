"""Processes by their id: what they started, whether they have ended, killing and freezing them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

from waiting import eventually


def children(pid: int) -> list[int]:
    """Processes that a process started and that are there; none of one that is gone."""
    out: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            text = Path(f"/proc/{pid}/task/{task}/children").read_text()
            out += [int(word) for word in text.split()]
    return out


def descendants(pid: int) -> list[int]:
    """They, and what they started."""
    own = children(pid)
    return own + [p for child in own for p in descendants(child)]


def fork_server(worker: int) -> int | None:
    """The process from which a repair worker's jobs are forked."""
    for child in children(worker):
        with contextlib.suppress(OSError):
            if b"fork_server" in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
    return None


def job_of(server: int) -> int | None:
    """The process of the job at work, by the fork server that it comes from."""
    return next((child for child in children(server) if not gone(child)), None)


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet, too."""
    return _state(pid) in "ZX"


def zombies_of(pid: int) -> list[int]:
    """Children of a process that have ended and that it has not waited for."""
    return [child for child in children(pid) if _state(child) == "Z"]


def send(pid: int, sign: int = signal.SIGKILL) -> bool:
    """Send a signal; ``False``: the process is gone."""
    try:
        os.kill(pid, sign)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def frozen(pids: Iterable[int]) -> Iterator[None]:
    """SIGSTOP to processes, each of which stands still before the next is asked for, and SIGCONT at
    the end: who is asked for the children of one that is frozen misses none."""
    stopped: list[int] = []
    try:
        for pid in pids:
            if send(pid, signal.SIGSTOP):
                stopped.append(pid)
                eventually(lambda pid=pid: _state(pid) in "TtZX", every=0.005)  # type: ignore[misc]
        yield
    finally:
        for pid in reversed(stopped):
            send(pid, signal.SIGCONT)


def _state(pid: int) -> str:
    """A letter of ``/proc``; ``X``: it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"
