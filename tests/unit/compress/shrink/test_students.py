from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from redistill.compress.shrink import distill, students
from redistill.compress.shrink.trained import Architecture


def arch(**over: Any) -> Architecture:
    given: dict[str, Any] = {
        "inputs": 4,
        "hidden": (8, 6),
        "outputs": 3,
        "normalisation": "standard",
        "clip": 5.0,
        "categories": ((2, 3),),
    }
    return Architecture(**given | over)


def test_missing_values_stand_for_medians_and_unseen_categories_for_nothing() -> None:
    student = students.build(arch())
    rows = np.array([[1, 10, 0, 5], [2, 20, 1, 5], [3, 30, 2, 5]], np.float32)
    student.fit_inputs(rows)
    nan = np.full((1, 4), np.nan, np.float32)
    medians = np.array([[2, 20, -1, 5]], np.float32)
    assert distill.predict_logits(student, nan) == pytest.approx(
        distill.predict_logits(student, medians)
    )
    unseen = np.array([[2, 20, 7, 5]], np.float32)
    assert distill.predict_logits(student, unseen) == pytest.approx(
        distill.predict_logits(student, medians)
    )
    seen = np.array([[2, 20, 1, 5]], np.float32)
    assert not np.allclose(
        distill.predict_logits(student, seen), distill.predict_logits(student, medians)
    )


def test_infinite_values_are_cut() -> None:
    student = students.build(arch())
    x = np.array([[np.inf, -np.inf, 0, 1e30]], np.float32)
    assert np.isfinite(distill.predict_logits(student, x)).all()


def test_fit_inputs_leaves_constant_and_empty_columns_alone() -> None:
    student = students.build(arch(categories=()))
    rows = np.full((10, 4), np.nan, np.float32)
    rows[:, 0] = 7.0
    rows[:, 1] = np.arange(10)
    student.fit_inputs(rows)
    assert student.inverse_deviation[0] == 1.0
    assert student.inverse_deviation[1] == pytest.approx(1 / np.arange(10).std())
    assert torch.isfinite(student.medians).all()


def test_build_repeats_itself_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second, other = (students.build(arch(), seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    weights = [s.layers[0].weight for s in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
