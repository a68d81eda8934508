"""Judging of candidates: probed in a child, run over the rows, judged, one of them chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from redistill.compress import candidate, earlier, gate
from redistill.compress.documents import shipped
from redistill.compress.errors import BadModel
from redistill.compress.folder import CANDIDATE, JobContext
from redistill.compress.gate import Judgement
from redistill.compress.judge import fairness, figures
from redistill.compress.judge.evaluation import EvaluatedModel, Evaluation, comparison
from redistill.compress.judge.evidence import NOBODY, Evidence, Role, Sample
from redistill.compress.judge.gates.table import RULES
from redistill.compress.judge.graph import Graph
from redistill.compress.judge.measures import Classes
from redistill.compress.judge.probe import WALL_SECONDS, Probe, ProbeResult
from redistill.compress.judge.probe import ProbeTarget as Probed
from redistill.compress.plan import DataSource, GroupGap, Measure, Report, Variant, to_json
from redistill.compress.rows import Rows
from redistill.compress.shrink.quantizers import QUANTIZERS
from redistill.compress.steps import array_key, key_of
from redistill.decodable import decodable
from redistill.files import sha256_of

__all__ = [
    "OTHERS",
    "TrainingFacts",
    "check_log",
    "gaps",
    "judge",
    "probe",
    "read_answers",
    "read_choice",
    "read_facts",
    "rival",
    "save_facts",
    "shown",
]

PROBE_ROWS = 32
MAX_MISMATCH = 0.01
"""Where the incumbent's file answers more rows than this share otherwise than was logged, something
else was served."""
OTHERS: tuple[Role, ...] = ("incumbent", "teacher")
"""Models that are probed and measured beside the candidates."""


@decodable
class TrainingFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a later judgement must know about the training."""

    counts: dict[str, int]
    labels_in_loss: bool
    training_sources: tuple[str, ...]
    """Who labelled the rows that were trained on."""
    domain_auc: Measure | None
    warnings: tuple[str, ...]
    temperatures: dict[str, Measure] = {}
    """What the scores of each variant are divided by."""
    candidates: tuple[str, ...] = ()
    """Variants that are judged; empty: as the job says (0.1)."""
    family: str = "mlp"
    """Of the student."""
    sources: tuple[DataSource, ...] = ()
    """Files of the rows that it was made from; empty: an older folder, which does not tell."""


def read_facts(path: Path) -> tuple[TrainingFacts, NDArray[np.uint64]]:
    """What the step ``facts`` wrote, and the digests of every row that was trained on."""
    facts = msgspec.json.decode((path / "facts.json").read_bytes(), type=TrainingFacts)
    return facts, np.load(path / "trained.npy", allow_pickle=False)


def save_facts(out: Path, facts: TrainingFacts, trained: NDArray[np.uint64]) -> None:
    """Write the step ``facts``: what ``read_facts`` reads."""
    out.mkdir(exist_ok=True)
    (out / "facts.json").write_bytes(msgspec.json.encode(facts, order="sorted"))
    np.save(out / "trained.npy", trained)


def probe(
    context: JobContext, child: Probe, evaluated: Mapping[str, Path], sample: Rows, *, role: str
) -> dict[str, ProbeResult]:
    """First load and latency of the given files, all of one role, and of the incumbent and teacher:
    a step.

    Raises
    ------
    BadModel
        Incumbent or teacher fails.
    """
    job = context.job
    asked = [
        Probed(name=name, path=str(path.resolve()), call=context.call(role))
        for name, path in evaluated.items()
    ] + [
        Probed(name=r, path=str(context.path(r).resolve()), call=context.call(r))
        for r in OTHERS
        if r not in evaluated and context.path(r).is_file()
    ]
    some = sample.x[np.linspace(0, len(sample) - 1, PROBE_ROWS).astype(np.intp)]
    key = key_of(
        "probe",
        [(p.name, sha256_of(Path(p.path)), p.call) for p in asked],
        array_key(some),
        job.serving_batch,
    )

    def make(out: Path) -> None:
        left = max(1.0, context.deadline.left())
        answers = child.ask(
            asked,
            some,
            batch=job.serving_batch,
            measure=True,
            wall_seconds=min(WALL_SECONDS, left),
        )
        context.deadline.check(
            "probe"
        )  # a child cut off by the deadline says nothing about a graph
        out.write_bytes(msgspec.json.encode(answers, order="sorted"))

    answers = read_answers(context.steps.make("probe", key, make, suffix=".json"))
    for role in OTHERS:
        if role not in evaluated and role in answers and (error := answers[role].error):
            raise BadModel(f"{role}: {error}")
    return answers


def read_answers(path: Path) -> dict[str, ProbeResult]:
    """What ``probe`` wrote."""
    return msgspec.json.decode(path.read_bytes(), type=dict[str, ProbeResult])


def rival(
    context: JobContext,
    role: Role,
    answers: Mapping[str, ProbeResult],
    trusted: Rows,
    gate_rows: Rows,
) -> EvaluatedModel | None:
    """Incumbent or teacher as it is evaluated; ``None`` where the job brought none."""
    path = context.path(role)
    if not path.is_file():
        return None
    probed = answers.get(role, ProbeResult(name=role))
    model = EvaluatedModel.of(
        role, path, context.graph(role), trusted=trusted, gate=gate_rows, probed=probed
    )
    context.warnings += model.unanswered()
    return model


def check_log(context: JobContext, rows: Rows, answered: Classes) -> None:
    """Warn where what was logged is not what the incumbent's file answers.

    Parameters
    ----------
    rows
        Rows with logged predictions.
    answered
        ``(n,)`` classes that the incumbent answers.
    """
    logged = rows.prediction >= 0
    n = int(logged.sum())
    differ = int((rows.prediction != answered)[logged].sum())
    if n and differ > MAX_MISMATCH * n:
        context.warnings.append(
            f"on {differ} of {n} fresh rows the incumbent's file answers otherwise than was logged:"
            " another version served them, or its features are logged otherwise than it gets them"
        )


def judge(
    context: JobContext,
    *,
    role: str = CANDIDATE,
    variants: Mapping[str, Path],
    training: Path | None,
    facts: TrainingFacts,
    answers: Mapping[str, ProbeResult],
    fresh: Rows,
    gate_rows: Rows,
    trusted: Rows,
    chosen: str | None = None,
) -> Report:
    """Judge the candidates of a repair, and put the chosen one into ``candidate/``.

    Parameters
    ----------
    role
        Whose graphs they are, which says how they are called: what the job made, ``fp32`` among
        them, or an earlier release, which is put nowhere, as it is a release already.
    variants
        Name -> ONNX file.
    training
        What the student has learned, for the next warm start; ``None``: there will be none.
    chosen
        Choice of an earlier judgement, which stands; ``None``: choose now.

    Returns
    -------
    Report
        Its decision is about the chosen variant.
    """
    job, steps = context.job, context.steps
    context.deadline.check("judge")
    steps.progress("judge", 0.0)
    rivals = {role: rival(context, role, answers, trusted, gate_rows) for role in OTHERS}
    incumbent = rivals["incumbent"]
    best = earlier.find(context, incumbent, trusted=trusted, gate=gate_rows)
    evaluation = Evaluation(
        spec=job.graph,
        task=context.task,
        requirement="beat" if job.trigger == "incident" else "keep",
        trusted=trusted,
        gate=gate_rows,
        best=best.version,
        recipe=job.recipe,
        faced=job.faced,
        incident_loss=job.incident_loss,
        cause=job.cause,
        labels_in_loss=facts.labels_in_loss,
        training_sources=facts.training_sources,
        domain_auc=facts.domain_auc,
    )
    rivals["best"] = best.model
    if incumbent is not None:
        check_log(context, gate_rows, context.task.answers(incumbent.gate))
    evaluated: dict[str, EvaluatedModel] = {}
    for name, path in variants.items():
        if answers[name].error is None:
            graph = Graph(path, context.call(role))
            evaluated[name] = EvaluatedModel.of(
                name,
                path,
                graph,
                trusted=trusted,
                gate=gate_rows,
                fresh=fresh,
                probed=answers[name],
                integers=name not in QUANTIZERS or QUANTIZERS[name].integers,
            )
            context.warnings += evaluated[name].unanswered()
    fp32 = evaluated.get("fp32")

    found: dict[str, Evidence] = {}
    for name in facts.candidates or job.candidates:
        if name in evaluated:
            found[name] = evaluation.evidence(evaluated[name], {**rivals, "fp32": fp32})
        else:
            found[name] = evaluation.unloaded(name, str(answers[name].error))
    machine = [r for r in RULES if r.split == "machine"]
    first = {n: gate.decide(e, context.policy, rules=machine) for n, e in found.items()}
    chosen = chosen or _choose(context, [(found[n], first[n]) for n in found], answers)
    evidence = found[chosen]
    judgement = gate.decide(evidence, context.policy, waived=job.waived)

    report = context.report(
        facts.counts | {"gate_verified": len(evidence.verified())},
        decision=judgement.decision,
        chosen=chosen if chosen in evaluated else None,
        gates=judgement.gates,
        variants=tuple(
            shown(
                replace(
                    evaluation.variant(evaluated[name], fp32),
                    gates=judgement.gates if name == chosen else first[name].gates,
                    temperature=facts.temperatures.get(name),
                ),
                judgement,
            )
            for name in found
            if name in evaluated
        ),
        incumbent=None if incumbent is None else evaluation.variant(incumbent),
        teacher=None if rivals["teacher"] is None else evaluation.variant(rivals["teacher"]),
        gaps=gaps(context, evidence.fresh if judgement.faced else NOBODY, evidence.trusted),
        figures=figures.figures(evidence, faced=judgement.faced, seed=job.seed),
        fresh=comparison(evidence, evidence.fresh) if judgement.faced else None,
        trusted=comparison(evidence, evidence.trusted),
        best=best.version,
        releases=best.accuracy,
        domain_auc=facts.domain_auc,
        recipe=evidence.recipe,
        recipe_name=context.recipe,
        faced=judgement.faced,
        label_sources=judgement.sources,
        tried=job.tried,
        ranking_loss=gate.ranking_loss(evidence),
    )
    if chosen in evaluated and role == CANDIDATE:
        graph = Graph(variants[chosen], context.call(role))
        seen = gate_rows.labelled & judgement.faced  # of the others nobody may be told
        candidate.write(
            context.folder,
            model=variants[chosen],
            training=training,
            golden=candidate.golden_rows(graph, [trusted.x, fresh.x]),
            exact=not answers[chosen].integer_operators,
            table=candidate.reference_table(graph, fresh, job.graph, labels=fresh.gate),
            errors=candidate.error_rows(
                evaluated[chosen].gate[seen], gate_rows.take(seen), job.graph
            ),
            report=to_json(report),
            documents=shipped.documents(
                context.folder,
                job,
                report,
                model=variants[chosen],
                trained_on=facts.sources,
                labels_in_loss=facts.labels_in_loss,
            ),
        )
    steps.progress("judge", 1.0)
    return report


def shown(variant: Variant, judgement: Judgement) -> Variant:
    """Nobody is told of fresh labels that no gate may look at."""
    return variant if judgement.faced else replace(variant, fresh_accuracy=None)


def gaps(context: JobContext, *samples: Sample) -> tuple[GroupGap, ...]:
    """Gaps between declared groups, on the rows of all samples together."""
    job = context.job
    return fairness.gaps(samples, job.graph.groups, context.task, seed=job.seed)


def _choose(
    context: JobContext,
    judged: Sequence[tuple[Evidence, Judgement]],
    answers: Mapping[str, ProbeResult],
) -> str:
    """Choose a variant, once per candidate: later judgements keep to it."""
    names = sorted(e.variant for e, _ in judged)
    key = key_of("choice", names, {n: msgspec.to_builtins(a) for n, a in answers.items()})

    def make(out: Path) -> None:
        out.write_bytes(msgspec.json.encode(gate.choose(judged)))

    return read_choice(context.steps.make("choice", key, make, suffix=".json"))


def read_choice(path: Path) -> str:
    """Which variant an earlier judgement chose."""
    return msgspec.json.decode(path.read_bytes(), type=str)
