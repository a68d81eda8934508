"""Lesson of a student: rows, what is said of them, and how long it learns. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redistill.compress.plan import Training

__all__ = ["Lesson", "Wanted"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A student that is to be made from nothing."""

    inputs: int
    """Columns of the graph's input."""
    outputs: int
    """Classes."""
    categories: tuple[tuple[int, int], ...] = ()
    """(column, number of values): indices, -1 and NaN are none of them."""
    most_bytes: float = float("inf")
    """Largest file of its graph."""
    weight_bytes: int = 4
    """Of a number in the graph that is held to it: 2 where there is one with 16-bit weights."""
    training: Training


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Lesson:
    """What a student learns, once."""

    x: NDArray[np.float32]  # (n, inputs), NaN = missing
    """The rows of an epoch; some stand more than once."""
    logits: NDArray[np.float32] | None  # (n, classes)
    """What the teacher says of them; ``None``: nothing, the labels alone teach."""
    labels: NDArray[np.int64] | None  # (n,), -1 = no label
    """``None``: the teacher alone teaches."""
    training: Training
    seed: int
    check: Callable[[float], None] = lambda share: None
    """Called with the share of the work that is done; may raise to stop."""
