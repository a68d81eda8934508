"""Quantizers: what is made of a student's fp32 graph, a table. Light: libraries load when one runs.

Whether one helps is measured in every job (gates ``quantized``, ``latency``, ``agreement``): which
is fastest depends on the graph and the CPU, and some do nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

__all__ = ["FP16", "FP32", "QUANTIZERS", "asked"]

FP32 = "fp32"
"""The graph as it was exported: what all others are made from, and compared with."""

FP16 = "fp16"
"""Half its bytes: what sizes a student where it is made."""

Rows = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantizer:
    """One way to a smaller or faster graph."""

    told: str
    """What it does, for people."""
    make: Callable[[Path, Path, Rows], None] | None
    """From the fp32 file to another one, with rows ``(n, inputs)`` that set ranges; the same
    arguments give the same bytes. ``None``: nothing is done."""
    needs_rows: bool = False
    """Whether the rows have a say."""
    integers: bool = True
    """Whether the graph is to compute on integers: where ONNX Runtime makes no integer operator of
    it, nothing was done."""


def _static_int8(fp32: Path, out: Path, rows: Rows) -> None:
    from redistill.compress.shrink import quantize

    quantize.static_int8(fp32, out, rows)


def _static_s8s8(fp32: Path, out: Path, rows: Rows) -> None:
    from redistill.compress.shrink import quantize

    quantize.static_int8(fp32, out, rows, signed=True)


def _fp16(fp32: Path, out: Path, rows: Rows) -> None:
    from redistill.compress.shrink import quantize

    quantize.fp16_weights(fp32, out)


def _dynamic_int8(fp32: Path, out: Path, rows: Rows) -> None:
    from redistill.compress.shrink import quantize

    quantize.dynamic_int8(fp32, out)


QUANTIZERS: Mapping[str, Quantizer] = MappingProxyType(
    {
        FP32: Quantizer(told="32-bit floats, as exported", make=None, integers=False),
        FP16: Quantizer(told="weights in 16 bits, computed in 32", make=_fp16, integers=False),
        "static_int8": Quantizer(
            told="int8 weights, unsigned 8-bit activations in ranges of calibration rows",
            make=_static_int8,
            needs_rows=True,
        ),
        "static_s8s8": Quantizer(
            told="int8 weights, signed 8-bit activations in ranges of calibration rows",
            make=_static_s8s8,
            needs_rows=True,
        ),
        "dynamic_int8": Quantizer(
            told="int8 weights, 8-bit activations in ranges of each batch", make=_dynamic_int8
        ),
    }
)
"""By name; ``JobSpec.candidates`` and each family say which are tried."""


def asked(wanted: Sequence[str], able: Sequence[str]) -> tuple[str, ...]:
    """Which variants of a student are judged: those that are wanted and its family allows; where
    that is none, its fp32 graph.

    Examples
    --------
    >>> asked(("static_int8", "fp32"), ("fp32", "static_int8", "dynamic_int8"))
    ('static_int8', 'fp32')
    >>> asked(("static_int8",), ("fp32",))
    ('fp32',)
    """
    return tuple(name for name in wanted if name in able) or (FP32,)
