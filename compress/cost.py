"""Cost of a job: CPU time, wall time, peak memory and energy, from its start to its report."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass

from redistill.compress import energy
from redistill.compress.plan import Cost

__all__ = ["Meter"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Meter:
    """What stood on the clocks when a job began."""

    wall: float
    cpu: float
    busy: float | None
    energy: energy.Reading | str

    @classmethod
    def start(cls) -> Meter:
        """Read all clocks."""
        return cls(
            wall=time.perf_counter(),
            cpu=_cpu_seconds(),
            busy=energy.busy_seconds(),
            energy=energy.read(),
        )

    def cost(self, *, earlier_cpu_seconds: float = 0.0) -> Cost:
        """What was spent since.

        Parameters
        ----------
        earlier_cpu_seconds
            Of the finished steps that were taken over from an earlier run.
        """
        now = Meter.start()
        wall, cpu = now.wall - self.wall, now.cpu - self.cpu
        drawn = energy.joules_between(self.energy, now.energy, seconds=wall)
        joules, why = (None, drawn) if isinstance(drawn, str) else (drawn, None)
        busy = None if self.busy is None or now.busy is None else now.busy - self.busy
        part = None if joules is None or not busy else joules * min(1.0, cpu / busy)
        return Cost(
            cpu_seconds=round(cpu, 4),
            earlier_cpu_seconds=round(earlier_cpu_seconds, 4),
            wall_seconds=round(wall, 4),
            peak_bytes=_peak_bytes(),
            package_joules=None if joules is None else round(joules, 3),
            estimated_joules=None if part is None else round(part, 3),
            no_energy=why,
        )


def _cpu_seconds() -> float:
    """Of this process and of the children that it waited for."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in used)


def _peak_bytes() -> int:
    """Largest resident memory of this process, or of one of those children."""
    peak = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return peak if sys.platform == "darwin" else peak * 1024
