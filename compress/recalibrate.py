"""Recalibration of candidates: each variant gets the temperature that makes its confidence honest.

It comes last, after quantization, which makes students less sure and more so where they are right;
the file with the temperature in it is what is probed, judged, hashed and published. The training
folder keeps the scores as they were learned: the next warm start finds its own temperature.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from redistill.compress import trusted_rows
from redistill.compress.data import PreparedRows
from redistill.compress.folder import CANDIDATE, JobContext
from redistill.compress.judge.graph import Graph
from redistill.compress.plan import Measure
from redistill.compress.shrink import temperature
from redistill.compress.steps import Steps, key_of
from redistill.files import sha256_of

__all__ = ["finished", "recalibrated"]

MAX_ROWS = 5_000
"""Rows that set a temperature: beyond, its standard error is below 3%."""


def recalibrated(
    context: JobContext, raw: Mapping[str, Path], prepared: PreparedRows
) -> tuple[dict[str, Path], dict[str, Measure]]:
    """Put a temperature into every variant, a step for each.

    The temperature is fitted on labelled rows that no gate looks at: trusted rows that rank, and
    fresh rows of the training side unless their labels entered the loss, since on those a student
    is surer than it may be. With too few of them it is as sure, on average, as what it was made
    from: an int8 graph as the fp32 student, that one as its teacher.

    Parameters
    ----------
    raw
        Name -> graph as exported or quantized, ``fp32`` among them.

    Returns
    -------
    tuple
        Name -> graph with its temperature, and the temperatures; without an interval where they
        were not fitted to labels.
    """
    x, y = _labelled(prepared, by_labels=context.job.train_on == "labels")
    some = prepared.train.x[:MAX_ROWS]
    call = context.call(CANDIDATE)
    out: dict[str, Path] = {}
    found: dict[str, Measure] = {}
    sure: float | None = None
    for name in sorted(raw, key=lambda v: v != "fp32"):  # the others may copy its confidence
        graph = Graph(raw[name], call)
        if len(x) >= temperature.MIN_LABELLED:
            fitted = temperature.fit(graph.logits(x), y)
        else:
            if sure is None:
                sure = _teachers(context, some)
            fitted = temperature.matched(graph.logits(some), sure)
        found[name] = fitted
        out[name] = _tempered(context.steps, name, raw[name], fitted.value)
        if name == "fp32" and sure is not None:
            sure = temperature.confidence(Graph(out[name], call).logits(some))
    return out, found


def _tempered(steps: Steps, name: str, raw: Path, value: float) -> Path:
    value = round(value, 4)  # another machine's last digits make no other release
    return steps.make(
        _step(name),
        key_of(_step(name), sha256_of(raw), value),
        lambda out: temperature.scaled(raw, out, value),
        suffix=".onnx",
    )


def finished(steps: Steps, name: str) -> Path:
    """A variant as it was judged; of a job of an older release, which knew no temperature, the
    graph as it was made.

    Raises
    ------
    BadJob
        It was never made, or changed since.
    """
    if steps.has(_step(name)):
        return steps.finished(_step(name))
    return steps.finished("export" if name == "fp32" else name)


def _step(name: str) -> str:
    return f"{name}_tempered"


def _labelled(
    prepared: PreparedRows, *, by_labels: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Inputs and labels that no gate looks at: ``(n, F)`` and ``(n,)``."""
    ranks = trusted_rows.ranking(prepared.trusted)
    use = prepared.train.labelled & (not by_labels)
    x = np.concatenate([prepared.trusted.x[ranks], prepared.train.x[use]])
    y = np.concatenate([prepared.trusted.y[ranks], prepared.train.y[use]])
    return x[-MAX_ROWS:], y[-MAX_ROWS:]


def _teachers(context: JobContext, x: NDArray[np.float32]) -> float:
    """How sure the teacher is; NaN, which nothing is matched to, where there is none."""
    if not context.path("teacher").is_file():
        return float("nan")
    return temperature.confidence(context.graph("teacher").logits(x))
