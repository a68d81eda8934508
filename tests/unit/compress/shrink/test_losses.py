"""Losses against their formulas."""

from __future__ import annotations

import math

import pytest
import torch

from redistill.compress.shrink import losses

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.0]])


def test_distillation_is_the_divergence_from_the_teacher() -> None:
    teacher = torch.tensor([[1.0, 1.0, 0.0], [3.0, 0.0, 0.0]])
    p, q = (torch.softmax(t / 2.0, 1) for t in (teacher, LOGITS))
    expected = 4.0 * (p * (p / q).log()).sum(1).mean()
    assert losses.distillation(LOGITS, teacher, temperature=2.0).item() == pytest.approx(
        expected.item(), rel=1e-5
    )
    assert losses.distillation(LOGITS, LOGITS, temperature=2.0).item() == pytest.approx(
        0.0, abs=1e-6
    )


def test_distillation_pulls_towards_the_teacher_not_away() -> None:
    student = torch.zeros(1, 2, requires_grad=True)
    losses.distillation(student, torch.tensor([[3.0, -3.0]]), temperature=1.0).backward()
    assert student.grad is not None
    assert student.grad[0, 0] < 0 < student.grad[0, 1]


def test_cross_entropy_looks_at_labelled_rows_only() -> None:
    labels = torch.tensor([0, -1])
    expected = -math.log(torch.softmax(LOGITS[0], 0)[0].item())
    assert losses.cross_entropy(LOGITS, labels).item() == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_weighs_rows() -> None:
    labels = torch.tensor([0, 2])
    each = [losses.cross_entropy(LOGITS[i : i + 1], labels[i : i + 1]).item() for i in (0, 1)]
    weighted = losses.cross_entropy(LOGITS, labels, weights=torch.tensor([1.0, 3.0])).item()
    assert weighted == pytest.approx((each[0] + 3 * each[1]) / 4, rel=1e-5)


def test_cross_entropy_without_labels_is_zero_with_a_gradient() -> None:
    student = LOGITS.clone().requires_grad_()
    loss = losses.cross_entropy(student, torch.tensor([-1, -1]))
    loss.backward()
    assert loss.item() == 0.0
    assert student.grad is not None
    assert not student.grad.any()
