"""Output correction of what serves: its graph with other priors and another temperature at its end,
and nothing trained.

Where only the mix of the classes moved, no teacher is needed, which learned the old mix as well.
The new shares are found on training rows without their labels; whether that helps is looked up on
training rows that have one before the candidate faces the incident's fresh ones.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from redistill import onnxcorrected
from redistill.compress import data, judging, trusted_rows
from redistill.compress.data import PreparedRows
from redistill.compress.errors import BadModel
from redistill.compress.folder import CANDIDATE, JobContext
from redistill.compress.judge.graph import Graph
from redistill.compress.judge.probe import Probe
from redistill.compress.plan import Measure, Rejected, Report
from redistill.compress.rows import Rows
from redistill.compress.shrink import priors, temperature
from redistill.compress.shrink.export import OUTPUT
from redistill.compress.steps import array_key, key_of
from redistill.files import sha256_of, write
from redistill.onnxports import OnnxError
from redistill.stats import softmax

__all__ = ["NAME", "gate", "repair"]

NAME = "temper"
"""Of the recipe, its step, and the variant that it judges."""
MIN_LABELLED = 30
"""Labelled training rows that may say that it does not help."""
LEAST_BIAS = 0.1
"""Largest change of a log odds, in nats, below which the mix has hardly moved."""


def repair(context: JobContext) -> Report:
    """Correct what serves and judge it; refuse at once where training rows show no gain.

    Raises
    ------
    BadData, BadModel, BadJob, DeadlineExceeded
        It could not be done.
    """
    job = context.job
    fresh, trusted = context.read("fresh"), context.read("trusted")
    prepared = data.prepare(job, fresh, context.read("reference"), trusted)
    context.warnings += prepared.warnings
    graph = context.graph("incumbent")
    scores = graph.logits(prepared.train.x)
    old = _mean(softmax(graph.logits(prepared.replay.x).astype(np.float64)))
    new = priors.new_shares(softmax(scores.astype(np.float64)), old)
    bias = np.log(new / old).astype(np.float32)
    told = ", ".join(
        f"{name} {a:.1%} to {b:.1%}" for name, a, b in zip(job.graph.classes, old, new, strict=True)
    )
    if (refused := _refused(context, prepared, scores, bias)) is not None:
        return context.report(
            prepared.counts,
            decision=Rejected(reasons=(f"{refused} (estimated shares: {told})",)),
            recipe=job.recipe,
            recipe_name=NAME,
            tried=job.tried,
        )
    context.warnings.append(f"scores are corrected to another mix of classes, estimated: {told}")
    labelled = prepared.train.labelled
    divided = Measure(value=1.0, low=None, high=None, n=0)
    if labelled.sum() >= temperature.MIN_LABELLED:
        divided = temperature.fit((scores + bias)[labelled], prepared.train.y[labelled])
    bias, by = np.round(bias, 4), round(divided.value, 4)  # no other bytes on another machine
    source = context.path("incumbent")
    path = context.steps.make(
        NAME,
        key_of(NAME, sha256_of(source), bias.tolist(), by),
        lambda out: _correct(graph, source, out, bias=bias, factor=1.0 / by),
        suffix=".onnx",
    )
    facts = judging.TrainingFacts(
        counts=prepared.counts,
        labels_in_loss=False,
        training_sources=(),
        domain_auc=None,
        warnings=tuple(context.warnings),
        temperatures={NAME: divided},
        candidates=(NAME,),
    )
    trained = np.unique(data.digests(prepared.train_x))
    key = key_of(
        "facts",
        sha256_of(path),
        array_key(prepared.gate.x),
        array_key(trusted.x),
        array_key(trained),
    )
    context.steps.make("facts", key, lambda out: judging.save_facts(out, facts, trained))
    return _judged(context, path, facts, fresh=fresh, gate_rows=prepared.gate, trusted=trusted)


def gate(context: JobContext) -> Report:
    """Judge the corrected graph again with the gate rows that there are now.

    Raises
    ------
    BadJob
        There is none, or it was changed.
    """
    facts, trained = judging.read_facts(context.steps.finished("facts"))
    context.warnings += facts.warnings
    path = context.steps.finished(NAME)
    fresh = context.read("fresh")
    trusted, known = trusted_rows.untrained(context.read("trusted"), trained)
    if known:
        context.warnings.append(f"{known} trusted rows helped to correct it: they judge nothing")
    rows, dropped = data.gate_rows(fresh, trained)
    counts = facts.counts | {
        "fresh": len(fresh),
        "gate": len(rows),
        "gate_labelled": int(rows.labelled.sum()),
        "dropped_gate": dropped,
        "trusted": len(trusted),
    }
    facts = msgspec.structs.replace(facts, counts=counts)
    return _judged(context, path, facts, fresh=fresh, gate_rows=rows, trusted=trusted)


def _correct(
    graph: Graph,
    path: Path,
    out: Path,
    *,
    bias: np.ndarray[tuple[int], np.dtype[np.float32]],
    factor: float,
) -> None:
    """Write the graph as the candidate it becomes.

    Raises
    ------
    BadModel
        It cannot be changed.
    """
    kind = graph.call.output_kind
    try:
        data = onnxcorrected.corrected(
            path.name,
            path.read_bytes(),
            output=graph.output,
            kind=kind,
            made=OUTPUT,
            bias=bias,
            factor=factor,
        )
    except OnnxError as error:
        raise BadModel(str(error)) from error
    write(out, data)


def _refused(
    context: JobContext,
    prepared: PreparedRows,
    scores: np.ndarray[tuple[int, int], np.dtype[np.float32]],
    bias: np.ndarray[tuple[int], np.dtype[np.float32]],
) -> str | None:
    """Why the correction is not worth a look at fresh labels; ``None``: it may be."""
    if float(np.ptp(bias)) < LEAST_BIAS:
        return "the mix of classes has hardly moved"
    known = prepared.train.labelled
    if (n := int(known.sum())) < MIN_LABELLED:
        return None
    truth, task = prepared.train.y[known], context.task
    before, after = (float(task.loss(s[known], truth).mean()) for s in (scores, scores + bias))
    if after < before:
        return None
    return (
        f"on {n} labelled training rows the corrected scores cost {after:.3f} a row, those that"
        f" serve {before:.3f}"
    )


def _mean(p: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> priors.Floats:
    """Average posterior, which sums to 1: the shares that a classifier has learned."""
    shares = np.maximum(p[np.isfinite(p).all(axis=1)].mean(axis=0), priors.LEAST_SHARE)
    out: priors.Floats = shares / shares.sum()
    return out


def _judged(
    context: JobContext,
    path: Path,
    facts: judging.TrainingFacts,
    *,
    fresh: Rows,
    gate_rows: Rows,
    trusted: Rows,
) -> Report:
    """What the gates say of it. It brings no ``training/``: the weights of what served answer by
    the old mix, and a diagnosis would take the difference for damage by quantization."""
    with Probe.start() as child:
        answers = judging.probe(context, child, {NAME: path}, trusted, role=CANDIDATE)
    return judging.judge(
        context,
        variants={NAME: path},
        training=None,
        facts=facts,
        answers=answers,
        fresh=fresh,
        gate_rows=gate_rows,
        trusted=trusted,
        chosen=NAME,
    )
