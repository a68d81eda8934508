"""Students of the tabular MLP family in torch, scaling and encoding inside; see ``trained``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from redistill.compress.errors import BadModel
from redistill.compress.shrink import trained
from redistill.compress.shrink.trained import ARCHITECTURE_FILE, Architecture, Trained

__all__ = ["Mlp", "arrays", "build", "load"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class Mlp(nn.Module):
    """A multi-layer perceptron over raw rows: missing values, scaling and encoding are its own
    affair.

    Parameters
    ----------
    architecture
        What to build.

    Notes
    -----
    ``forward`` takes ``(batch, inputs) float32``, NaN = missing, and returns logits ``(batch,
    outputs) float32``.
    """

    medians: torch.Tensor  # (inputs,) what stands in for a missing value; -1 for categories
    mean: torch.Tensor  # (numeric,)
    inverse_deviation: torch.Tensor  # (numeric,)
    numeric_index: torch.Tensor  # (numeric,) int64

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = a = architecture
        medians = torch.zeros(a.inputs)
        medians[[column for column, _ in a.categories]] = -1.0
        self.register_buffer("medians", medians)
        if a.normalisation == "standard":
            self.register_buffer("mean", torch.zeros(len(a.numeric)))
            self.register_buffer("inverse_deviation", torch.ones(len(a.numeric)))
        if a.categories:
            self.register_buffer(
                "numeric_index", torch.tensor(a.numeric, dtype=torch.int64), persistent=False
            )
        layers: list[nn.Module] = []
        width = a.width
        for size in a.hidden:
            layers += [nn.Linear(width, size), ACTIVATIONS[a.activation]()]
            if a.dropout > 0.0:
                layers.append(nn.Dropout(a.dropout))
            width = size
        self.layers = nn.Sequential(*layers, nn.Linear(width, a.outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of raw rows: ``(batch, inputs)`` -> ``(batch, outputs)``."""
        a = self.architecture
        x = torch.where(torch.isnan(x), self.medians, x)
        h = torch.index_select(x, 1, self.numeric_index) if a.categories else x
        if a.normalisation == "standard":
            h = (h - self.mean) * self.inverse_deviation
        if a.clip is not None:
            h = torch.clamp(h, -a.clip, a.clip)
        parts = [h]  # (batch, numeric), then (batch, size) for each category
        for column, size in a.categories:
            values = torch.arange(size, dtype=torch.float32, device=x.device)
            parts.append((x[:, column : column + 1] == values).to(torch.float32))
        out: torch.Tensor = self.layers(torch.cat(parts, dim=1) if a.categories else h)
        return out

    def fit_inputs(self, rows: NDArray[np.float32]) -> None:
        """Learn medians, means and deviations of the inputs from rows ``(n, inputs)``; NaN and
        infinities are skipped.

        A column that hardly varies keeps its deviation at 1: dividing by almost nothing would turn
        the first change into an explosion.
        """
        a = self.architecture
        finite = np.where(np.isfinite(rows), rows, np.nan).astype(np.float64)
        has = np.isfinite(finite).any(axis=0)
        medians = np.zeros(a.inputs)
        medians[has] = np.nanmedian(finite[:, has], axis=0)
        medians[[column for column, _ in a.categories]] = -1.0
        self.medians.copy_(torch.from_numpy(medians))
        if a.normalisation == "standard":
            numeric = np.where(np.isnan(finite), medians, finite)[:, list(a.numeric)]
            mean, deviation = numeric.mean(axis=0), numeric.std(axis=0)
            flat = deviation <= 1e-6 * np.maximum(1.0, np.abs(mean))
            self.mean.copy_(torch.from_numpy(mean))
            self.inverse_deviation.copy_(torch.from_numpy(1.0 / np.where(flat, 1.0, deviation)))


def build(architecture: Architecture, *, seed: int = 0) -> Mlp:
    """Make a student with random weights.

    Parameters
    ----------
    architecture
        What to build.
    seed
        Of the random weights; the global generator of torch is left alone.

    Raises
    ------
    BadModel
        The architecture makes no sense; every problem is named.

    Examples
    --------
    >>> student = build(Architecture(inputs=2, hidden=(4,), outputs=3), seed=1)
    >>> student(torch.tensor([[0.5, float("nan")]])).shape
    torch.Size([1, 3])
    """
    if problems := trained.problems(architecture):
        raise BadModel(f"{ARCHITECTURE_FILE}: " + "; ".join(problems))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Mlp(architecture)


def arrays(student: Mlp) -> Trained:
    """The student without torch: a copy of what it has learned so far."""
    return Trained(
        architecture=student.architecture,
        tensors={k: v.detach().cpu().numpy().copy() for k, v in student.state_dict().items()},
    )


def load(folder: Path) -> Mlp:
    """Read a training folder.

    Raises
    ------
    BadModel
        As ``trained.read`` says.
    """
    stored = trained.read(folder)
    student = build(stored.architecture)
    student.load_state_dict({k: torch.from_numpy(v) for k, v in stored.tensors.items()})
    return student.eval()
