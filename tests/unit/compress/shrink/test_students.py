from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from redistill.compress.plan import Training
from redistill.compress.shrink import distill, students
from redistill.compress.shrink.trained import Architecture, default_architecture


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


def test_a_code_for_missing_stands_for_the_median_and_raises_its_flag() -> None:
    student = students.build(arch(), seed=1)
    rows = np.random.default_rng(0).normal(size=(600, 4)).astype(np.float32)
    rows[:, 2] = 0
    rows[::10, 0], rows[5::10, 0], rows[::5, 3] = -999.0, -998.0, 1e9
    before = distill.predict_logits(student, np.zeros((1, 4), np.float32))
    student.fit_inputs(rows)
    assert student.architecture.codes == ((0, 2), (3, 1))
    medians = student.medians.numpy().copy()
    plain, coded, empty = np.resize(medians, (3, 4))
    coded[[0, 3]], empty[[0, 3]] = (-998.0, 1e9), np.nan
    plain, coded, empty = distill.predict_logits(student, np.stack([plain, coded, empty]))
    assert before.shape == (1, 3)
    assert np.array_equal(plain, coded)  # the flags' weights begin at zero
    assert np.array_equal(coded, empty)
    with torch.no_grad():
        student.layers[0].weight[:, -2:] += 1.0  # type: ignore[union-attr, index, operator]
    raised, of_nan = distill.predict_logits(
        student, np.float32([[-999.0, medians[1], -1, 1e9], [np.nan, medians[1], -1, np.nan]])
    )
    assert not np.allclose(raised, coded)
    assert np.array_equal(raised, of_nan)
    with pytest.raises(ValueError, match="fitted before"):
        student.fit_inputs(rows)


@pytest.mark.parametrize("bad", [-999.0, 999999999.0], ids=["-999", "999999999"])
def test_a_student_learns_a_column_with_a_code_as_well_as_with_missing_values(bad: float) -> None:
    def accuracy(value: float) -> float:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(3_000, 4)).astype(np.float32)
        hit = rng.random(len(x)) < 0.1
        y = np.where(hit, x[:, 1] > 0, x[:, 0] + x[:, 1] > 0).astype(np.int64)
        x[hit, 0] = value
        student = students.build(default_architecture(4, 2, hidden=(16,)))
        student.fit_inputs(x[:2_500])
        training = Training(epochs=6, batch=128, learning_rate=5e-3)
        distill.distill(student, x[:2_500], labels=y[:2_500], training=training)
        answered = distill.predict_logits(student, x[2_500:]).argmax(axis=1)
        return float((answered == y[2_500:]).mean())

    assert accuracy(bad) > accuracy(np.nan) - 0.02


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
