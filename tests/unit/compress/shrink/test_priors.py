"""New shares of the classes without labels."""

from __future__ import annotations

import numpy as np
import pytest

from redistill.compress.shrink import priors
from redistill.stats import softmax


def drawn(shares: list[float], n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of three normal classes a unit apart, and their exact posteriors under equal shares."""
    rng = np.random.default_rng(seed)
    y = rng.choice(3, n, p=shares)
    x = rng.normal(y, 1.0)
    scores = -((x[:, None] - np.arange(3)) ** 2) / 2
    return y, softmax(scores)


@pytest.mark.parametrize("seed", range(3))
def test_shares_of_another_mix_are_found_without_labels(seed: int) -> None:
    shares = [0.7, 0.2, 0.1]
    y, posteriors = drawn(shares, 4_000, seed=seed)
    old = np.full(3, 1 / 3)
    found = priors.new_shares(posteriors, old)
    np.testing.assert_allclose(found, shares, atol=0.06)
    corrected = np.log(posteriors) + np.log(found / old)
    right = [(s.argmax(axis=1) == y).mean() for s in (posteriors, corrected)]
    assert right[1] > right[0] + 0.05


def test_shares_that_stayed_stay() -> None:
    _, posteriors = drawn([1 / 3] * 3, 4_000, seed=1)
    found = priors.new_shares(posteriors, np.full(3, 1 / 3))
    np.testing.assert_allclose(found, 1 / 3, atol=0.05)


def test_class_that_is_gone_keeps_a_little_and_rows_without_an_answer_count_for_nothing() -> None:
    old = np.array([0.5, 0.5])
    found = priors.new_shares(np.array([[1.0, 0.0]] * 50 + [[np.nan, np.nan]]), old)
    assert found == pytest.approx([1 - priors.LEAST_SHARE, priors.LEAST_SHARE], rel=0.01)
    assert priors.new_shares(np.full((3, 2), np.nan), old).tolist() == [0.5, 0.5]
