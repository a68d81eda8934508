"""Modes that train nothing, on a model of one threshold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from compress_rows import GRAPH, context_of, rows_of, tiny_job, write_table

from redistill.compress import measure
from redistill.compress.errors import BadJob, BadModel
from redistill.compress.plan import ERROR_ROWS, Accepted
from redistill.compress.rows import Rows
from redistill.compress.shrink import students
from redistill.compress.shrink.trained import Architecture


def outside(rows: Rows) -> Rows:
    """Rows on which student and teacher agree."""
    a = rows.x[:, 0]
    return rows.take((a <= 0.0) | (a > 0.5))


def test_diagnose_blames_compression_where_the_teacher_copes(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, mode="diagnose", base_error=0.01, teacher_base_error=0.0)
    # as it was at release: rows between the two thresholds were rare
    write_table(tmp_path / "trusted.parquet", outside(rows_of(400, seed=2)), threshold=0.5)
    report = measure.diagnose(context_of(tmp_path, job))
    assert report.diagnosis is not None
    assert report.diagnosis.cause == "compression_gap"
    assert report.diagnosis.repairable
    assert report.diagnosis.labelled == 400
    assert report.diagnosis.student_loss_points is not None
    assert report.diagnosis.student_loss_points.value > 10
    assert report.decision is None


def test_diagnose_blames_the_world_where_the_teacher_fails_as_well(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, mode="diagnose", base_error=0.01, teacher_base_error=0.01)
    write_table(tmp_path / "trusted.parquet", rows_of(400, seed=2), threshold=0.25)
    write_table(tmp_path / "fresh.parquet", rows_of(400), threshold=-1.0)
    report = measure.diagnose(context_of(tmp_path, job))
    assert report.diagnosis is not None
    assert report.diagnosis.cause == "concept_change"


def test_diagnose_says_that_what_was_logged_is_another_version(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    job = tiny_job(tmp_path, mode="diagnose", base_error=0.01)
    table = pq.read_table(tmp_path / "fresh.parquet")
    logged = pa.array(["no"] * table.num_rows)
    pq.write_table(table.append_column("prediction", logged), tmp_path / "fresh.parquet")
    report = measure.diagnose(context_of(tmp_path, job))
    assert any("another version served them" in w for w in report.warnings)


def test_diagnose_needs_to_know_how_good_it_was(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, mode="diagnose")
    (tmp_path / "trusted.parquet").unlink()
    with pytest.raises(BadJob, match=r"base_error in job\.json"):
        measure.diagnose(context_of(tmp_path, job))


def test_compare_pairs_incumbent_and_predecessor(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, mode="compare")
    (tmp_path / "teacher").rename(tmp_path / "predecessor")  # it knows the threshold
    report = measure.compare(context_of(tmp_path, job))
    assert report.fresh is not None
    x = rows_of(400).x[:, 0]
    assert (report.fresh.wins, report.fresh.losses) == (0, int(((x > 0) & (x <= 0.5)).sum()))
    assert report.fresh.e_worse > 100 > report.fresh.e_better


def test_compare_counts_what_mistakes_cost(tmp_path: Path) -> None:
    """The release gives as many false alarms as its predecessor missed cases: where one that is
    missed costs twenty alarms, it must not be taken back."""
    found = {}
    for name, costs in (("answers", None), ("costs", ((0.0, 1.0), (20.0, 0.0)))):
        folder = tmp_path / name
        job = tiny_job(folder, mode="compare", graph=replace(GRAPH, costs=costs))
        write_table(folder / "fresh.parquet", rows_of(400), threshold=0.25)
        (folder / "teacher").rename(folder / "predecessor")  # its threshold is .5, the release's 0
        found[name] = measure.compare(context_of(folder, job)).fresh
    assert found["answers"] is not None
    assert found["costs"] is not None
    assert found["answers"].e_better < 100
    assert found["costs"].e_better > 100
    assert found["costs"].losses == found["answers"].losses > 10


def test_baseline_accepts_the_first_model_and_writes_its_candidate(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, mode="baseline")
    report = measure.baseline(context_of(tmp_path, job))
    assert report.decision == Accepted(variant="incumbent")
    assert {g.name for g in report.gates} == {"loads"}
    assert (tmp_path / "candidate" / "training" / "weights.safetensors").is_file()


def test_baseline_refuses_a_training_folder_of_another_model(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, mode="baseline")
    other = students.build(Architecture(inputs=3, hidden=(4,), outputs=2), seed=5)
    students.arrays(other).save(tmp_path / "incumbent" / "training")
    with pytest.raises(BadModel, match="belongs to another model"):
        measure.baseline(context_of(tmp_path, job))
    wide = students.build(Architecture(inputs=9, hidden=(), outputs=2), seed=5)
    students.arrays(wide).save(tmp_path / "incumbent" / "training")
    with pytest.raises(BadModel, match="has 9 inputs"):
        measure.baseline(context_of(tmp_path, job))


def test_baseline_judges_an_added_model_against_the_incumbent(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, mode="baseline")
    (tmp_path / "fresh.parquet").unlink()
    (tmp_path / "teacher").rename(tmp_path / "added")
    report = measure.baseline(context_of(tmp_path, job))
    assert report.chosen == "added"
    table = pq.read_table(tmp_path / ERROR_ROWS)
    (told,) = (v.trusted_accuracy for v in report.variants)
    right = sum(
        p == y
        for p, y in zip(table["prediction"].to_pylist(), table["label"].to_pylist(), strict=True)
    )
    assert (len(table), right / len(table)) == (told.n, told.value)
    assert set(table["region"].to_pylist()) == {"EU", None}
    assert report.decision == Accepted(variant="added")
    assert report.trusted is not None
    assert report.trusted.wins > 0
    assert report.rows["gate"] == 0
    assert not report.faced
    assert np.isclose(report.variants[0].trusted_accuracy.value, 1.0)


def test_baseline_says_whether_it_looked_at_labelled_fresh_rows(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, mode="baseline")
    (tmp_path / "teacher").rename(tmp_path / "added")
    report = measure.baseline(context_of(tmp_path, job))
    assert report.rows["gate_labelled"] > 0
    assert report.faced
