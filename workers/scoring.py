"""What a model that was just handed over answers: its first run happens in a limited child process.

A foreign ONNX file may be corrupt, huge, or made to harm. It is first read without executing it
(``streams.client.graph.check_onnx``), then run in a child with little memory and time, and without
this process's environment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.client.graph import check_onnx
from streams.errors import ReleaseError
from streams.wire.block import Schema
from workers.errors import SpecError
from workers.releases.seal import input_layout, output_name

BATCH = 1_024
"""Rows of one call: bounds the memory of graphs with wide layers."""


@dataclass(frozen=True, slots=True)
class Call:
    """How a graph is called."""

    inputs: tuple[str, ...]
    """One name: a matrix; else one per feature."""
    rank: int
    output: str
    kind: str
    """``logits`` or ``probabilities``."""


def inspect(path: Path, schema: Schema, *, output: str | None, kind: str, place: str) -> Call:
    """Check an ONNX file without running it.

    Parameters
    ----------
    place
        Where it was named, for the message, for example ``[model] onnx``.

    Raises
    ------
    SpecError
        It is corrupt, has external data, unknown operators, or other inputs and outputs than the
        schema says.
    """
    try:
        facts = check_onnx(path)
        layout = input_layout(facts, schema)
        name = output_name(facts, output)
    except ReleaseError as error:
        raise SpecError(f"{place} = {str(path)!r}: {error}") from error
    return Call(layout.names, layout.rank if layout.kind == "columns" else 2, name, kind)


def answers(
    path: Path,
    call: Call,
    features: NDArray[np.float32],
    *,
    classes: int,
    place: str,
    memory_mb: int,
    seconds: float,
) -> NDArray[np.float32]:
    """Class probabilities of a graph for rows.

    Parameters
    ----------
    features
        ``(n, F) float32``
    memory_mb, seconds
        Limits of the child, in MiB and seconds of CPU and of the wall clock.

    Returns
    -------
    numpy.ndarray
        ``(n, classes) float32``; a row of NaN where the model answers NaN.

    Raises
    ------
    SpecError
        It cannot be loaded or run, or gives another number of outputs than there are classes.
    """
    where = f"{place} = {str(path)!r}"
    with tempfile.TemporaryDirectory(prefix="redistill-score-") as scratch:
        folder = Path(scratch)
        np.save(folder / "x.npy", np.ascontiguousarray(features, np.float32))
        request = {
            "onnx": str(path.absolute()),
            "inputs": list(call.inputs),
            "rank": call.rank,
            "output": call.output,
            "memory_bytes": (memory_mb + 2_048) << 20,  # ONNX Runtime maps 1-2 GiB before it reads
            "seconds": max(1, round(seconds)),
        }
        (folder / "call.json").write_text(json.dumps(request))
        paths = [p for p in (str(Path(__file__).resolve().parents[1]), *sys.path) if p]
        try:
            done = subprocess.run(
                [sys.executable, "-m", "workers.scoring", str(folder)],
                env={
                    "PYTHONPATH": os.pathsep.join(paths),
                    "OMP_NUM_THREADS": "1",
                    "PATH": os.defpath,
                },
                cwd="/",
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=seconds + 30,  # importing is slow on a busy machine
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SpecError(f"{where}: running it took longer than {seconds:g} s") from error
        if done.returncode != 0:
            told = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            why = told[0] if told else f"the limited child ended with {done.returncode}"
            raise SpecError(f"{where} cannot be run: {why[:400]}")
        raw: NDArray[np.float32] = np.load(folder / "y.npy", allow_pickle=False)
    if raw.ndim != 2 or raw.shape != (len(features), classes):
        raise SpecError(
            f"{where}: output {call.output!r} has shape {raw.shape};"
            f" ({len(features)}, {classes}) was expected, one column per class"
        )
    return probabilities(raw) if call.kind == "logits" else raw


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax over the last axis, ``(n, classes)``.

    Examples
    --------
    >>> probabilities(np.zeros((1, 2), np.float32)).tolist()
    [[0.5, 0.5]]
    """
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    out: NDArray[np.float32] = (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
    return out


def main(arguments: list[str]) -> int:
    """What the child does: limits first, then the graph."""
    import resource

    folder = Path(arguments[0])
    call = json.loads((folder / "call.json").read_text())
    resource.setrlimit(resource.RLIMIT_AS, (call["memory_bytes"],) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (call["seconds"], call["seconds"] + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    x = np.load(folder / "x.npy", allow_pickle=False)
    try:
        session = ort.InferenceSession(
            Path(call["onnx"]).read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        fixed = session.get_inputs()[0].shape[0]
        step = fixed if isinstance(fixed, int) and fixed > 0 else BATCH
        parts = []
        for start in range(0, len(x), step):
            rows = x[start : start + step]
            short = step - len(rows) if step == fixed else 0
            if short:  # a graph of fixed batch takes whole batches only
                rows = np.concatenate([rows, np.repeat(rows[-1:], short, axis=0)])
            out = np.asarray(session.run([call["output"]], _feed(call, rows))[0], np.float32)
            parts.append(out[: len(out) - short] if short else out)
    except MemoryError:
        print("it needs more memory than it may have", file=sys.stderr)
        return 1
    except Exception as error:  # classes of a C++ module, without a common base
        print(str(error).replace("\n", " "), file=sys.stderr)
        return 1
    np.save(folder / "y.npy", np.concatenate(parts))
    return 0


def _feed(call: Mapping[str, Any], rows: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    names: list[str] = call["inputs"]
    if len(names) == 1:
        return {names[0]: rows if call["rank"] == 2 else rows[:, 0]}
    return {
        name: np.ascontiguousarray(rows[:, j : j + 1] if call["rank"] == 2 else rows[:, j])
        for j, name in enumerate(names)
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
