from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from redistill.compress.errors import BadData
from redistill.compress.plan import Training
from redistill.compress.shrink import distill, students

QUICK = Training(epochs=30, batch=20, learning_rate=1e-2)


def rows(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Two classes that a line divides."""
    x = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
    return x, (x[:, 0] + x[:, 1] > 0).astype(np.int64)


def student(seed: int = 0, dropout: float = 0.0) -> students.Mlp:
    return students.build(
        students.Architecture(inputs=3, hidden=(16,), outputs=2, dropout=dropout), seed=seed
    )


def right(model: students.Mlp, x: np.ndarray, y: np.ndarray) -> float:
    return float((distill.predict_logits(model, x).argmax(axis=1) == y).mean())


def test_a_student_learns_from_its_teachers_logits_alone() -> None:
    x, y = rows()
    teacher = np.stack([-4.0 * (x[:, 0] + x[:, 1]), 4.0 * (x[:, 0] + x[:, 1])], axis=1)
    model = distill.distill(student(), x, teacher.astype(np.float32), training=QUICK)
    assert right(model, x, y) > 0.95
    assert not model.training


def test_a_student_learns_from_labels_alone_and_unlabelled_rows_do_not_hurt() -> None:
    x, y = rows()
    half = np.where(np.arange(len(y)) % 2 == 0, y, -1)
    model = distill.distill(student(), x, labels=half, training=QUICK)
    assert right(model, x, y) > 0.9


def test_kd_weight_divides_the_loss_between_teacher_and_labels() -> None:
    x, y = rows()
    against = np.stack([4.0 * (2 * y - 1.0), -4.0 * (2 * y - 1.0)], axis=1).astype(np.float32)
    by_labels = distill.distill(student(), x, against, y, training=replace(QUICK, kd_weight=0.1))
    by_teacher = distill.distill(student(), x, against, y, training=replace(QUICK, kd_weight=0.9))
    assert right(by_labels, x, y) > 0.9
    assert right(by_teacher, x, y) < 0.1


def test_training_repeats_itself_and_leaves_the_global_generator_alone() -> None:
    x, y = rows(100)
    torch.manual_seed(9)
    before = torch.get_rng_state()
    runs = [
        distill.distill(
            student(dropout=0.2), x, labels=y, training=Training(epochs=2, batch=16), seed=s
        )
        for s in (1, 1, 2)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    logits = [distill.predict_logits(m, x) for m in runs]
    assert (logits[0] == logits[1]).all()
    assert not np.allclose(logits[0], logits[2])


def test_check_is_told_the_share_and_may_stop_the_training() -> None:
    x, y = rows(100)
    seen: list[float] = []

    def check(share: float) -> None:
        seen.append(share)
        if share > 0.4:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        distill.distill(student(), x, labels=y, training=Training(epochs=10, batch=20), check=check)
    assert seen == sorted(seen)
    assert seen[0] == 0.0
    assert seen[-1] < 0.6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((10, 2), np.float32)}, r"takes \(n, 3\)"),
        ({"x": np.zeros((1, 3), np.float32)}, "too few"),
        ({"labels": None}, "nothing to learn from"),
        ({"labels": np.full(10, 2)}, "below 2"),
        ({"labels": np.full(10, -1)}, "no training row has a label"),
        ({"teacher_logits": np.zeros((10, 3), np.float32)}, "logits have shape"),
        ({"teacher_logits": np.full((10, 2), np.nan, np.float32)}, "NaN"),
    ],
)
def test_distill_refuses_arrays_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "x": np.zeros((10, 3), np.float32),
        "teacher_logits": None,
        "labels": np.zeros(10, np.int64),
        "training": Training(epochs=1),
    }
    with pytest.raises(BadData, match=message):
        distill.distill(student(), **given | change)
