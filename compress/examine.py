"""Examination: models and rows of a job's folder in, the symptoms of a loss out."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redistill.compress import data, judging
from redistill.compress.errors import BadJob, BadModel
from redistill.compress.folder import JobContext
from redistill.compress.judge import (
    breakage,
    class_mix,
    domain,
    measures,
    second_labels,
    within_classes,
)
from redistill.compress.judge import points as in_points
from redistill.compress.judge.breakage import BrokenRows
from redistill.compress.judge.graph import Graph, GraphCall
from redistill.compress.judge.points import Right
from redistill.compress.judge.symptoms import Symptoms
from redistill.compress.plan import JobSpec, Measure
from redistill.compress.rows import Rows
from redistill.compress.shrink import export, trained
from redistill.stats import MISS, clopper_pearson

__all__ = ["MIN_LIKENESS", "examine", "exported"]

MIN_LIKENESS = 0.9
"""Share of trusted rows on which a training folder must answer like the graph that it belongs to
(int8 differs by a few percent at most)."""
STRICT = 0.01
"""Probability that a bound misses what a repair is started for: a job looks a dozen times."""
MAX_MOVED = 12
"""Columns that are looked at within the classes, those that moved most: each is a run of the models
over the trusted rows."""


def examine(context: JobContext, fresh: Rows, trusted: Rows | None) -> Symptoms:
    """Measure everything that the causes are judged by.

    Every label counts once, whatever its writer states as its probability: nobody checked that.

    Raises
    ------
    BadJob
        Nothing says how good the student was before: neither ``base_error`` nor trusted rows.
    """
    job = context.job
    if trusted is None and job.base_error is None:
        raise BadJob(
            "mode 'diagnose' needs the accuracy before the change: base_error in job.json, or"
            " trusted.parquet"
        )
    roles = ("incumbent", "teacher")
    graphs = {r: context.graph(r) for r in roles if r != "teacher" or context.path(r).is_file()}
    answered = {role: graph.classes(fresh.x) for role, graph in graphs.items()}
    judging.check_log(context, fresh, answered["incumbent"])
    has = fresh.labelled
    found: dict[str, Any] = {
        "labelled": int(has.sum()),
        "tolerance_points": job.tolerance_points,
        "raised_points": job.raised_points,
        "mix_moved": job.mix_moved,
        "got_worse": job.got_worse,
        "harmed_slices": job.harmed_slices,
        "checks": job.checks,
        "disagreement": _disagreement(answered),
    }
    if not has.any():
        return Symptoms(**found)
    now = {role: given[has] == fresh.y[has] for role, given in answered.items()}
    then: dict[str, Right] = {}
    if trusted is not None:
        then = {role: graph.classes(trusted.x) == trusted.y for role, graph in graphs.items()}
    found |= _losses(context, now, then)
    if fresh.second_label is not None:
        found["second"] = second_labels.second_labels(
            fresh.y, fresh.second_label, answered["incumbent"], before=job.second_labels_before
        )
    if trusted is not None:
        found |= _quantization(context, fresh, trusted, now, then)
        found |= _moved(context, fresh, trusted, now, then, found.get("teacher_lost"))
        found["moved_within"] = _moved_within(context, fresh, trusted, graphs)
        teacher = graphs.get("teacher")
        rows = BrokenRows(
            student=graphs["incumbent"].classes,
            teacher=None if teacher is None else teacher.classes,
            fresh=fresh.x[has],
            truth=fresh.y[has],
            trusted=trusted.x,
            trusted_truth=trusted.y,
        )
        found["broken"] = breakage.try_breaks(rows, job.graph.features, job.checks, seed=job.seed)
    return Symptoms(**found)


def _losses(
    context: JobContext, now: Mapping[str, Right], then: Mapping[str, Right]
) -> dict[str, Any]:
    """What student and teacher lost, and what of it distilling can give back."""
    job = context.job
    before = _before(job, then.get("incumbent"))
    share = _share(now["incumbent"])
    out: dict[str, Any] = {
        "lost": in_points.loss(before, share),
        "lost_at_most": in_points.loss(before, share, miss=2 * MISS).high,
    }
    if "teacher" not in now:
        return out
    sure = in_points.gap(now["teacher"], now["incumbent"], miss=STRICT)
    if "teacher" in then:
        at_release = in_points.gap(then["teacher"], then["incumbent"])
        surely = in_points.gap(then["teacher"], then["incumbent"], miss=STRICT)
    elif job.base_error is not None and job.teacher_base_error is not None:
        known = (job.base_error - job.teacher_base_error) * in_points.POINTS
        at_release = surely = Measure(value=known, low=None, high=None, n=0)
    else:
        return out
    gap = in_points.gap(now["teacher"], now["incumbent"])
    taught = min(1.0, max(0.0, before.value + at_release.value / in_points.POINTS))
    exact = before.low is None
    low, high = (None, None) if exact else clopper_pearson(taught * before.n, before.n)
    teacher_before = Measure(value=taught, low=low, high=high, n=before.n)
    return out | {
        "recoverable": in_points.change(gap, at_release),
        "recoverable_at_least": in_points.change(sure, surely).low,
        "teacher_lost": in_points.loss(teacher_before, _share(now["teacher"])),
    }


def _quantization(
    context: JobContext,
    fresh: Rows,
    trusted: Rows,
    now: Mapping[str, Right],
    then: Mapping[str, Right],
) -> dict[str, Any]:
    """What the student in fp32 kept of what its served file lost, where it is known."""
    folder = context.folder / "incumbent" / "training"
    if not folder.is_dir():
        return {}
    try:
        fp32 = exported(folder, context)
    except BadModel as error:
        context.warnings.append(f"incumbent/training is left aside: {error}")
        return {}
    answered = fp32.classes(trusted.x)
    likeness = float((then["incumbent"] == (answered == trusted.y)).mean())
    if likeness < MIN_LIKENESS:
        context.warnings.append("incumbent/training belongs to another model, and is left aside")
        return {}
    has = fresh.labelled
    right = fp32.classes(fresh.x[has]) == fresh.y[has], answered == trusted.y

    def kept(miss: float) -> Measure:
        return in_points.change(
            in_points.gap(right[0], now["incumbent"], miss=miss),
            in_points.gap(right[1], then["incumbent"], miss=miss),
        )

    return {"quantization": kept(MISS), "quantization_at_least": kept(STRICT).low}


def exported(folder: Path, context: JobContext) -> Graph:
    """The model of a training folder, as a graph.

    Raises
    ------
    BadModel
        It cannot be read, or has other inputs and outputs than the job's models.
    """
    student = trained.read(folder)
    a, spec = student.architecture, context.job.graph
    if (a.inputs, a.outputs) != (len(spec.features), len(spec.classes)):
        raise BadModel(
            f"{folder.parent.name}/training/{trained.ARCHITECTURE_FILE} has {a.inputs} inputs and"
            f" {a.outputs} outputs, the model has {len(spec.features)} features and"
            f" {len(spec.classes)} classes"
        )
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        export.to_onnx(student, path)
        return Graph(path, GraphCall(features=spec.features, classes=a.outputs))


def _moved(
    context: JobContext,
    fresh: Rows,
    trusted: Rows,
    now: Mapping[str, Right],
    then: Mapping[str, Right],
    teacher_lost: Measure | None,
) -> dict[str, Any]:
    """Whether inputs, or the mix of classes, are others, and what was lost where they are not."""
    graph, seed, has = context.job.graph, context.job.seed, fresh.labelled
    classes = len(graph.classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without any value
        fill = np.nan_to_num(np.nanmedian(trusted.x, axis=0)).astype(np.float32)
    encoded = [data.encode(rows.x, graph, fill) for rows in (fresh, trusted)]
    told = domain.tell_apart(*encoded, seed=seed)
    out: dict[str, Any] = {
        "mix": class_mix.class_mix(
            (trusted.y, then["incumbent"]), (fresh.y[has], now["incumbent"]), classes
        ),
        "domain_auc": None if told is None else told.auc,
    }
    if told is not None and teacher_lost is not None and "teacher" in then:
        lost = (has, now["teacher"])
        out["divided"] = domain.divide(told, lost, then["teacher"], teacher_lost)
    return out


def _moved_within(
    context: JobContext, fresh: Rows, trusted: Rows, graphs: Mapping[str, Graph]
) -> tuple[str, ...]:
    """Columns that moved among rows of the same class, of those that contribute and matter."""
    job, has = context.job, fresh.labelled
    moved = sorted((c for c in job.checks if c.contributes), key=lambda c: -c.value)[:MAX_MOVED]
    columns = sorted({job.graph.features.index(c.column) for c in moved})
    matter: set[int] = set()
    for graph in graphs.values():
        asked = [j for j in columns if j not in matter]
        matter |= set(within_classes.that_matter(graph.classes, trusted.x, asked, seed=job.seed))
    labelled = (fresh.x[has], fresh.y[has])
    found = within_classes.moved_within((trusted.x, trusted.y), labelled, sorted(matter))
    return tuple(job.graph.features[j] for j in found)


def _disagreement(answered: Mapping[str, NDArray[np.int64]]) -> Measure | None:
    if "teacher" not in answered or not len(answered["teacher"]):
        return None
    same = measures.agreement(answered["incumbent"], answered["teacher"])
    low, high = clopper_pearson((1.0 - same.value) * same.n, same.n)
    return Measure(value=1.0 - same.value, low=low, high=high, n=same.n)


def _share(right: Right) -> Measure:
    n, k = len(right), int(right.sum())
    low, high = clopper_pearson(k, n)
    return Measure(value=k / n, low=low, high=high, n=n)


def _before(job: JobSpec, right: Right | None) -> Measure:
    """Accuracy before the change: as measured at the release, else on trusted rows now."""
    if job.base_error is None:
        assert right is not None
        return _share(right)
    share = 1.0 - job.base_error
    rows = job.base_rows if job.base_rows is not None else len(right) if right is not None else 0
    if not rows:  # the rows behind it are not known: it counts as exact
        return Measure(value=share, low=None, high=None, n=0)
    low, high = clopper_pearson(share * rows, rows)
    return Measure(value=share, low=low, high=high, n=rows)
