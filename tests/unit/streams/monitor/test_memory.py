"""Memory of outcomes: bounded, and no row is lost in the counts."""

from __future__ import annotations

import numpy as np
import pytest

from redistill.streams.monitor import memory as module
from redistill.streams.monitor.memory import FOLD, RECENT, Memory


def test_memory_folds_old_outcomes_without_losing_counts() -> None:
    memory, n = Memory(), 3 * RECENT
    errors = (np.random.default_rng(0).random(n) < 0.3).astype(int)
    for i, e in enumerate(errors.tolist()):
        memory.append(e, i)
    counts, folded, times = memory.entries()
    assert counts.sum() == len(memory) == n
    assert folded.sum() == errors.sum()
    assert counts[0] == FOLD
    assert times[0] == 0
    last = memory.entries(RECENT + 100)
    assert last[0].sum() == pytest.approx(RECENT + 100, abs=FOLD)


def test_memory_is_bounded_and_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FOLDS", 4)
    memory = Memory()
    for i in range(3 * RECENT):
        memory.append(0, i)
    assert len(memory.folded_times) == 4
    assert memory.folded_times[-1] == 2 * RECENT - FOLD
    assert len(memory) == RECENT + 4 * FOLD
