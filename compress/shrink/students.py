"""Students: small networks of the tabular MLP family, with their scaling and encoding inside.

A training folder holds ``architecture.json`` (what to build) and ``weights.safetensors`` (what it
has learned, the statistics of its inputs included). Nothing is pickled.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import torch as tensors
from torch import nn

from compress.errors import BadModel

ARCHITECTURE_FILE, WEIGHTS_FILE = "architecture.json", "weights.safetensors"
MAX_WIDTH = 16_384
"""Largest layer that a training folder may ask for: a mistyped width must not eat the machine's
memory."""

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """``architecture.json``: what a student is made of. Statistics of the inputs are weights, not
    architecture.

    Examples
    --------
    >>> a = Architecture(inputs=3, hidden=(8,), outputs=2, categories=((2, 4),))
    >>> a.width, a.numeric
    (6, (0, 1))
    """

    format: Literal[1] = 1
    kind: Literal["mlp"] = "mlp"
    inputs: int
    """Columns of the graph's input."""
    hidden: tuple[int, ...]
    outputs: int
    """Classes; the output is logits."""
    activation: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    dropout: float = 0.0
    normalisation: Literal["none", "standard"] = "none"
    """``standard``: numeric columns become (x - mean) / deviation."""
    clip: float | None = None
    """Normalised values are cut at plus and minus this: keeps outliers (and infinities) from ruling
    int8 ranges."""
    categories: tuple[tuple[int, int], ...] = ()
    """(column, number of values): such a column is an index, encoded one-hot; -1 and NaN give all
    zeros."""

    @property
    def numeric(self) -> tuple[int, ...]:
        """Columns that are numbers."""
        taken = {column for column, _ in self.categories}
        return tuple(j for j in range(self.inputs) if j not in taken)

    @property
    def width(self) -> int:
        """Columns after encoding."""
        return len(self.numeric) + sum(size for _, size in self.categories)


def _problems(a: Architecture) -> list[str]:
    out = []
    if not 1 <= a.inputs <= MAX_WIDTH:
        out.append(f"inputs = {a.inputs}, must be 1 to {MAX_WIDTH}")
    if not 2 <= a.outputs <= MAX_WIDTH:
        out.append(f"outputs = {a.outputs}, must be 2 to {MAX_WIDTH}")
    if len(a.hidden) > 16 or any(not 1 <= h <= MAX_WIDTH for h in a.hidden):
        out.append(f"hidden = {list(a.hidden)}, must be at most 16 layers of 1 to {MAX_WIDTH}")
    if not 0.0 <= a.dropout < 1.0:
        out.append(f"dropout = {a.dropout}, must be in [0, 1)")
    if a.clip is not None and not a.clip > 0.0:
        out.append(f"clip = {a.clip}, must be positive")
    columns = [column for column, _ in a.categories]
    if len(set(columns)) != len(columns) or any(not 0 <= c < a.inputs for c in columns):
        out.append(f"categories name columns {columns}, must be different ones below inputs")
    if any(not 1 <= size <= MAX_WIDTH for _, size in a.categories) or a.width > MAX_WIDTH:
        out.append(f"categories encode to {a.width} columns, must be 1 to {MAX_WIDTH}")
    return out


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
            self.register_buffer("numeric_index", torch.tensor(a.numeric), persistent=False)
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
    if problems := _problems(architecture):
        raise BadModel(f"{ARCHITECTURE_FILE}: " + "; ".join(problems))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Mlp(architecture)


def default_architecture(
    inputs: int,
    outputs: int,
    *,
    hidden: Sequence[int] = (384, 384),
    categories: Sequence[tuple[int, int]] = (),
) -> Architecture:
    """The built-in student, for models that bring no training folder.

    Parameters
    ----------
    inputs
        Columns of the graph's input.
    outputs
        Classes.
    hidden
        Sizes of the layers.
    categories
        (column, number of values).
    """
    return Architecture(
        inputs=inputs,
        hidden=tuple(hidden),
        outputs=outputs,
        normalisation="standard",
        clip=8.0,
        categories=tuple(categories),
    )


def save(folder: Path, student: Mlp) -> None:
    """Write ``architecture.json`` and ``weights.safetensors``; the same student gives the same
    bytes.

    Both files are synced to the disk; the folder is made where it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    encoded = msgspec.json.format(msgspec.json.encode(student.architecture), indent=2)
    weights = {k: v.detach().contiguous().cpu() for k, v in student.state_dict().items()}
    for name, data in ((ARCHITECTURE_FILE, encoded + b"\n"), (WEIGHTS_FILE, tensors.save(weights))):
        with (folder / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def load(folder: Path) -> Mlp:
    """Read a training folder.

    Raises
    ------
    BadModel
        A file is missing, unreadable, of a newer format, or the weights do not fit the
        architecture.
    """
    try:
        encoded = (folder / ARCHITECTURE_FILE).read_bytes()
    except OSError as error:
        raise BadModel(
            f"training folder: {ARCHITECTURE_FILE} cannot be read ({error.strerror})"
        ) from error
    try:
        architecture = msgspec.json.decode(encoded, type=Architecture)
    except msgspec.DecodeError as error:
        raise BadModel(
            f"{ARCHITECTURE_FILE}: {error}. This program reads format 1, kind 'mlp'; without a"
            " training folder a built-in student is distilled from scratch"
        ) from error
    student = build(architecture)
    try:
        weights = tensors.load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise BadModel(f"training folder: {WEIGHTS_FILE} cannot be read ({error})") from error
    if wrong := [k for k, v in weights.items() if not torch.isfinite(v).all()]:
        raise BadModel(f"{WEIGHTS_FILE}: {', '.join(wrong)} holds NaN or infinite values")
    try:
        student.load_state_dict(weights)
    except RuntimeError as error:
        raise BadModel(f"{WEIGHTS_FILE} does not fit {ARCHITECTURE_FILE}: {error}") from error
    return student.eval()
