"""Whose the processors were: read from a made-up ``/proc`` and from the real one."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from redistill.workers.demo import cpu_steal

TICKS = os.sysconf("SC_CLK_TCK")


def process(proc: Path, pid: int, parent: int, *ticks: int, name: str = "x") -> None:
    (proc / str(pid)).mkdir(parents=True)
    used = " ".join(str(n) for n in ticks)
    (proc / str(pid) / "stat").write_text(f"{pid} ({name}) S {parent} {'0 ' * 9}{used} 20 0\n")


def of_children() -> float:
    """Processor seconds of ended children, as the system has counted them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_own_time_is_that_of_all_descendants_living_and_ended(tmp_path: Path) -> None:
    me = os.getpid()
    process(tmp_path, me, 1, 1, 2, 30, 40)
    process(tmp_path, me + 1, me, 500, 0, 0, 0, name="a) S 1 (b")
    process(tmp_path, me + 2, me + 1, 6_000, 0, 0, 0)
    process(tmp_path, me + 3, 1, 70_000, 0, 0, 0)
    # user nice system idle iowait irq softirq steal guest guest_nice
    (tmp_path / "stat").write_text("cpu  100000 10 5 7000 3000 1 2 4 99 99\ncpu0 1 2\n")
    found = cpu_steal.spent(tmp_path)
    assert found is not None
    assert found.own * TICKS == pytest.approx(6_573)
    assert found.busy * TICKS == pytest.approx(100_022)
    assert found.total * TICKS == pytest.approx(110_022)


def test_it_is_not_known_where_there_is_no_proc(tmp_path: Path) -> None:
    assert cpu_steal.spent(tmp_path) is None


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_what_a_child_used_is_our_own() -> None:
    before, known = cpu_steal.spent(), of_children()
    burn = "import time\nwhile time.process_time() < .5: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    after, used = cpu_steal.spent(), of_children() - known
    assert before is not None
    assert after is not None
    assert used > 0.4
    assert after.own - before.own >= used - 4 / TICKS  # four sums, each cut to whole ticks
    assert 0.0 <= after.others_since(before) <= 1.0
