"""Widths of the built-in student: as asked for, or narrower where its file would be too large to
serve."""

from __future__ import annotations

import math
from dataclasses import replace

from redistill.compress.shrink.trained import Architecture

__all__ = ["expected_bytes", "fitting"]

HEADER = 4_096
"""Bytes of a graph besides its weights: names, operators, a temperature (1.2 to 3.3 kB were
measured at 7 to 200 inputs)."""
PER_INPUT = 16
SHARES = (1.0, 0.75, 0.5, 0.375, 0.25, 0.1875, 0.125, 0.09375, 0.0625, 0.03125)
LEAST = 4
"""Units of a hidden layer."""


def expected_bytes(architecture: Architecture, weight_bytes: int = 4) -> int:
    """Size of the student's graph, rather too much than too little, with weights of so many bytes:
    4 in fp32, 2 in fp16."""
    numbers = sum(math.prod(shape) for shape in architecture.shapes.values())
    return weight_bytes * numbers + HEADER + PER_INPUT * architecture.inputs


def fitting(architecture: Architecture, most: float, *, weight_bytes: int = 4) -> Architecture:
    """The widest student of at most ``most`` bytes, with all hidden layers narrowed alike; the
    narrowest, where none is so small.

    In fp16 or, where there is none, in fp32: a graph that only fits in int8 has nothing to fall
    back on where int8 is slower, or answers otherwise.

    Examples
    --------
    >>> fitting(Architecture(inputs=8, hidden=(384, 384), outputs=2), 65_536).hidden
    (96, 96)
    """
    found = architecture
    for share in SHARES:
        hidden = tuple(max(LEAST, round(share * h)) for h in architecture.hidden)
        found = replace(architecture, hidden=hidden)
        if expected_bytes(found, weight_bytes) <= most:
            break
    return found
