"""Mix against worse: the two parts add up, and their intervals cover."""

from __future__ import annotations

import numpy as np
import pytest
from sliced_errors import REFERENCE_ROWS, World, reference

from redistill.streams.monitor.mix import excess_of, split


def parts(seed: int, n: int, **given: object):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seed)
    world = World.drawn(rng, 0.15, 0.6)
    base, expected = reference(world.rows(rng, REFERENCE_ROWS))
    hard = int(np.argmax(world.effects["twentieth"]))
    if given.pop("grow", False):
        given["grown"] = ("twentieth", hard, 0.6)
    rows = world.rows(rng, n, **given)  # type: ignore[arg-type]
    mu = expected.of(rows.codes(np.arange(n)), rows.confidence, rows=n)
    found = split(rows.wrong, mu, base.rate)
    assert found is not None
    assert found.moved.value + found.worse.value == pytest.approx(rows.wrong.mean() - base.rate)
    return found


def test_a_harder_mix_is_no_worse_model() -> None:
    found = parts(0, 4_000, grow=True)
    assert found.moved.low > 0.05
    assert found.worse.low < 0 < found.worse.high


def test_a_worse_model_is_no_harder_mix() -> None:
    found = parts(0, 4_000, harm="+20")
    assert found.worse.low > 0.15
    assert abs(found.moved.value) < 0.01


def test_interval_of_what_got_worse_covers_nothing_where_nothing_did() -> None:
    covered = sum(
        (w := parts(seed, 300, grow=seed % 2 == 0).worse).low <= 0 <= w.high for seed in range(100)
    )
    assert covered >= 93


def test_no_rows_have_no_parts() -> None:
    assert split(np.zeros(0, np.uint8), np.zeros(0), 0.1) is None
    assert excess_of(0, 0, 0.0).n == 0
