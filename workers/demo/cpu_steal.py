"""CPU steal: how much of the machine's processors other programs took while a promise was timed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["spent"]

PROC = Path("/proc")
IDLE = (3, 4)
"""Places of *idle* and *waiting for disks* in the line ``cpu`` of ``/proc/stat``."""
GUESTS = 8
"""From here on it repeats what stands before: time of virtual machines."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """Processor seconds since the machine was started."""

    total: float
    """Of all processors, idle or not."""
    busy: float
    """Of these, used by anybody, the host of a virtual machine included."""
    own: float
    """Of these, used by this process and all that it started, ended ones as well."""

    def others_since(self, before: Spent) -> float:
        """Share of all processors, 0 to 1, that other programs took since then.

        Examples
        --------
        >>> then = Spent(total=10.0, busy=4.0, own=1.0)
        >>> Spent(total=14.0, busy=7.0, own=2.0).others_since(then)
        0.5
        """
        others = (self.busy - before.busy) - (self.own - before.own)
        return max(0.0, others / max(1e-9, self.total - before.total))


def spent(proc: Path = PROC) -> Spent | None:
    """Look now; ``None`` where the system does not tell (it is not Linux)."""
    try:
        line = (proc / "stat").read_text().split("\n", 1)[0]
    except OSError:
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    all_of = [int(n) / ticks for n in line.split()[1 : 1 + GUESTS]]
    total = sum(all_of)
    return Spent(
        total=total, busy=total - sum(all_of[k] for k in IDLE), own=_own(proc, os.getpid()) / ticks
    )


def _own(proc: Path, root: int) -> int:
    """Ticks of a process and its descendants; those of ended ones stand with their parents."""
    parent: dict[int, int] = {}
    used: dict[int, int] = {}
    for path in proc.glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()  # a name may hold anything
        except OSError:  # it ended just now
            continue
        pid = int(path.parent.name)
        parent[pid], used[pid] = int(fields[1]), sum(int(n) for n in fields[11:15])
    ours = {root}
    while more := {pid for pid, above in parent.items() if above in ours} - ours:
        ours |= more
    return sum(used.get(pid, 0) for pid in ours)
