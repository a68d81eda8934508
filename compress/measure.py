"""Measuring modes, which train nothing: ``diagnose``, ``compare`` and ``baseline``."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from redistill.compress import candidate, data, gate, judging
from redistill.compress.errors import BadJob, BadModel
from redistill.compress.folder import JobContext
from redistill.compress.judge import diagnose as blame
from redistill.compress.judge import measures
from redistill.compress.judge.evaluation import EvaluatedModel, Evaluation
from redistill.compress.judge.gate_rules import Requirement
from redistill.compress.judge.graph import Graph, GraphCall
from redistill.compress.judge.probe import Probe
from redistill.compress.plan import Measure, Report, to_json
from redistill.compress.rows import Rows
from redistill.compress.shrink import export, trained
from redistill.stats import clopper_pearson

__all__ = ["baseline", "compare", "diagnose"]

MIN_LIKENESS = 0.9
"""Share of trusted rows on which a training folder must answer like the graph that it belongs to
(int8 differs by a few percent at most)."""


def diagnose(context: JobContext) -> Report:
    """What student and teacher lost since the change, on the same labelled fresh rows.

    Raises
    ------
    BadJob
        Nothing says how good the student was before: neither ``base_error`` nor trusted rows.
    """
    job = context.job
    context.deadline.check("diagnose")
    context.steps.progress("diagnose", 0.0)
    fresh, dropped, _ = data.unique_rows(context.read("fresh"))
    trusted = context.read("trusted") if context.has("trusted") else None
    if trusted is None and job.base_error is None:
        raise BadJob(
            "mode 'diagnose' needs the accuracy before the change: base_error in job.json, or"
            " trusted.parquet"
        )
    weight = fresh.weight.astype(np.float64)
    answered: dict[str, measures.Classes] = {}
    pairs: dict[str, tuple[Measure, Measure]] = {}
    for role, base in (("incumbent", job.base_error), ("teacher", job.teacher_base_error)):
        if role == "teacher" and not context.path(role).is_file():
            continue
        graph = context.graph(role)
        answered[role] = graph.classes(fresh.x)
        now = measures.accuracy(answered[role], fresh.y, weight)
        before = _before(graph, base, trusted)
        if now is not None and before is not None:
            pairs[role] = before, now
    judging.check_log(context, fresh, answered["incumbent"])
    differ = None
    if "teacher" in answered and len(fresh):
        same = measures.agreement(answered["incumbent"], answered["teacher"])
        low, high = clopper_pearson((1.0 - same.value) * same.n, same.n)
        differ = Measure(value=1.0 - same.value, low=low, high=high, n=same.n)
    diagnosis = blame.diagnose(
        student=pairs.get("incumbent"),
        teacher=pairs.get("teacher"),
        disagreement=differ,
        tolerance_points=job.tolerance_points,
        data_bug_columns=job.data_bug_columns,
    )
    context.steps.progress("diagnose", 1.0)
    counts = {
        "fresh": len(fresh),
        "fresh_labelled": int(fresh.labelled.sum()),
        "dropped_duplicates": dropped,
        "trusted": 0 if trusted is None else len(trusted),
    }
    return context.report(counts, diagnosis=diagnosis)


def _before(graph: Graph, base_error: float | None, trusted: Rows | None) -> Measure | None:
    """Accuracy before the change: as measured at the release, else on trusted rows now."""
    if base_error is None:
        if trusted is None:
            return None
        return measures.accuracy(graph.classes(trusted.x), trusted.y)
    share = 1.0 - base_error
    if trusted is None:  # the rows behind it are not known here: it counts as exact
        return Measure(value=share, low=None, high=None, n=0)
    low, high = clopper_pearson(share * len(trusted), len(trusted))
    return Measure(value=share, low=low, high=high, n=len(trusted))


def compare(context: JobContext) -> Report:
    """Incumbent against its predecessor on the labelled fresh rows, paired."""
    context.deadline.check("compare")
    context.steps.progress("compare", 0.0)
    fresh, dropped, _ = data.unique_rows(context.read("fresh"))
    answered = {r: context.graph(r).classes(fresh.x) for r in ("incumbent", "predecessor")}
    comparison = measures.compare(answered["incumbent"], answered["predecessor"], fresh.y)
    context.steps.progress("compare", 1.0)
    counts = {
        "fresh": len(fresh),
        "fresh_labelled": int(fresh.labelled.sum()),
        "dropped_duplicates": dropped,
    }
    return context.report(counts, fresh=comparison)


def baseline(context: JobContext) -> Report:
    """What a model is worth that was not made here.

    Judged is ``added/model.onnx`` where there is one, against ``incumbent/model.onnx`` where there
    is one; else ``incumbent/model.onnx``, the first model, which has nothing to be compared with.

    Raises
    ------
    BadModel
        It cannot be loaded, or its graph is not what the job says.
    """
    job = context.job
    role = "added" if context.path("added").is_file() else "incumbent"
    path = context.path(role)
    if not path.is_file():
        raise BadJob("mode 'baseline' needs incumbent/model.onnx, or added/model.onnx")
    trusted, reference = context.read("trusted"), context.read("reference")
    gate_rows = trusted.take(np.zeros(len(trusted), np.bool_))
    if context.has("fresh"):
        fresh = context.read("fresh")
        gate_rows, _, _ = data.unique_rows(fresh.take(fresh.gate))
    with Probe.start() as child:
        probed = judging.probe(context, child, {role: path}, trusted, role=role)
    if error := probed[role].error:
        raise BadModel(f"{role}: {error}")

    context.steps.progress("judge", 0.0)
    graph = context.graph(role)
    evaluation = Evaluation(
        spec=job.graph, limits=job.limits, trusted=trusted, gate=gate_rows, seed=job.seed
    )
    evaluated = EvaluatedModel.of(
        role, path, graph, trusted=trusted, gate=gate_rows, probed=probed[role]
    )
    context.warnings += evaluated.unanswered()
    against = None
    if role != "incumbent":
        against = judging.rival(context, "incumbent", probed, trusted, gate_rows)
    teacher = judging.rival(context, "teacher", probed, trusted, gate_rows)
    rule: Requirement = "first" if against is None else "admit"
    evidence = evaluation.evidence(evaluated, incumbent=against, fp32=None)
    judgement = gate.decide(evidence, job.limits, rule=rule)
    training = _training_folder(context, role, evaluated, trusted)
    report = context.report(
        {
            "trusted": len(trusted),
            "reference": len(reference),
            "gate": len(gate_rows),
            "gate_labelled": int(gate_rows.labelled.sum()),
        },
        decision=judgement.decision,
        chosen=role,
        gates=judgement.gates,
        variants=(replace(evaluation.variant(evaluated), gates=judgement.gates),),
        incumbent=None if against is None else evaluation.variant(against),
        teacher=None if teacher is None else evaluation.variant(teacher),
        fresh=evidence.fresh,
        trusted=evidence.trusted,
    )
    # the labels of a reference may have been trained on: they say nothing about the error
    nobody = np.zeros(len(reference), np.bool_)
    candidate.write(
        context.folder,
        model=path,
        training=training,
        golden=candidate.golden_rows(graph, [trusted.x]),
        exact=not probed[role].integer_operators,
        table=candidate.reference_table(graph, reference, job.graph, labels=nobody),
        report=to_json(report),
    )
    context.steps.progress("judge", 1.0)
    return report


def _training_folder(
    context: JobContext, role: str, evaluated: EvaluatedModel, trusted: Rows
) -> Path | None:
    """The model's training folder, if it has one that belongs to it.

    Raises
    ------
    BadModel
        It cannot be read, or holds another model.
    """
    folder = context.folder / role / "training"
    if not folder.is_dir():
        return None
    student = trained.read(folder)
    a, spec = student.architecture, context.job.graph
    if (a.inputs, a.outputs) != (len(spec.features), len(spec.classes)):
        raise BadModel(
            f"{role}/training/{trained.ARCHITECTURE_FILE} has {a.inputs} inputs and {a.outputs}"
            f" outputs, the model has {len(spec.features)} features and {len(spec.classes)} classes"
        )
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        export.to_onnx(student, path)
        answered = Graph(path, GraphCall(features=spec.features, classes=a.outputs)).classes(
            trusted.x
        )
    likeness = measures.agreement(answered, evaluated.trusted)
    if likeness.value < MIN_LIKENESS:
        raise BadModel(
            f"{role}/training answers like {role}/model.onnx on {likeness.value:.0%} of"
            f" {likeness.n} trusted rows only: it belongs to another model"
        )
    return folder
