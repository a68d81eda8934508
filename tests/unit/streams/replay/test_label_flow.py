"""Labels of a replay: asked for when something is suspected, within the budget, knowing the past
only."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.replay.label_flow import Asked, Budget, LabelFlow
from redistill.streams.replay.late_labels import ServedRows
from redistill.streams.replay.options import ReplayOptions
from redistill.streams.wire.block import Schema

BASE = BaseError.from_errors(np.tile([0] * 9 + [1], 2_000))
CONFIG = WatchConfig(model="m", schema=Schema(features=()), tolerance_points=2.0)
ROWS, DELAY, RATE = 12_000, 500, 0.08


def stream(seed: int = 0, n: int = ROWS, start: int = 6_000, rate: float = 0.16) -> ServedRows:
    """Ten percent errors, then more."""
    rng = np.random.default_rng(seed)
    p = np.where(np.arange(n) < start, 0.1, rate)
    return ServedRows(
        first=0,
        error=(rng.random(n) < p).astype(np.uint8),
        labelled=np.ones(n, np.bool_),
        served_at=np.arange(n) * 1_000_000,
        confidence=np.full(n, 0.5, np.float32),
        window=np.arange(n) // 2_000,
        drawn=rng.random(n) < RATE,
        slices={},
    )


def run(
    rows: ServedRows,
    budget: Budget | None,
    *,
    delay: int = DELAY,
    block: int = 500,
    upto: int = ROWS,
) -> tuple[LabelFlow, list[int], list[Asked]]:
    """The flow after the rows, where harm opened, and what was asked for."""
    flow = LabelFlow(ReplayOptions(label_rate=RATE, label_delay=delay), CONFIG, BASE, budget)
    opened, asked = [], []
    for i in range(0, upto, block):
        told, _ = flow.serve(rows.cut(i, min(i + block, upto)), [], [])
        opened += [row for row, f in told if f.status == "open"]
        asked += flow.bursts
    return flow, opened, asked


def changed_from(rows: ServedRows, row: int) -> ServedRows:
    """The same, with other errors, and other rows labelled, from a row on."""
    later = np.arange(len(rows)) >= row
    rng = np.random.default_rng(99)
    error = np.where(later, rng.random(len(rows)) < 0.7, rows.error).astype(np.uint8)
    labelled = rows.labelled & ~(later & (rng.random(len(rows)) < 0.3))
    return dataclasses.replace(rows, error=error, labelled=labelled)


def test_what_is_suspected_is_asked_for_and_found_sooner() -> None:
    budget = Budget(0.07, ROWS)
    random, asked = [], []
    for seed in range(6):
        rows = stream(seed)
        random += run(rows, None)[1][:1] or [ROWS]
        asked += run(rows, budget)[1][:1] or [ROWS]
    assert min(random + asked) > 6_000
    assert np.mean(asked) < np.mean(random) - 500


@pytest.mark.parametrize("total", [ROWS, None])
@pytest.mark.parametrize("share", [0.005, 0.02, 0.07])
def test_no_more_rows_are_asked_for_than_the_budget_allows(share: float, total: int | None) -> None:
    rows = stream(1, rate=0.12)
    flow = LabelFlow(
        ReplayOptions(label_rate=RATE, label_delay=50), CONFIG, BASE, Budget(share, total)
    )
    most = 0
    for i in range(0, ROWS, 500):
        flow.serve(rows.cut(i, i + 500), [], [])
        most = max(most, flow.asked)
        assert flow.asked <= share * (total or flow.served)
        assert flow.answered + flow.random_labels <= flow.served
    assert most > 0 or share < 0.01
    used = flow.used()
    assert used is not None
    assert (used.budget, used.asked) == (int(share * ROWS), most)


def test_a_row_without_a_label_is_spent() -> None:
    rows = stream(2, rate=0.25)
    half = dataclasses.replace(rows, labelled=np.arange(ROWS) % 2 == 0)
    flow, _, _ = run(half, Budget(0.07, ROWS))
    flow.end(0, [])
    assert 0.3 < flow.answered / flow.asked < 0.7


@pytest.mark.parametrize("row", [8_450, 8_700, 9_400])
def test_requests_know_nothing_of_what_comes(row: int) -> None:
    rows = stream(2)
    flow, opened, asked = run(rows, Budget(0.07, ROWS), upto=row)
    # labels of the last DELAY rows have not come, and later rows were not served
    other, opened_, asked_ = run(changed_from(rows, row - DELAY), Budget(0.07, ROWS), upto=row)
    assert asked == asked_ != []
    assert opened == opened_
    assert (flow.asked, flow.requests) == (other.asked, other.requests)


def test_the_same_seed_asks_for_the_same_rows_however_they_are_cut() -> None:
    rows = stream(2)
    first, again, other = (
        run(rows, Budget(0.07, ROWS), block=block) for block in (500, 500, 1_000)
    )
    assert first[1:] == again[1:]
    assert first[1] == other[1]
    assert first[0].asked == other[0].asked


def test_nothing_is_asked_for_while_harm_is_open() -> None:
    rows = stream(0, start=2_000, rate=0.6)
    _, opened, asked = run(rows, Budget(0.5, ROWS))
    assert len(opened) == 1
    assert {a.at for a in asked if a.at > opened[0] + 50} == set()


def test_a_budget_is_earned_or_there_from_the_first_row() -> None:
    assert Budget(0.07, 1_000).left(10, 20) == 50
    assert Budget(0.07, None).left(100, 5) == 2
    assert Budget(0.07, None).left(100, 50) == 0
