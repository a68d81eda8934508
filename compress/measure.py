"""Measuring modes, which train nothing: ``diagnose``, ``compare`` and ``baseline``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from redistill.compress import candidate, data, earlier, examine, gate, judging
from redistill.compress.documents import shipped
from redistill.compress.errors import BadJob, BadModel
from redistill.compress.folder import JobContext
from redistill.compress.judge import diagnose as blame
from redistill.compress.judge import figures, measures
from redistill.compress.judge.evaluation import EvaluatedModel, Evaluation, comparison
from redistill.compress.judge.evidence import NOBODY
from redistill.compress.judge.probe import Probe
from redistill.compress.plan import Report, to_json
from redistill.compress.rows import Rows

__all__ = ["baseline", "compare", "diagnose"]


def diagnose(context: JobContext) -> Report:
    """What student and teacher lost since the change, on the same labelled fresh rows, and why.

    Raises
    ------
    BadJob
        Nothing says how good the student was before: neither ``base_error`` nor trusted rows.
    """
    context.deadline.check("diagnose")
    context.steps.progress("diagnose", 0.0)
    fresh, dropped, _ = data.unique_rows(context.read("fresh"))
    trusted = context.read("trusted") if context.has("trusted") else None
    symptoms = examine.examine(context, fresh, trusted)
    diagnosis = blame.diagnose(symptoms)
    context.steps.progress("diagnose", 1.0)
    counts = {
        "fresh": len(fresh),
        "fresh_labelled": symptoms.labelled,
        "dropped_duplicates": dropped,
        "trusted": 0 if trusted is None else len(trusted),
    }
    return context.report(counts, diagnosis=diagnosis)


def compare(context: JobContext) -> Report:
    """Incumbent against its predecessor on the labelled fresh rows, paired, by what their mistakes
    cost."""
    context.deadline.check("compare")
    context.steps.progress("compare", 0.0)
    fresh, dropped, _ = data.unique_rows(context.read("fresh"))
    labelled = fresh.take(fresh.labelled)
    loss = {
        role: context.task.loss(context.graph(role).scores(labelled), labelled.y)
        for role in ("incumbent", "predecessor")
    }
    context.steps.progress("compare", 1.0)
    counts = {
        "fresh": len(fresh),
        "fresh_labelled": int(fresh.labelled.sum()),
        "dropped_duplicates": dropped,
    }
    found = measures.comparison(loss["predecessor"] - loss["incumbent"])
    return context.report(counts, fresh=found)


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
    evaluated = EvaluatedModel.of(
        role, path, graph, trusted=trusted, gate=gate_rows, probed=probed[role]
    )
    context.warnings += evaluated.unanswered()
    against = None
    if role != "incumbent":
        against = judging.rival(context, "incumbent", probed, trusted, gate_rows)
    teacher = judging.rival(context, "teacher", probed, trusted, gate_rows)
    best = earlier.find(context, against, trusted=trusted, gate=gate_rows)
    evaluation = Evaluation(
        spec=job.graph,
        task=context.task,
        requirement="first" if against is None else "admit",
        trusted=trusted,
        gate=gate_rows,
        best=best.version,
    )
    evidence = evaluation.evidence(
        evaluated, {"incumbent": against, "best": best.model, "teacher": teacher}
    )
    judgement = gate.decide(evidence, context.policy, waived=job.waived)
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
        variants=(
            judging.shown(replace(evaluation.variant(evaluated), gates=judgement.gates), judgement),
        ),
        incumbent=None if against is None else evaluation.variant(against),
        teacher=None if teacher is None else evaluation.variant(teacher),
        gaps=judging.gaps(context, evidence.fresh if judgement.faced else NOBODY, evidence.trusted),
        figures=figures.figures(evidence, faced=judgement.faced, seed=job.seed),
        fresh=comparison(evidence, evidence.fresh) if judgement.faced else None,
        trusted=comparison(evidence, evidence.trusted),
        best=best.version,
        releases=best.accuracy,
        faced=judgement.faced,
        label_sources=judgement.sources,
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
        errors=candidate.error_rows(evaluated.trusted, trusted, job.graph),
        report=to_json(report),
        documents=shipped.documents(context.folder, job, report, model=path),
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
    answered = examine.exported(folder, context).classes(trusted.x)
    likeness = measures.agreement(answered, context.task.answers(evaluated.trusted))
    if likeness.value < examine.MIN_LIKENESS:
        raise BadModel(
            f"{role}/training answers like {role}/model.onnx on {likeness.value:.0%} of"
            f" {likeness.n} trusted rows only: it belongs to another model"
        )
    return folder
