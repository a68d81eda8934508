"""Families of students: what a candidate can be, a table. Light: libraries load when one is made.

A family's module has the functions of ``Maker``. Whether trees or a perceptron suit a table is
measured, never assumed: on rules of steps trees win by ten points at equal size, on twenty classes
they lose more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from redistill.compress.shrink.lesson import Lesson, Wanted

__all__ = ["FAMILIES"]


class Maker(Protocol):
    """What the module of a family does; each function gives the same for the same arguments."""

    def sized(self, wanted: Wanted) -> tuple[Any, str]:
        """How large a student is made: a value that ``fit`` takes and JSON can hold; and, where
        that is less than was asked for, what was cut, in words."""

    def fit(self, size: Any, lesson: Lesson, out: Path) -> None:
        """Make a student from nothing, and write what it has learned into the folder ``out``."""

    def fit_again(self, folder: Path, lesson: Lesson, out: Path) -> None:
        """Go on with what ``folder`` holds; called where the family is ``warm`` only."""

    def to_onnx(self, folder: Path, out: Path, rows: NDArray[np.float32]) -> None:
        """Export it: input ``x`` ``(batch, inputs) float32``, output ``y`` ``(batch, classes)
        float32``, logits.

        Raises
        ------
        BadModel
            The graph is not valid, or answers on ``rows`` ``(n, inputs)`` something else.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One kind of student."""

    told: str
    """What it is, for people."""
    maker: Callable[[], Maker]
    """Loads its module."""
    warm: bool
    """Whether what it has learned can be learned on: then it is kept as ``training/``."""
    quantizers: tuple[str, ...]
    """What is tried on its graphs, names of ``quantizers.QUANTIZERS``; ``fp32`` always."""
    libraries: tuple[str, ...]
    """On whose versions its bytes depend."""


def _mlp() -> Maker:
    from redistill.compress.shrink import mlp

    return mlp


def _trees() -> Maker:
    from redistill.compress.shrink import trees

    return trees


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "mlp": Family(
            told="a multi-layer perceptron",
            maker=_mlp,
            warm=True,
            quantizers=("fp32", "fp16", "static_int8", "static_s8s8", "dynamic_int8"),
            libraries=("torch",),
        ),
        "trees": Family(
            told="boosted trees",
            maker=_trees,
            warm=False,
            quantizers=("fp32",),
            libraries=("lightgbm",),
        ),
    }
)
"""By name; a recipe says which one it makes."""
