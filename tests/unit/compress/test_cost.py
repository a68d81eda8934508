"""Cost of a job: what its processes took is measured, what is not known is said."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from redistill.compress import cost, energy
from redistill.compress.cost import Meter
from redistill.compress.energy import Reading


def test_cpu_time_of_the_process_and_of_its_children_is_counted() -> None:
    meter = Meter.start()
    began = time.process_time()
    while time.process_time() - began < 0.1:
        pass
    own = meter.cost().cpu_seconds
    busy = "import time\nwhile time.process_time() < 0.2: pass"
    subprocess.run([sys.executable, "-c", busy], check=True)
    found = meter.cost(earlier_cpu_seconds=3.0)
    assert own >= 0.1
    assert found.cpu_seconds >= own + 0.2
    assert found.wall_seconds > 0.0
    assert found.earlier_cpu_seconds == 3.0


def test_peak_memory_is_in_bytes() -> None:
    held = bytearray(b"x" * 50_000_000)
    found = Meter.start().cost()
    assert found.peak_bytes is not None
    assert len(held) <= found.peak_bytes < 2**40


def counted(monkeypatch: pytest.MonkeyPatch, *, joules: float, cpu: float, busy: float) -> None:
    """Make a second of wall time cost so much."""
    steps = iter([0.0, 1.0])

    def start() -> Meter:
        k = next(steps)
        read = Reading({"intel-rapl:0": k * joules}, {"intel-rapl:0": 1e6})
        return Meter(wall=k, cpu=k * cpu, busy=k * busy, energy=read)

    monkeypatch.setattr(cost.Meter, "start", start)


def test_energy_is_the_packages_and_the_jobs_part_an_estimate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted(monkeypatch, joules=40.0, cpu=0.5, busy=2.0)
    found = cost.Meter.start().cost()
    assert (found.package_joules, found.estimated_joules, found.no_energy) == (40.0, 10.0, None)


def test_a_part_of_the_energy_is_never_more_than_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    counted(monkeypatch, joules=40.0, cpu=1.01, busy=1.0)
    assert cost.Meter.start().cost().estimated_joules == 40.0


def test_energy_that_is_not_known_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "read", lambda: "only root may read it")
    found = Meter.start().cost()
    assert (found.package_joules, found.estimated_joules) == (None, None)
    assert found.no_energy == "only root may read it"
