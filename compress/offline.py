"""Mode ``compress``: students of every family with every quantizer, from files, measured beside
each other: what they are worth against what they cost.

There is no traffic. A fifth of the reference stands for fresh rows, the others for those that are
replayed, which is how a student is distilled from scratch. The variant that is judged by all gates
is chosen on the trusted rows that no gate looks at: the other rows see one candidate, however many
were made.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from redistill.compress import candidate, gate, judging
from redistill.compress.documents import shipped
from redistill.compress.errors import BadJob, CompressError, DeadlineExceeded
from redistill.compress.folder import CANDIDATE, JobContext
from redistill.compress.judge import figures
from redistill.compress.judge.evaluation import EvaluatedModel, Evaluation, comparison
from redistill.compress.judge.evidence import Evidence
from redistill.compress.judge.gates.table import RULES
from redistill.compress.judge.graph import Graph
from redistill.compress.judge.probe import Probe, ProbeResult
from redistill.compress.judging import TrainingFacts
from redistill.compress.plan import Measure, Report, to_json
from redistill.compress.recipes import RECIPES
from redistill.compress.rows import Rows
from redistill.compress.shrink.families import FAMILIES
from redistill.compress.shrink.quantizers import FP32, QUANTIZERS
from redistill.compress.steps import Deadline, Steps

if TYPE_CHECKING:
    from redistill.compress.build import Candidates

__all__ = ["compress"]

FRESH_SHARE = 5
"""One reference row in so many stands for a fresh one: replay is four times as much then."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Made:
    """A variant, by the recipe that made it."""

    recipe: str
    path: Path
    training: Path | None
    temperature: Measure | None
    facts: TrainingFacts


def from_nothing() -> tuple[str, ...]:
    """Recipes that need no weights of an earlier student, in the order of their table."""
    return tuple(n for n, r in RECIPES.items() if not r.warm and r.step == "train")


def compress(context: JobContext) -> Report:
    """Make students until all families were tried or ``budget_s`` is spent, then judge them.

    Raises
    ------
    BadJob
        The folder has no teacher, or no model that the students are compared with.
    BadData, BadModel
        It could not be done.
    DeadlineExceeded
        The budget was spent before there was a single student.
    """
    from redistill.compress import build  # torch, which only training needs

    job = context.job
    context.graph("teacher")
    if not context.path("incumbent").is_file():
        raise BadJob("mode 'compress' needs incumbent/model.onnx: what serves, or the teacher")
    reference, trusted = context.read("reference"), context.read("trusted")
    fresh, pool = _divided(reference, seed=job.seed)
    left = Deadline(seconds=job.deadline_s if job.budget_s is None else job.budget_s)
    made: dict[str, _Made] = {}
    built: dict[str, Candidates] = {}
    with Probe.start() as child, build.one_thread():
        for name in _able(context):
            part = _part(context, name, left)
            try:
                built[name], _ = build.build(part, fresh, pool, trusted)
            except DeadlineExceeded:
                if not made:
                    raise
                context.warnings.append(
                    f"the budget of {left.seconds:g} s was spent at {RECIPES[name].told}: not made"
                )
                break
            for variant, path in built[name].variants.items():
                made[f"{RECIPES[name].family}-{variant}"] = _Made(
                    recipe=name,
                    path=path,
                    training=built[name].training,
                    temperature=built[name].facts.temperatures.get(variant),
                    facts=built[name].facts,
                )
        answers = judging.probe(
            context, child, {n: m.path for n, m in made.items()}, trusted, role=CANDIDATE
        )
    return _judged(context, made, answers, reference, trusted)


def _divided(rows: Rows, *, seed: int) -> tuple[Rows, Rows]:
    """A fifth of the rows, and the others; each in their order."""
    order = np.random.default_rng([seed, 2]).permutation(len(rows))
    cut = len(rows) // FRESH_SHARE
    return rows.take(np.sort(order[:cut])), rows.take(np.sort(order[cut:]))


def _able(context: JobContext) -> list[str]:
    """Recipes whose libraries are installed; of the others it is said."""
    names = []
    for name in from_nothing():
        family = FAMILIES[RECIPES[name].family]
        lacking = [m for m in family.libraries if importlib.util.find_spec(m) is None]
        if lacking:
            context.warnings.append(f"{family.told} were not tried: {lacking[0]} is not installed")
        else:
            names.append(name)
    return names


def _part(context: JobContext, name: str, deadline: Deadline) -> JobContext:
    """The same job about one recipe; its steps have names of their own."""
    steps = Steps(
        context.folder,
        deadline=deadline,
        progress=lambda step, share: context.steps.progress(f"{name}: {step}", share),
        scope=f"{name}.",
    )
    job = replace(context.job, recipes=(name,), candidates=tuple(QUANTIZERS))
    return replace(context, job=job, steps=steps, deadline=deadline)


def _judged(
    context: JobContext,
    made: Mapping[str, _Made],
    answers: Mapping[str, ProbeResult],
    reference: Rows,
    trusted: Rows,
) -> Report:
    job = context.job
    context.steps.progress("judge", 0.0)
    nothing = trusted.take(np.zeros(len(trusted), np.bool_))
    rivals = {
        role: judging.rival(context, role, answers, trusted, nothing) for role in judging.OTHERS
    }
    evaluation = Evaluation(
        spec=job.graph, task=context.task, requirement="admit", trusted=trusted, gate=nothing
    )
    evaluated: dict[str, EvaluatedModel] = {}
    found: dict[str, Evidence] = {}
    for name, variant in made.items():
        if (error := answers[name].error) is not None:
            context.warnings.append(f"{name} is left out: {error}")
            continue
        graph = Graph(variant.path, context.call(CANDIDATE))
        evaluated[name] = EvaluatedModel.of(
            name, variant.path, graph, trusted=trusted, gate=nothing, probed=answers[name]
        )
        context.warnings += evaluated[name].unanswered()
    if not evaluated:
        raise CompressError("none of the students loads in a limited process: the warnings say why")
    for name, model in evaluated.items():
        found[name] = evaluation.evidence(model, {**rivals, "fp32": _fp32(evaluated, name)})
    machine = [r for r in RULES if r.split == "machine"]
    first = {n: gate.decide(e, context.policy, rules=machine) for n, e in found.items()}
    chosen = gate.choose([(found[n], first[n]) for n in found])
    evidence = found[chosen]
    judgement = gate.decide(evidence, context.policy)
    incumbent, teacher = rivals["incumbent"], rivals["teacher"]
    report = context.report(
        {"trusted": len(trusted), "reference": len(reference)},
        decision=judgement.decision,
        chosen=chosen,
        gates=judgement.gates,
        variants=tuple(
            replace(
                evaluation.variant(model, _fp32(evaluated, name)),
                gates=judgement.gates if name == chosen else first[name].gates,
                temperature=made[name].temperature,
            )
            for name, model in evaluated.items()
        ),
        incumbent=None if incumbent is None else evaluation.variant(incumbent),
        teacher=None if teacher is None else evaluation.variant(teacher),
        gaps=judging.gaps(context, evidence.trusted),
        figures=figures.figures(evidence, faced=False, seed=job.seed),
        trusted=comparison(evidence, evidence.trusted),
        recipe_name=made[chosen].recipe,
    )
    graph = Graph(made[chosen].path, context.call(CANDIDATE))
    candidate.write(
        context.folder,
        model=made[chosen].path,
        training=made[chosen].training,
        golden=candidate.golden_rows(graph, [trusted.x]),
        exact=not answers[chosen].integer_operators,
        table=candidate.reference_table(graph, reference, job.graph, labels=_none(reference)),
        errors=candidate.error_rows(evaluated[chosen].trusted, trusted, job.graph),
        report=to_json(report),
        documents=shipped.documents(
            context.folder,
            job,
            report,
            model=made[chosen].path,
            trained_on=made[chosen].facts.sources,
            labels_in_loss=made[chosen].facts.labels_in_loss,
        ),
    )
    context.steps.progress("judge", 1.0)
    return report


def _fp32(evaluated: Mapping[str, EvaluatedModel], name: str) -> EvaluatedModel | None:
    """What a variant was quantized from."""
    return evaluated.get(f"{name.partition('-')[0]}-{FP32}")


def _none(rows: Rows) -> NDArray[np.bool_]:
    """No row may show its label: it may have been trained on."""
    return np.zeros(len(rows), np.bool_)
