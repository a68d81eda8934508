from __future__ import annotations

import numpy as np

from redistill.compress.judge.within_classes import moved_within, that_matter


def drawn(n: int, share: float, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of which a column each tells the classes apart, and one tells nothing."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < share).astype(np.int64)
    return rng.normal(y[:, None] * [2.0, 1.0, 0.0], 1.0, (n, 3)).astype(np.float32), y


def test_mere_change_of_the_mix_moves_nothing_within_the_classes() -> None:
    named = [moved_within(drawn(600, 0.2, seed=k), drawn(300, 0.8, seed=900 + k), (0, 1, 2)) for k in range(200)]  # fmt: skip
    assert sum(bool(n) for n in named) <= 7  # 1% is promised


def test_shifted_spread_and_missing_columns_are_named() -> None:
    x, y = drawn(300, 0.6, seed=1)
    x[:, 0] += 0.6
    x[:, 1] = 1.0 + 2.0 * (x[:, 1] - 1.0)
    x[::5, 2] = np.nan
    assert moved_within(drawn(600, 0.2, seed=2), (x, y), (0, 1, 2)) == (0, 1, 2)
    assert moved_within(drawn(600, 0.2, seed=2), (x, y), (2,)) == (2,)
    assert moved_within(drawn(600, 0.2, seed=2), (x, y), ()) == ()


def test_column_that_never_had_a_value_is_no_trouble() -> None:
    x, y = drawn(300, 0.5, seed=1)
    old, truth = drawn(300, 0.5, seed=2)
    old[:, 2] = x[:, 2] = np.nan
    assert moved_within((old, truth), (x, y), (2,)) == ()


def test_columns_matter_that_answers_hang_on() -> None:
    x, _ = drawn(400, 0.5, seed=1)
    assert that_matter(lambda r: (r[:, 1] > 1.0).astype(np.int64), x, (0, 1, 2), seed=0) == (1,)
