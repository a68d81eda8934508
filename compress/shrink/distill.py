"""Distillation: a student learns from a teacher's logits, from labels, or both. Repeatable."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim.adamw import adamw

from redistill.compress.errors import BadData
from redistill.compress.plan import Training
from redistill.compress.shrink import losses
from redistill.compress.shrink.students import Mlp

__all__ = ["distill", "predict_logits"]

WARM_UP_SHARE = 0.1
"""Share of the steps in which the learning rate climbs; afterwards it falls to zero along a cosine.
"""


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Rate of a step: a line up, then half a cosine down to zero.

    Examples
    --------
    >>> [round(learning_rate(s, 20, 1.0), 2) for s in (0, 1, 10, 19)]
    [0.5, 1.0, 0.59, 0.01]
    """
    warm = max(1, round(WARM_UP_SHARE * steps))
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def distill(
    student: Mlp,
    x: NDArray[np.float32],
    teacher_logits: NDArray[np.float32] | None = None,
    labels: NDArray[np.int64] | None = None,
    *,
    training: Training,
    seed: int = 0,
    weights: NDArray[np.float32] | None = None,
    smoothing: float = 0.0,
    check: Callable[[float], None] = lambda share: None,
) -> Mlp:
    """Train a student in place: warm if it has learned before, from scratch if not.

    Single-threaded and seeded: the same arguments give the same weights on the same machine.

    Parameters
    ----------
    student
        What is trained; it is left in evaluation mode.
    x
        ``(n, inputs) float32``, NaN = missing.
    teacher_logits
        ``(n, classes) float32``, made once and cached; ``None``: labels only.
    labels
        ``(n,) int64``, -1 = no label; ``None``: teacher only.
    training
        Epochs, batch, rates; ``kd_weight`` is the teacher's share of the loss where both are given.
    seed
        Of the order of rows and of dropout; torch's global generator is left as it was.
    weights
        ``(n,)`` of the labelled rows, for example 1 / probability of having been labelled.
    smoothing
        Label smoothing.
    check
        Called with the share of the work done, twice an epoch or more; may raise to stop.

    Returns
    -------
    Mlp
        The same student.

    Raises
    ------
    BadData
        There is nothing to learn from, or the arrays do not fit each other or the student.
    """
    share = training.kd_weight if labels is not None else 1.0
    if teacher_logits is None:
        share = 0.0
    _check_arrays(student, x, teacher_logits, labels, share=share)
    rows = torch.from_numpy(np.ascontiguousarray(x, np.float32))
    target = (
        None
        if teacher_logits is None
        else torch.from_numpy(np.ascontiguousarray(teacher_logits, np.float32))
    )
    truth = None if labels is None else torch.from_numpy(np.ascontiguousarray(labels, np.int64))
    weight = (
        None if weights is None else torch.from_numpy(np.ascontiguousarray(weights, np.float32))
    )

    n, batch = len(x), min(training.batch, len(x))
    per_epoch = max(1, n // batch)  # the rest of the rows comes first in another epoch
    steps = per_epoch * training.epochs
    order = np.random.default_rng(seed)
    optimiser = _AdamW(list(student.parameters()), weight_decay=training.weight_decay)
    student.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        step = 0
        for _ in range(training.epochs):
            shuffled = torch.from_numpy(order.permutation(n))
            for k in range(per_epoch):
                if step % max(1, per_epoch // 2) == 0:
                    check(step / steps)
                pick = shuffled[k * batch : (k + 1) * batch]
                out = student(rows[pick])  # (batch, classes)
                loss = torch.zeros(())
                if target is not None and share > 0.0:
                    kd = losses.distillation(out, target[pick], temperature=training.temperature)
                    loss = loss + share * kd
                if truth is not None and share < 1.0:
                    each = None if weight is None else weight[pick]
                    ce = losses.cross_entropy(out, truth[pick], weights=each, smoothing=smoothing)
                    loss = loss + (1.0 - share) * ce
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step(learning_rate(step, steps, training.learning_rate))
                step += 1
    return student.eval()


class _AdamW:
    """AdamW with decoupled weight decay (Loshchilov, Hutter 2019, arXiv 1711.05101): torch's own
    function, without its optimizer class.

    The class imports the compiler (``torch._dynamo``) at its first step: four seconds for a process
    that never compiles. "Fused" is one kernel for all parameters: a quarter of the time of the loop
    over them at this size.
    """

    def __init__(self, parameters: list[torch.nn.Parameter], *, weight_decay: float) -> None:
        self._parameters = parameters
        self._weight_decay = weight_decay
        self._means = [torch.zeros_like(p) for p in parameters]
        self._squares = [torch.zeros_like(p) for p in parameters]
        self._steps = [torch.zeros(()) for _ in parameters]

    def step(self, rate: float) -> None:
        """Use up the gradients, at a learning rate."""
        used = [k for k, p in enumerate(self._parameters) if p.grad is not None]
        with torch.no_grad():
            adamw(
                [self._parameters[k] for k in used],
                [g for k in used if (g := self._parameters[k].grad) is not None],
                [self._means[k] for k in used],
                [self._squares[k] for k in used],
                [],
                [self._steps[k] for k in used],
                fused=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=rate,
                weight_decay=self._weight_decay,
                eps=1e-8,
                maximize=False,
            )
        for p in self._parameters:
            p.grad = None


def _check_arrays(
    student: Mlp,
    x: NDArray[np.float32],
    teacher_logits: NDArray[np.float32] | None,
    labels: NDArray[np.int64] | None,
    *,
    share: float,
) -> None:
    a = student.architecture
    if x.ndim != 2 or x.shape[1] != a.inputs:
        raise BadData(f"training rows have shape {x.shape}, the student takes (n, {a.inputs})")
    if len(x) < 2:
        raise BadData(f"{len(x)} training rows are too few to learn from")
    if teacher_logits is None and labels is None:
        raise BadData("neither teacher nor labels: there is nothing to learn from")
    if teacher_logits is not None:
        if teacher_logits.shape != (len(x), a.outputs):
            raise BadData(
                f"the teacher's logits have shape {teacher_logits.shape},"
                f" expected ({len(x)}, {a.outputs})"
            )
        if not np.isfinite(teacher_logits).all():
            raise BadData("the teacher's logits hold NaN or infinite values")
    if labels is not None:
        if labels.shape != (len(x),) or labels.max() >= a.outputs:
            raise BadData(f"labels must be ({len(x)},) indices below {a.outputs}, -1 = none")
        if share < 1.0 and not (labels >= 0).any():
            raise BadData("no training row has a label")


def predict_logits(student: Mlp, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of a student in torch, ``(n, classes) float32``."""
    with torch.inference_mode():
        out: NDArray[np.float32] = student(
            torch.from_numpy(np.ascontiguousarray(x, np.float32))
        ).numpy()
    return out
