"""Trained student as files and arrays, for whoever judges or exports it, and so without torch.

A training folder holds ``architecture.json`` (what to build) and ``weights.safetensors`` (what it
has learned, the statistics of its inputs included). Nothing is pickled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as tensors

from redistill.compress.errors import BadModel
from redistill.decodable import decodable
from redistill.files import write

__all__ = [
    "ARCHITECTURE_FILE",
    "WEIGHTS_FILE",
    "Architecture",
    "Trained",
    "default_architecture",
    "problems",
    "read",
]

ARCHITECTURE_FILE, WEIGHTS_FILE = "architecture.json", "weights.safetensors"
MAX_WIDTH = 16_384
"""Largest layer that a training folder may ask for: a mistyped width must not eat the machine's
memory."""
MAX_CODES = 16
"""Codes for missing of one column."""


@decodable
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
    codes: tuple[tuple[int, int], ...] = ()
    """(column, how many) of the numeric columns in which some values, say -999, stand for a missing
    one: each gives one more column, 1 where the value is missing."""

    @property
    def numeric(self) -> tuple[int, ...]:
        """Columns that are numbers."""
        taken = {column for column, _ in self.categories}
        return tuple(j for j in range(self.inputs) if j not in taken)

    @property
    def width(self) -> int:
        """Columns after encoding."""
        return len(self.numeric) + sum(size for _, size in self.categories) + len(self.codes)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the linear layers, first to last, as weights are named: activation and dropout
        take numbers, too."""
        step = 3 if self.dropout > 0.0 else 2
        return tuple(f"layers.{step * k}" for k in range(len(self.hidden) + 1))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor of the weights, by name."""
        sizes = (self.width, *self.hidden, self.outputs)
        out: dict[str, tuple[int, ...]] = {"medians": (self.inputs,)}
        if self.codes:
            out["codes"] = (max(many for _, many in self.codes), self.inputs)
        if self.normalisation == "standard":
            out |= dict.fromkeys(("mean", "inverse_deviation"), (len(self.numeric),))
        for name, before, after in zip(self.layers, sizes[:-1], sizes[1:], strict=True):
            out |= {f"{name}.weight": (after, before), f"{name}.bias": (after,)}
        return out


def problems(a: Architecture) -> list[str]:
    """What makes no sense in an architecture, in words."""
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
    coded = [column for column, _ in a.codes]
    if len(set(coded)) != len(coded) or not set(coded) <= set(a.numeric):
        out.append(f"codes name columns {coded}, must be different numeric ones")
    if any(not 1 <= many <= MAX_CODES for _, many in a.codes):
        out.append(f"codes = {a.codes}, must be 1 to {MAX_CODES} a column")
    return out


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


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Trained:
    """A student as arrays."""

    architecture: Architecture
    tensors: Mapping[str, NDArray[np.float32]]
    """By name, in the ``shapes`` of the architecture: a linear layer computes ``x @ weight.T +
    bias``; missing values, NaN and what equals a row of ``codes`` (a column without any has its
    median there), become ``medians`` (-1 for categories) first; with normalisation, numeric columns
    become ``(x - mean) * inverse_deviation``. After them come the categories, then the flags of the
    columns with codes."""

    def save(self, folder: Path) -> None:
        """Write ``architecture.json`` and ``weights.safetensors``; the same student gives the same
        bytes.

        Both files are whole and on the disk; the folder is made where it is missing.
        """
        folder.mkdir(parents=True, exist_ok=True)
        encoded = msgspec.json.format(msgspec.json.encode(self.architecture), indent=2) + b"\n"
        weights = tensors.save(dict(self.tensors))
        for name, data in ((ARCHITECTURE_FILE, encoded), (WEIGHTS_FILE, weights)):
            write(folder / name, data)


def read(folder: Path) -> Trained:
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
    if wrong := problems(architecture):
        raise BadModel(f"{ARCHITECTURE_FILE}: " + "; ".join(wrong))
    try:
        stored = tensors.load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise BadModel(f"training folder: {WEIGHTS_FILE} cannot be read ({error})") from error
    shapes = architecture.shapes
    if missing := sorted(shapes.keys() - stored.keys()):
        raise BadModel(f"{WEIGHTS_FILE} does not fit {ARCHITECTURE_FILE}: {missing} missing")
    if unknown := sorted(stored.keys() - shapes.keys()):
        raise BadModel(f"{WEIGHTS_FILE} does not fit {ARCHITECTURE_FILE}: {unknown} unknown")
    if off := [k for k, shape in shapes.items() if stored[k].shape != shape]:
        raise BadModel(
            f"{WEIGHTS_FILE} does not fit {ARCHITECTURE_FILE}: "
            + "; ".join(f"{k} has shape {stored[k].shape}, expected {shapes[k]}" for k in off)
        )
    weights = {k: stored[k].astype(np.float32) for k in shapes}
    if bad := [k for k, v in weights.items() if not np.isfinite(v).all()]:
        raise BadModel(f"{WEIGHTS_FILE}: {', '.join(bad)} holds NaN or infinite values")
    return Trained(architecture=architecture, tensors=weights)
