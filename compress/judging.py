"""Judging of candidates: probed in a child, run over the rows, judged, one of them chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from redistill.compress import candidate, gate
from redistill.compress.errors import BadModel
from redistill.compress.folder import CANDIDATE, JobContext
from redistill.compress.gate import Judgement
from redistill.compress.judge.evaluation import EvaluatedModel, Evaluation
from redistill.compress.judge.evidence import Evidence, rows_of
from redistill.compress.judge.gate_rules import Requirement
from redistill.compress.judge.graph import Graph
from redistill.compress.judge.measures import Classes
from redistill.compress.judge.probe import WALL_SECONDS, Probe, ProbeResult
from redistill.compress.judge.probe import ProbeTarget as Probed
from redistill.compress.plan import Measure, Report, to_json
from redistill.compress.rows import Rows
from redistill.compress.steps import array_key, key_of
from redistill.files import sha256_of

__all__ = [
    "TrainingFacts",
    "check_log",
    "judge",
    "probe",
    "read_answers",
    "read_choice",
    "read_facts",
    "rival",
]

PROBE_ROWS = 32
MAX_MISMATCH = 0.01
"""Where the incumbent's file answers more rows than this share otherwise than was logged, something
else was served."""
OTHERS = ("incumbent", "teacher")
"""Models that are probed and measured beside the candidates."""


class TrainingFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a later judgement must know about the training."""

    counts: dict[str, int]
    labels_in_loss: bool
    training_sources: tuple[str, ...]
    """Who labelled the rows that were trained on."""
    domain_auc: Measure | None
    warnings: tuple[str, ...]


def read_facts(path: Path) -> tuple[TrainingFacts, NDArray[np.uint64]]:
    """What the step ``facts`` wrote, and the digests of every row that was trained on."""
    facts = msgspec.json.decode((path / "facts.json").read_bytes(), type=TrainingFacts)
    return facts, np.load(path / "trained.npy", allow_pickle=False)


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
    role: str,
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
    variants: Mapping[str, Path],
    training: Path,
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
    variants
        Name -> ONNX file, ``fp32`` among them.
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
    evaluation = Evaluation(
        spec=job.graph,
        limits=job.limits,
        trusted=trusted,
        gate=gate_rows,
        seed=job.seed,
        labels_in_loss=facts.labels_in_loss,
        training_sources=facts.training_sources,
        domain_auc=facts.domain_auc,
    )
    incumbent = rival(context, "incumbent", answers, trusted, gate_rows)
    teacher = rival(context, "teacher", answers, trusted, gate_rows)
    if incumbent is not None:
        check_log(context, gate_rows, incumbent.gate)
    rule: Requirement = "beat" if job.trigger == "incident" else "keep"
    evaluated: dict[str, EvaluatedModel] = {}
    for name, path in variants.items():
        if answers[name].error is None:
            graph = Graph(path, context.call(CANDIDATE))
            evaluated[name] = EvaluatedModel.of(
                name,
                path,
                graph,
                trusted=trusted,
                gate=gate_rows,
                fresh=fresh,
                probed=answers[name],
            )
            context.warnings += evaluated[name].unanswered()
    fp32 = evaluated.get("fp32")

    judged: dict[str, tuple[Evidence, Judgement]] = {}
    for name in job.candidates:
        if name in evaluated:
            evidence = evaluation.evidence(evaluated[name], incumbent=incumbent, fp32=fp32)
        else:
            evidence = Evidence(variant=name, load_error=answers[name].error)
        judged[name] = evidence, gate.decide(evidence, job.limits, rule=rule)
    chosen = chosen or _choose(context, judged, answers)
    evidence, judgement = judged[chosen]

    report = context.report(
        facts.counts | {"gate_verified": rows_of(evidence.verified)},
        decision=judgement.decision,
        chosen=chosen if chosen in evaluated else None,
        gates=judgement.gates,
        variants=tuple(
            replace(evaluation.variant(evaluated[name], fp32), gates=own.gates)
            for name, (_, own) in judged.items()
            if name in evaluated
        ),
        incumbent=None if incumbent is None else evaluation.variant(incumbent),
        teacher=None if teacher is None else evaluation.variant(teacher),
        fresh=evidence.fresh,
        trusted=evidence.trusted,
        domain_auc=facts.domain_auc,
    )
    if chosen in evaluated:
        graph = Graph(variants[chosen], context.call(CANDIDATE))
        candidate.write(
            context.folder,
            model=variants[chosen],
            training=training,
            golden=candidate.golden_rows(graph, [trusted.x, fresh.x]),
            exact=not answers[chosen].integer_operators,
            table=candidate.reference_table(graph, fresh, job.graph, labels=fresh.gate),
            report=to_json(report),
        )
    steps.progress("judge", 1.0)
    return report


def _choose(
    context: JobContext,
    judged: Mapping[str, tuple[Evidence, Judgement]],
    answers: Mapping[str, ProbeResult],
) -> str:
    """Choose a variant, once per candidate: later judgements keep to it."""
    key = key_of("choice", sorted(judged), {n: msgspec.to_builtins(a) for n, a in answers.items()})

    def make(out: Path) -> None:
        out.write_bytes(msgspec.json.encode(gate.choose(list(judged.values()))))

    return read_choice(context.steps.make("choice", key, make, suffix=".json"))


def read_choice(path: Path) -> str:
    """Which variant an earlier judgement chose."""
    return msgspec.json.decode(path.read_bytes(), type=str)
