"""Torch to ONNX by the recipe that was found to work; what it wrote is run before it counts."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from compress.errors import BadModel
from compress.judge.graph import session as open_session

__all__ = ["INPUT", "OPSET", "OUTPUT", "open_session", "to_onnx"]

OPSET = 20
"""Opsets 23 and 24 with dynamic quantization of all operators gave invalid files."""
INPUT, OUTPUT = "x", "y"
TOLERANCE = 1e-4
"""Largest difference between torch and ONNX Runtime, as a share of the largest output."""


def to_onnx(module: nn.Module, path: Path, n_features: int) -> None:
    """Export a module of raw rows to one self-contained ONNX file, and run it.

    The same module gives the same bytes.

    Parameters
    ----------
    module
        Takes ``(batch, n_features) float32``, returns ``(batch, outputs) float32``. It is put into
        evaluation mode.
    path
        Where the file goes; input ``x``, output ``y``, any batch, opset 20, weights embedded.
    n_features
        Columns of the input.

    Raises
    ------
    BadModel
        The exporter fails, or what it wrote does not load, is fixed to one batch size, or differs
        from torch.
    """
    module.eval()
    rows = np.random.default_rng(0).random((7, n_features), dtype=np.float32)
    x = torch.from_numpy(rows)
    # two rows: an example batch of one exports some modules with a fixed batch, silently
    with warnings.catch_warnings(), _quiet():
        # torch's exporter copies its own deprecated classes; nothing that a caller could mend
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        try:
            torch.onnx.export(
                module,
                (x[:2],),
                str(path),
                dynamo=True,
                opset_version=OPSET,
                external_data=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
        except Exception as error:  # the exporter's exceptions share no public base class
            raise BadModel(f"the student cannot be exported to ONNX: {str(error)[:300]}") from error
    session = open_session(path)
    try:
        with torch.inference_mode():
            expected = module(x).numpy()
    except RuntimeError as error:
        raise BadModel(f"the module fails on 7 rows: {str(error)[:300]}") from error
    scale = max(1.0, float(np.abs(expected).max()))
    for batch in (1, 2, 7):
        try:
            (got,) = session.run([OUTPUT], {INPUT: rows[:batch]})
        except Exception as error:  # onnxruntime's exceptions share no public base class
            raise BadModel(
                f"the exported graph fails on {batch} rows: {str(error)[:300]}"
            ) from error
        if got.shape != expected[:batch].shape:
            raise BadModel(f"the exported graph answers {batch} rows with shape {got.shape}")
        worst = float(np.abs(got - expected[:batch]).max())
        if not worst <= TOLERANCE * scale:
            raise BadModel(f"the exported graph differs from torch by {worst:.3g}")


class _quiet:
    """The exporter warns once per missing optional library, and traces every step for its authors,
    through ``logging``; only its errors are of interest."""

    _names = ("torch.onnx._internal.exporter._registration", "torch.__trace")

    def __enter__(self) -> None:
        self._loggers = [logging.getLogger(name) for name in self._names]
        self._levels = [logger.level for logger in self._loggers]
        for logger in self._loggers:
            logger.setLevel(logging.ERROR)

    def __exit__(self, *exc: object) -> None:
        for logger, level in zip(self._loggers, self._levels, strict=True):
            logger.setLevel(level)
