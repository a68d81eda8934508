"""Losses that a student is trained to minimise. Pure functions of tensors."""

from __future__ import annotations

import torch
from torch.nn import functional as F

__all__ = ["cross_entropy", "distillation"]


def distillation(
    student: torch.Tensor, teacher: torch.Tensor, *, temperature: float
) -> torch.Tensor:
    """Divergence of the student's softened classes from the teacher's, times the squared
    temperature.

    Parameters
    ----------
    student, teacher
        Logits, ``(batch, classes) float32``.
    temperature
        Above 1 the teacher's second choices weigh more.

    Returns
    -------
    torch.Tensor
        Mean over the batch, a scalar. The factor keeps gradients comparable with cross-entropy
        whatever the temperature.

    References
    ----------
    Hinton, Vinyals, Dean 2015, Distilling the Knowledge in a Neural Network (arXiv 1503.02531).
    """
    soft = F.log_softmax(student / temperature, dim=1)  # (batch, classes)
    target = F.log_softmax(teacher / temperature, dim=1)
    return F.kl_div(soft, target, reduction="batchmean", log_target=True) * temperature**2


def cross_entropy(
    student: torch.Tensor,
    labels: torch.Tensor,
    *,
    weights: torch.Tensor | None = None,
    smoothing: float = 0.0,
) -> torch.Tensor:
    """Cross-entropy on the rows that have a label.

    Parameters
    ----------
    student
        Logits, ``(batch, classes) float32``.
    labels
        ``(batch,) int64``, -1 = no label.
    weights
        ``(batch,) float32``, of each row; ``None``: all 1.
    smoothing
        Share of each target that is spread over all classes.

    Returns
    -------
    torch.Tensor
        Weighted mean over the labelled rows; zero (with a gradient) if there are none.
    """
    has = (labels >= 0).to(student.dtype)  # (batch,)
    each = F.cross_entropy(
        student, labels.clamp(min=0), reduction="none", label_smoothing=smoothing
    )
    weight = has if weights is None else has * weights
    total: torch.Tensor = (each * weight).sum() / weight.sum().clamp(min=1e-12)
    return total
