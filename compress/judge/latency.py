"""Latency of a call: CPU time of the calling thread, the variants taking turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["MIN_ROUNDS", "WARM_UP_ROUNDS", "interleaved"]

WARM_UP_ROUNDS = 5
MIN_ROUNDS = 30
"""Below this a 95% quantile means nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """Quantiles of one variant's calls."""

    p50_ms: float
    p95_ms: float
    mean_ms: float
    calls: int


def interleaved(
    calls: Sequence[Callable[[], object]],
    *,
    rounds: int = 400,
    budget_s: float = 0.4,
    clock_ns: Callable[[], int] = time.thread_time_ns,
) -> list[Latency]:
    """Time several calls in turns, so that a slow moment of the machine hits all of them.

    Parameters
    ----------
    calls
        What is timed; each must do its work on the calling thread.
    rounds
        Times that each is called, after some that do not count.
    budget_s
        CPU seconds after which it ends early, once each was called 30 times.
    clock_ns
        CPU time of the calling thread: other processes' work does not count.

    Returns
    -------
    list
        One ``Latency`` per call, in their order.

    Examples
    --------
    >>> now = iter(range(0, 10**9, 1_000_000))
    >>> interleaved([lambda: None], rounds=40, clock_ns=lambda: next(now))
    [Latency(p50_ms=1.0, p95_ms=1.0, mean_ms=1.0, calls=...)]
    """
    for _ in range(WARM_UP_ROUNDS):
        for call in calls:
            call()
    taken: list[list[int]] = [[] for _ in calls]
    spent = 0
    for r in range(rounds):
        for k in range(len(calls)):
            which = (k + r) % len(calls)  # nobody always comes after the one that spoils the cache
            began = clock_ns()
            calls[which]()
            taken[which].append(clock_ns() - began)
        spent += sum(t[-1] for t in taken)
        if r + 1 >= MIN_ROUNDS and spent > budget_s * 1e9:
            break
    return [
        Latency(
            p50_ms=float(np.quantile(t, 0.5)) / 1e6,
            p95_ms=float(np.quantile(t, 0.95)) / 1e6,
            mean_ms=float(np.mean(t)) / 1e6,
            calls=len(t),
        )
        for t in taken
    ]
