"""Energy that the CPU packages draw, by the RAPL counters of Linux (``/sys/class/powercap``).

A counter is of a whole package: what other processes draw meanwhile is in it. Who wants the part of
one job gets an estimate, by its share of the CPU time that all processes took.

References
----------
https://docs.kernel.org/power/powercap/powercap.html; Khan, Hirki, Niemi, Nurminen, Ou 2018, RAPL in
action: experiences in using RAPL for power measurements (ACM TOMPECS 3).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Reading", "busy_seconds", "joules_between", "read"]

POWERCAP = Path("/sys/class/powercap")
STAT = Path("/proc/stat")
PACKAGE = "package"
"""Zones of this name do not overlap; those below them (core, dram) and ``psys`` would count
twice."""
MOST_WATTS = 1_000.0
"""No package draws more: so long a counter surely comes around once at most."""
MICRO = 1e-6
IDLE = (3, 4)
"""Fields of ``/proc/stat``: idle, and waiting for a disk."""
GUEST = 8
"""From here on: what was counted before already."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters of one moment."""

    joules: dict[str, float]
    """By zone; a counter begins again at 0 when it is full."""
    full: dict[str, float]
    """Where each of them does."""


def read(root: Path = POWERCAP) -> Reading | str:
    """Read the counters of all packages.

    Parameters
    ----------
    root
        Folder of the zones.

    Returns
    -------
    Reading or str
        The text says why there is none: no such counters, or only root may read them.
    """
    if not root.is_dir():
        return f"this system shows no energy counters ({root} is missing)"
    joules, full = {}, {}
    try:
        for zone in sorted(root.glob("intel-rapl:*")):
            if (zone / "name").read_text().strip().startswith(PACKAGE):
                joules[zone.name] = int((zone / "energy_uj").read_text()) * MICRO
                full[zone.name] = int((zone / "max_energy_range_uj").read_text()) * MICRO
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        return f"the energy counters below {root} cannot be read: {said}"
    if not joules:
        return f"this machine has no energy counter of a CPU package below {root}"
    return Reading(joules, full)


def joules_between(before: Reading | str, after: Reading | str, *, seconds: float) -> float | str:
    """What all packages drew between two readings, in joules.

    Parameters
    ----------
    seconds
        Wall-clock time between them.

    Returns
    -------
    float or str
        The text says why it is not known.

    Examples
    --------
    >>> full = {"intel-rapl:0": 262_000.0}
    >>> before = Reading({"intel-rapl:0": 261_990.0}, full)
    >>> joules_between(before, Reading({"intel-rapl:0": 5.0}, full), seconds=1.0)
    15.0
    """
    if isinstance(before, str):
        return before
    if isinstance(after, str):
        return after
    if before.full != after.full:
        return "the energy counters changed while it ran"
    if seconds * MOST_WATTS > min(before.full.values()):
        return f"in {seconds:.0f} s an energy counter may have begun again more than once"
    return sum(
        (after.joules[zone] - joules) % before.full[zone] for zone, joules in before.joules.items()
    )


def busy_seconds(path: Path = STAT) -> float | None:
    """CPU seconds that all processes of the machine have taken since it started; ``None``: this
    system does not tell."""
    try:
        words = path.read_text().splitlines()[0].split()[1:]
        ticks = [int(word) for word in words[:GUEST]]
        return sum(t for k, t in enumerate(ticks) if k not in IDLE) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
