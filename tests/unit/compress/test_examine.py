"""Symptoms of small models whose only knowledge is a threshold: the student's is 0, the teacher's .5."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compress_rows import context_of, rows_of, tiny_job, write_table

from redistill.compress import examine
from redistill.compress.errors import BadJob
from redistill.compress.judge.symptoms import Symptoms
from redistill.compress.plan import ColumnCheck
from redistill.compress.rows import Rows


def of(
    folder: Path, fresh: Rows | None = None, trusted: Rows | None = None, **fields: Any
) -> Symptoms:
    """Symptoms of a job whose labels are what the teacher answers."""
    job = tiny_job(folder, mode="diagnose", **fields)
    for name, rows in (("fresh", fresh), ("trusted", trusted)):
        if rows is not None:
            write_table(folder / f"{name}.parquet", rows, threshold=0.5)
    context = context_of(folder, job)
    has = context.has("trusted")
    found = context.read("fresh")
    if fresh is not None and fresh.second_label is not None:
        found = replace(found, second_label=fresh.second_label)
    return examine.examine(context, found, context.read("trusted") if has else None)


def agreed(n: int, *, seed: int = 2) -> Rows:
    """Rows on which student and teacher agree."""
    rows = rows_of(n, seed=seed)
    return rows.take((rows.x[:, 0] <= 0.0) | (rows.x[:, 0] > 0.5))


def test_recoverable_is_what_the_gap_grew_by(tmp_path: Path) -> None:
    found = of(tmp_path, trusted=agreed(300))
    wrong = 100 * float(((rows_of(400).x[:, 0] > 0) & (rows_of(400).x[:, 0] <= 0.5)).mean())
    assert found.lost is not None
    assert found.recoverable is not None
    assert found.teacher_lost is not None
    assert found.lost.value == pytest.approx(wrong)
    assert found.recoverable.value == pytest.approx(wrong)
    assert found.teacher_lost.value == pytest.approx(0.0, abs=1e-9)
    assert found.recoverable_at_least is not None
    assert found.recoverable.low is not None
    assert 0.0 < found.recoverable_at_least < found.recoverable.low
    assert found.lost_at_most is not None
    assert found.lost.high is not None
    assert found.lost.value < found.lost_at_most < found.lost.high
    # the same gap then and now: nothing was lost
    same = of(tmp_path, trusted=rows_of(300, seed=2))
    assert same.recoverable is not None
    assert same.recoverable.low is not None
    assert same.recoverable.low < 0.0


def test_loss_stands_on_the_error_at_release_and_its_rows(tmp_path: Path) -> None:
    exact = of(tmp_path, base_error=0.01)
    few = of(tmp_path, base_error=0.01, base_rows=60)
    assert exact.lost is not None
    assert few.lost is not None
    assert exact.lost.value == few.lost.value
    assert few.lost.low is not None
    assert exact.lost.low is not None
    assert few.lost.low < exact.lost.low  # 200 trusted rows stand behind it where nothing is said


def test_without_trusted_rows_the_errors_at_release_are_believed(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, mode="diagnose", base_error=0.05, teacher_base_error=0.03)
    context = context_of(tmp_path, job)
    found = examine.examine(context, context.read("fresh"), None)
    assert found.recoverable is not None
    assert found.lost is not None
    assert found.recoverable.value == pytest.approx(found.lost.value + 5.0 - 2.0)
    assert (found.mix, found.domain_auc, found.broken) == (None, None, ())
    alone = replace(job, teacher_base_error=None)
    assert (
        examine.examine(context_of(tmp_path, alone), context.read("fresh"), None).recoverable
        is None
    )
    nothing = context_of(tmp_path, replace(job, base_error=None))
    with pytest.raises(BadJob, match=r"base_error in job\.json"):
        examine.examine(nothing, context.read("fresh"), None)


def test_without_labels_only_disagreement_is_known(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, mode="diagnose", base_error=0.01)
    context = context_of(tmp_path, job)
    fresh = context.read("fresh")
    silent = replace(fresh, y=np.full(len(fresh), -1))
    found = examine.examine(context, silent, context.read("trusted"))
    assert (found.labelled, found.lost) == (0, None)
    assert found.disagreement is not None
    assert found.disagreement.value > 0.1
    (tmp_path / "teacher" / "model.onnx").unlink()
    alone = examine.examine(context, fresh, context.read("trusted"))
    assert (alone.recoverable, alone.disagreement, alone.divided) == (None, None, None)


def test_moved_inputs_are_told_and_named(tmp_path: Path) -> None:
    moved = rows_of(400)
    moved.x[:, 0] += 1.0
    checks = tuple(ColumnCheck(column=c, rule="drifted", value=1.0, contributes=True) for c in "ab")
    found = of(tmp_path, fresh=moved, trusted=agreed(600), checks=checks)
    assert found.domain_auc is not None
    assert found.domain_auc.value > 0.6
    assert found.moved_within == ("a",)  # b did not, and no answer hangs on it
    assert found.divided is not None
    assert found.mix is not None
    assert found.mix.chance < 1e-6
    still = of(tmp_path, checks=checks)
    assert still.moved_within == ()


def test_odd_columns_are_tried_on_the_models(tmp_path: Path) -> None:
    check = ColumnCheck(column="a", rule="missing", value=1.0, contributes=True)
    found = of(tmp_path, checks=(check,))
    (broken,) = found.broken
    assert broken.teacher is not None
    assert broken.teacher.costs is not None
    assert broken.teacher.costs.value > 20.0  # its answer to all of them is the same then


def test_fp32_of_the_incumbent_is_asked_where_it_is_known(tmp_path: Path) -> None:
    found = of(tmp_path)
    assert found.quantization is not None
    assert found.quantization.value == 0.0  # it is what serves
    assert found.quantization_at_least is not None
    assert found.quantization.low is not None
    assert found.quantization_at_least < found.quantization.low < 0.0
    other = tiny_job(tmp_path / "other", mode="diagnose")
    (tmp_path / "other" / "incumbent" / "model.onnx").write_bytes(
        (tmp_path / "teacher" / "model.onnx").read_bytes()
    )
    context = context_of(tmp_path / "other", other)
    strange = examine.examine(context, context.read("fresh"), context.read("trusted"))
    assert strange.quantization is None
    assert any("belongs to another model" in w for w in context.warnings)
    weights = tmp_path / "other" / "incumbent" / "training" / "weights.safetensors"
    weights.write_bytes(b"rotten")
    assert (
        examine.examine(context, context.read("fresh"), context.read("trusted")).quantization
        is None
    )
    assert any("left aside" in w for w in context.warnings)


def test_second_labels_are_compared_on_rows_that_have_both(tmp_path: Path) -> None:
    rows = rows_of(400)
    second = np.where(np.arange(400) < 60, rows.x[:, 0] <= 0.5, -1)  # the other class, each time
    found = of(tmp_path, fresh=replace(rows, second_label=second.astype(np.int64)))
    assert found.second is not None
    assert (found.second.differ.value, found.second.differ.n) == (1.0, 60)
    assert found.second.suspect
    assert of(tmp_path).second is None
