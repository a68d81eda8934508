"""Whether the hour of the day matters is told from chance, runs and steps, or not told at all."""

from __future__ import annotations

import numpy as np
import pytest
from standing_harm import drawn, timed

from redistill.streams.monitor.daily_cycle import daily_cycle
from redistill.times import DAY, HOUR, MINUTE

ROWS = 20_000  # two weeks, a label a minute


@pytest.mark.parametrize("kind", ["independent", "runs of 8", "runs of 30"])
def test_errors_without_a_cycle_are_rarely_thought_to_have_one(kind: str) -> None:
    found = [
        daily_cycle(drawn(kind, np.full(ROWS, 0.15), seed), timed(ROWS)) for seed in range(100)
    ]
    assert sum(found) <= 5


@pytest.mark.parametrize("seed", range(5))
def test_cycle_is_found_also_where_the_rate_steps_in_between(seed: int) -> None:
    rate = np.repeat([0.06, 0.24], ROWS // 2)
    assert daily_cycle(drawn("daily +-60%", rate, seed), timed(ROWS)) is True
    assert daily_cycle(drawn("independent", rate, seed), timed(ROWS)) is False


def test_order_of_the_rows_and_how_they_are_summed_do_not_matter() -> None:
    errors, at = drawn("daily +-60%", np.full(ROWS, 0.15), 0), timed(ROWS)
    mixed = np.random.default_rng(0).permutation(ROWS)
    assert daily_cycle(errors[mixed], at[mixed]) is True
    blocks = errors.reshape(-1, 32).sum(axis=1)
    assert daily_cycle(blocks, at[::32], np.full(len(blocks), 32)) is True


@pytest.mark.parametrize(
    ("rows", "gap"),
    [(0, MINUTE), (1, MINUTE), (4_000, MINUTE), (60, HOUR), (4_000, 0), (40, DAY)],
    ids=["none", "one", "under three days", "few a day", "at once", "one a day"],
)
def test_too_little_tells_nothing(rows: int, gap: int) -> None:
    errors = np.arange(rows) % 2
    assert daily_cycle(errors, np.arange(rows, dtype=np.int64) * gap) is None


def test_errors_all_alike_have_no_cycle() -> None:
    assert daily_cycle(np.zeros(ROWS, int), timed(ROWS)) is False
    assert daily_cycle(np.ones(ROWS, int), timed(ROWS)) is False
