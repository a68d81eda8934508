"""Repairing modes: ``repair`` (train, shrink, judge) and ``gate`` (judge again what was made)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import msgspec

from redistill.compress import data, judging, recalibrate, reuse, temper, trusted_rows
from redistill.compress.errors import BadJob
from redistill.compress.folder import CANDIDATE, JobContext
from redistill.compress.judge.probe import Probe
from redistill.compress.plan import Report
from redistill.compress.recipes import RECIPES
from redistill.compress.shrink.families import FAMILIES
from redistill.compress.shrink.quantizers import FP32
from redistill.files import sha256_of

__all__ = ["gate", "repair"]

Act = Callable[[JobContext], Report]
UNTRAINED: Mapping[str, tuple[Act, Act]] = MappingProxyType(
    {reuse.NAME: (reuse.repair, reuse.gate), temper.NAME: (temper.repair, temper.gate)}
)
"""Recipes that train and export nothing and need no torch: both modes of each."""


def repair(context: JobContext) -> Report:
    """Train, shrink and judge.

    Raises
    ------
    BadJob, BadData, BadModel, DeadlineExceeded
        It could not be done.
    """
    if (untrained := UNTRAINED.get(context.recipe)) is not None:
        return untrained[0](context)
    from redistill.compress import build  # torch, which only training needs

    with Probe.start() as child, build.one_thread():  # the probe's imports overlap the training
        fresh, reference, trusted = (context.read(r) for r in ("fresh", "reference", "trusted"))
        context.graph("incumbent")  # refused now, and not after the training
        built, prepared = build.build(context, fresh, reference, trusted)
        answers = judging.probe(context, child, built.variants, trusted, role=CANDIDATE)
    return judging.judge(
        context,
        variants=built.variants,
        training=built.training,
        facts=built.facts,
        answers=answers,
        fresh=fresh,
        gate_rows=prepared.gate,
        trusted=trusted,
    )


def gate(context: JobContext) -> Report:
    """Judge the finished candidate again, with the gate rows that there are now.

    Nothing is trained; the choice among the variants stands, so that one of them is tested on the
    fresh labels however often it is asked.

    Raises
    ------
    BadJob
        There is no finished candidate, or its files were changed.
    """
    if (untrained := UNTRAINED.get(context.recipe)) is not None:
        return untrained[1](context)
    steps = context.steps
    facts, trained = judging.read_facts(steps.finished("facts"))
    context.warnings += facts.warnings
    asked = facts.candidates or context.job.candidates
    made = (FP32, *(v for v in asked if v != FP32))
    variants = {v: recalibrate.finished(steps, v) for v in made}
    training = None
    if FAMILIES[facts.family].warm:
        training = steps.finished(RECIPES[context.recipe].step)
    answers = judging.read_answers(steps.finished("probe"))
    chosen = judging.read_choice(steps.finished("choice"))
    model = context.folder / CANDIDATE / "model.onnx"
    there = sha256_of(model) if model.is_file() else None
    # what another recipe made may lie there, if it was tried after this one
    if there not in (None, sha256_of(variants[chosen])) and not steps.made(str(there)):
        raise BadJob(
            f"{CANDIDATE}/model.onnx is not the {chosen} variant that was judged before: it was"
            " changed since"
        )
    fresh = context.read("fresh")
    trusted, learned = trusted_rows.untrained(context.read("trusted"), trained)
    if learned:
        context.warnings.append(f"{learned} trusted rows were trained on: they judge nothing here")
    rows, dropped = data.gate_rows(fresh, trained)
    counts = facts.counts | {
        "fresh": len(fresh),
        "gate": len(rows),
        "gate_labelled": int(rows.labelled.sum()),
        "dropped_gate": dropped,
        "trusted": len(trusted),
    }
    return judging.judge(
        context,
        variants=variants,
        training=training,
        facts=msgspec.structs.replace(facts, counts=counts),
        answers=answers,
        fresh=fresh,
        gate_rows=rows,
        trusted=trusted,
        chosen=chosen,
    )
