"""Waiting for a condition: a test never waits for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE_SECONDS = 120.0
"""Only a test that fails waits so long. It is no measure of speed: on a machine that is busy with
other things everything comes late, and nothing is wrong with that."""


def eventually(
    check: Callable[[], object],
    what: str = "it happens",
    *,
    every: float = 0.05,
    patience: float = PATIENCE_SECONDS,
) -> Any:
    """Wait until ``check()`` is true and return its value; fail with ``what`` otherwise.

    Parameters
    ----------
    every
        Seconds between two looks; 0 where the check itself takes its time.
    patience
        Seconds after which the test fails.
    """
    end = time.monotonic() + patience
    while not (value := check()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {patience:g} s: {what}")
        time.sleep(every)
    return value
