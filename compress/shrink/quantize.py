"""Quantization of fp32 ONNX to int8, static and dynamic, and to 16-bit weights.

Whether it helped is judged elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from redistill import onnxhalved
from redistill.compress.errors import BadData, BadModel
from redistill.compress.shrink.export import INPUT
from redistill.onnxports import OnnxError

__all__ = ["OPERATORS", "dynamic_int8", "fp16_weights", "static_int8"]

OPERATORS = ["MatMul", "Gemm"]
"""What is quantized. Scaling and encoding of the inputs stay in float: eight bits for a raw income
would cost everything."""
CALIBRATION_BATCH = 64
"""Rows per calibration step: ONNX Runtime keeps all activations of a step in memory."""


class _Rows(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, rows: NDArray[np.float32], input_name: str) -> None:
        self._steps: Iterator[dict[str, Any]] = iter(
            [
                {input_name: rows[i : i + CALIBRATION_BATCH]}
                for i in range(0, len(rows), CALIBRATION_BATCH)
            ]
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self._steps, None)


def static_int8(
    fp32_path: Path,
    out: Path,
    calibration_rows: NDArray[np.float32],
    *,
    input_name: str = INPUT,
    signed: bool = False,
) -> None:
    """Quantize weights and activations: S8 weights per channel, min-max ranges (QDQ format).

    U8 activations suit x86 with VNNI, S8 ones ARM. Of convolutions on x86 S8 was slower than fp32,
    of perceptrons as fast as U8: measured in every job, never assumed.

    Parameters
    ----------
    fp32_path
        Graph to quantize.
    out
        Where the int8 graph goes. The same arguments give the same bytes.
    calibration_rows
        ``(n, inputs) float32`` of the data that the graph will see, some dozens to some thousands;
        NaN is fine if the graph imputes.
    input_name
        Name of the graph's input.
    signed
        Whether activations are S8.

    Raises
    ------
    BadData
        No calibration rows.
    BadModel
        The graph cannot be quantized.
    """
    if not len(calibration_rows):
        raise BadData("static quantization needs calibration rows")
    rows = np.ascontiguousarray(calibration_rows, np.float32)
    try:
        with _quiet():
            quantize_static(
                str(fp32_path),
                str(out),
                _Rows(rows, input_name),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=OPERATORS,
                per_channel=True,
                activation_type=QuantType.QInt8 if signed else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
            )
    except Exception as error:  # the quantizer raises whatever comes up
        raise BadModel(f"static quantization failed: {str(error)[:300]}") from error


def dynamic_int8(fp32_path: Path, out: Path) -> None:
    """Quantize the weights; activations are quantized at run time with the range of each batch.

    Parameters
    ----------
    fp32_path
        Graph to quantize.
    out
        Where the int8 graph goes. The same graph gives the same bytes.

    Raises
    ------
    BadModel
        The graph cannot be quantized.
    """
    try:
        with _quiet():
            quantize_dynamic(
                str(fp32_path),
                str(out),
                op_types_to_quantize=OPERATORS,
                per_channel=True,
                weight_type=QuantType.QInt8,
            )
    except Exception as error:  # the quantizer raises whatever comes up
        raise BadModel(f"dynamic quantization failed: {str(error)[:300]}") from error


def fp16_weights(fp32_path: Path, out: Path) -> None:
    """Store the weights of matrix products in 16 bits: ONNX Runtime makes 32 of them when it loads
    the graph.

    Half the bytes at the speed and, but for rounding, with the answers of the fp32 graph: a CPU
    computes nothing in 16 bits.

    Parameters
    ----------
    fp32_path
        Graph to quantize.
    out
        Where the smaller graph goes. The same graph gives the same bytes.

    Raises
    ------
    BadModel
        The graph is not valid with them.
    """
    try:
        out.write_bytes(onnxhalved.halved(fp32_path.name, fp32_path.read_bytes(), OPERATORS))
    except OnnxError as error:
        raise BadModel(str(error)) from error


class _quiet:
    """The quantizer advises, through the root logger, a preprocessing that gains nothing on our
    exports."""

    def __enter__(self) -> None:
        logging.getLogger().addFilter(_no_advice)

    def __exit__(self, *exc: object) -> None:
        logging.getLogger().removeFilter(_no_advice)


def _no_advice(record: logging.LogRecord) -> bool:
    return "pre-processing before quantization" not in record.getMessage()
