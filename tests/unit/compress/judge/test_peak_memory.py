"""Peak memory: of a piece of work alone, whatever was done before or goes wrong in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux counts it")

MB = 1_000_000


def measured(*works: str, first: str = "None", before: str = "None") -> list[int | None]:
    """Peaks of pieces of work, given as code, one after the other in a fresh process: this one may
    have threads.

    Parameters
    ----------
    first
        What comes first in each, and is not counted.
    before
        What the process does before.
    """
    each = "".join(
        f"print(peak_memory.peak_of(lambda: {work}, first=lambda: {first}))\n" for work in works
    )
    code = "import os, threading, time\nfrom redistill.compress.judge import peak_memory\n"
    out = subprocess.run(
        [sys.executable, "-c", f"{code}{before}\n{each}"],
        capture_output=True, text=True, check=True, timeout=60,
        cwd=Path(__file__).resolve().parents[4], env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return [None if line == "None" else int(line) for line in out.stdout.split()]


def test_the_peak_is_that_of_the_work_alone_in_any_order() -> None:
    little, much, again = measured(
        "bytearray(5_000_000)", "[0] * 8_000_000", "bytearray(5_000_000)"
    )
    assert little is not None
    assert much is not None
    assert again is not None
    assert 4.5 * MB <= little < 8 * MB  # the kernel counts pages in batches of 64
    assert 63.5 * MB <= much < 68 * MB
    assert again == pytest.approx(little, abs=MB)


def test_memory_that_was_given_back_counts_as_well() -> None:
    (peak,) = measured("[len(bytearray(30_000_000)), None]")
    assert peak is not None
    assert peak >= 29.5 * MB


def test_what_comes_first_is_not_counted() -> None:
    (peak,) = measured("bytearray(5_000_000)", first="len(bytearray(50_000_000))")
    assert peak is not None
    assert 4.5 * MB <= peak < 8 * MB


def test_work_that_fails_or_dies_tells_nothing_and_hurts_nobody() -> None:
    failed, killed, good = measured("1 / 0", "os.abort()", "None")
    assert (failed, killed) == (None, None)
    assert good is not None


def test_work_that_never_ends_is_ended() -> None:
    (peak,) = measured("time.sleep(600)", before="peak_memory.WALL_SECONDS = 0.5")
    assert peak is None
