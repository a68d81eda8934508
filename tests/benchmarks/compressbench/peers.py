"""Other tools on the very graph that a repair made: what they make of the same fp32 student, and how
fast, small and true to it that is, by one clock in one process.

Plain ONNX Runtime quantizes here, in all its usual settings; Neural Compressor, NNCF and Olive each
in an environment of their own. A tool that cannot be installed, or does not run, has a line that
says why.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from compressbench.drawing import F32
from environments import SECONDS, last_words, python_of
from onnxruntime import quantization as ort_quantization
from onnxruntime.quantization import QuantFormat, QuantType

from redistill.compress.errors import CompressError
from redistill.compress.judge import latency
from redistill.compress.judge.graph import Graph, GraphCall

__all__ = ["AGREEMENT", "TOOLS", "Graded", "best", "graded", "made"]

TOOLS: Mapping[str, Sequence[str]] = {
    "neural-compressor": (
        "neural-compressor==2.6", "onnx<1.17", "onnxruntime<1.20", "setuptools<70", "six",
    ),
    "nncf": ("nncf==3.4", "onnx", "onnxruntime"),
    "olive": ("olive-ai", "onnxruntime", "requests"),
}  # fmt: skip
"""What is installed for each, with what it needs without saying so."""
SCRIPT = Path(__file__).with_name("peer_tools.py")
CALIBRATION = 256
"""Rows."""
AGREEMENT = 0.99
"""Least share of rows on which a setting answers what its fp32 graph does; else it is no setting."""
PLAIN = "onnxruntime"


class _Rows(ort_quantization.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str, rows: F32) -> None:
        self.batches = iter([{name: rows[at : at + 32]} for at in range(0, len(rows), 32)])

    def get_next(self) -> dict[str, F32] | None:
        return next(self.batches, None)


def _plain(graph: Path, folder: Path, rows: F32) -> Iterator[tuple[str, Path | str]]:
    """ONNX Runtime's own settings, and the graph as it is."""
    yield f"{PLAIN}: fp32", graph
    name = str(ort_quantization.quant_utils.load_model_with_shape_infer(graph).graph.input[0].name)
    static = {
        "U8S8": {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8},
        "S8S8": {"activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8},
    }
    for per_channel in (False, True):
        how = ", per channel" if per_channel else ""
        for kind, types in static.items():
            out = folder / f"{PLAIN}.{kind}{per_channel}.onnx"
            ort_quantization.quantize_static(
                graph, out, _Rows(name, rows),
                quant_format=QuantFormat.QDQ, per_channel=per_channel, **types,
            )  # fmt: skip
            yield f"{PLAIN}: static {kind}{how}", out
        out = folder / f"{PLAIN}.dynamic{per_channel}.onnx"
        ort_quantization.quantize_dynamic(graph, out, per_channel=per_channel)
        yield f"{PLAIN}: dynamic{how}", out


def made(graph: Path, folder: Path, rows: F32, *, tools: bool) -> dict[str, Path | str]:
    """What each setting makes of a graph: its file, or why there is none.

    Parameters
    ----------
    graph
        The fp32 student.
    folder
        Where files are written.
    rows
        To calibrate with.
    tools
        Whether others than ONNX Runtime are asked, too.
    """
    some = rows[np.linspace(0, len(rows) - 1, min(len(rows), CALIBRATION)).astype(int)]
    logging.disable(
        logging.WARNING
    )  # that it would like its own clean-up before, by the root logger
    try:
        found: dict[str, Path | str] = dict(_plain(graph, folder, some))
    finally:
        logging.disable(logging.NOTSET)
    if not tools:
        return found
    (folder / "fp32.onnx").write_bytes(graph.read_bytes())
    np.save(folder / "rows.npy", some)
    for tool, packages in TOOLS.items():
        python = python_of(tool, packages)
        if isinstance(python, str):
            found[tool] = python
            continue
        try:
            done = subprocess.run(
                [str(python), str(SCRIPT), tool, str(folder.resolve())],
                capture_output=True, text=True, timeout=SECONDS, cwd=folder,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            found[tool] = f"it took more than {SECONDS} s"
            continue
        files = sorted(folder.glob(f"{tool}.*.onnx"))
        found |= {f"{tool}: {f.name.split('.')[1]}": f for f in files}
        if not files:
            found[tool] = last_words(done.stderr)
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Graded:
    """A setting, measured."""

    name: str
    bytes: int
    p50_ms: float
    """CPU time of a call of the serving batch, all settings in turns."""
    agreement: float
    """Share of rows on which it answers what the fp32 student does."""


def graded(
    files: Mapping[str, Path], fp32: Path, x: F32, call: GraphCall, *, batch: int
) -> tuple[list[Graded], dict[str, str]]:
    """Measure files in turns; and why some could not be."""
    truth = Graph(fp32, call).classes(x)
    graphs, failed = {}, {}
    for name, path in files.items():
        try:
            graphs[name] = Graph(path, call)
            graphs[name].logits(x[:batch])
        except CompressError as error:
            failed[name] = str(error)
            graphs.pop(name, None)
    some = x[:batch]
    times = latency.interleaved([lambda g=g: g.logits(some) for g in graphs.values()], budget_s=2.0)
    return [
        Graded(
            name=name,
            bytes=files[name].stat().st_size,
            p50_ms=told.p50_ms,
            agreement=float((graph.classes(x) == truth).mean()),
        )
        for (name, graph), told in zip(graphs.items(), times, strict=True)
    ], failed


def best(found: Sequence[Graded]) -> tuple[Graded, Graded]:
    """The fastest and the smallest of those that are true to the fp32 student."""
    true = [g for g in found if g.agreement >= AGREEMENT]
    return min(true, key=lambda g: g.p50_ms), min(true, key=lambda g: g.bytes)
