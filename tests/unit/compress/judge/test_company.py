"""Answers that depend on chance, or on the other rows of their call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from redistill.compress.judge.company import dependent
from redistill.stats import softmax

ROWS = np.random.default_rng(3).normal(size=(500, 2)).astype(np.float32)


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: softmax(x.T).T,
        lambda x: (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-3),
        lambda x: x - x[:1],
        lambda x: x[::-1],
        lambda x: np.cumsum(x, axis=0),
        lambda x: x + 0.1 * x.max(axis=0),
    ],
    ids=["softmax", "statistics", "first", "turned", "sum", "maximum"],
)
@pytest.mark.parametrize("rows", [ROWS, ROWS[:5]], ids=["many", "few"])
def test_what_runs_along_the_rows_is_found(answer: Callable[[Any], Any], rows: Any) -> None:
    assert "depends on the other rows of its call" in (dependent(answer, rows) or "")


def test_chance_is_found() -> None:
    draw = np.random.default_rng(0)
    told = dependent(lambda x: x + draw.normal(scale=0.2, size=x.shape).astype(np.float32), ROWS)
    assert "draws at random" in (told or "")


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: x,
        lambda x: softmax(x),
        lambda x: np.where(x > 0, np.nan, x),
        lambda x: np.where(x > 0, np.inf, x),
        lambda x: np.zeros_like(x),
        lambda x: 1e30 * x,
        lambda x: x + np.float32(1e-4) * len(x) / 64,  # another order of addition
        lambda x: x[:1],  # no answers: others say so
    ],
    ids=["plain", "softmax", "nan", "infinite", "zeros", "large", "rounding", "fewer"],
)
@pytest.mark.parametrize("rows", [ROWS, ROWS[:1]], ids=["many", "one"])
def test_answers_to_rows_alone_are_let_through(answer: Callable[[Any], Any], rows: Any) -> None:
    assert dependent(answer, rows) is None


def test_ranges_of_int8_that_follow_the_batch_are_let_through() -> None:
    def answer(x: Any) -> Any:
        step = np.abs(x).max() / 40
        return np.round(x / step) * step

    assert dependent(answer, ROWS) is not None
    assert dependent(answer, ROWS, rounded=True) is None
