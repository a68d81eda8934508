"""Students of the tabular MLP family in torch, scaling and encoding inside; see ``trained``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from redistill.compress.errors import BadModel
from redistill.compress.shrink import trained
from redistill.compress.shrink.scaling import scale_of
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
    codes: torch.Tensor  # (most of a column, inputs); the median where a column has none
    coded_index: torch.Tensor  # (columns with codes,) int64

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
        if a.codes:
            self._keep_codes(torch.zeros(a.shapes["codes"]))
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
        missing = torch.isnan(x)
        if a.codes:
            for code in self.codes:
                missing = missing | (x == code)
        x = torch.where(missing, self.medians, x)
        h = torch.index_select(x, 1, self.numeric_index) if a.categories else x
        if a.normalisation == "standard":
            h = (h - self.mean) * self.inverse_deviation
        if a.clip is not None:
            h = torch.clamp(h, -a.clip, a.clip)
        parts = [h]  # (batch, numeric), then (batch, size) for each category
        for column, size in a.categories:
            values = torch.arange(size, dtype=torch.float32, device=x.device)
            parts.append((x[:, column : column + 1] == values).to(torch.float32))
        if a.codes:
            parts.append(torch.index_select(missing, 1, self.coded_index).to(torch.float32))
        out: torch.Tensor = self.layers(torch.cat(parts, dim=1) if len(parts) > 1 else h)
        return out

    def fit_inputs(self, rows: NDArray[np.float32]) -> None:
        """Learn medians, means, deviations and codes for missing of the inputs from rows ``(n,
        inputs)``, as ``scaling`` says.

        The flags of columns with codes enter the first layer with weights of zero.

        Raises
        ------
        ValueError
            It was fitted before, and found codes.
        """
        a = self.architecture
        if a.codes:
            raise ValueError("the student's inputs were fitted before")
        scales = {j: scale_of(rows[:, j]) for j in a.numeric}
        medians = torch.full((a.inputs,), -1.0)
        medians[list(a.numeric)] = torch.tensor([s.median for s in scales.values()])
        self.medians.copy_(medians)
        if a.normalisation == "standard":
            self.mean.copy_(torch.tensor([s.mean for s in scales.values()]))
            self.inverse_deviation.copy_(torch.tensor([1.0 / s.deviation for s in scales.values()]))
        coded = {j: s.codes for j, s in scales.items() if s.codes}
        if not coded:
            return
        self.architecture = a = replace(a, codes=tuple((j, len(c)) for j, c in coded.items()))
        codes = medians.repeat(a.shapes["codes"][0], 1)
        for j, values in coded.items():
            codes[:, j] = torch.tensor(np.resize(values, len(codes)))
        self._keep_codes(codes)
        first = self.layers[0]
        assert isinstance(first, nn.Linear)
        first.in_features = a.width
        flags = torch.zeros(first.out_features, len(a.codes))
        first.weight = nn.Parameter(torch.cat([first.weight.detach(), flags], dim=1))

    def _keep_codes(self, codes: torch.Tensor) -> None:
        self.register_buffer("codes", codes)
        columns = torch.tensor([column for column, _ in self.architecture.codes])
        self.register_buffer("coded_index", columns, persistent=False)


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
