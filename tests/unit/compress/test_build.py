"""From rows to candidates: every step once, and the same bytes again."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from compress_rows import GRAPH, context_of, tiny_job

from redistill.compress import build, data
from redistill.compress.errors import BadData
from redistill.compress.judge.graph import Graph, GraphCall
from redistill.compress.plan import JobSpec
from redistill.compress.shrink import distill
from redistill.files import sha256_of


def run(folder: Path, job: JobSpec) -> build.Candidates:
    context = context_of(folder, job)
    fresh, reference, trusted = (context.read(r) for r in ("fresh", "reference", "trusted"))
    made, _ = build.build(context, fresh, reference, trusted)
    return made


def test_candidates_are_the_variants_that_were_asked_for(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, candidates=("static_int8", "dynamic_int8"))
    made = run(tmp_path, job)
    assert made.variants.keys() == {"fp32", "static_int8", "dynamic_int8"}
    assert all(path.is_file() for path in made.variants.values())
    assert (made.training / "weights.safetensors").is_file()
    assert made.facts.labels_in_loss is False
    assert made.facts.training_sources == ()


def test_the_same_job_gives_the_same_bytes_elsewhere(tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        job = tiny_job(tmp_path / name)
        made.append(run(tmp_path / name, job))
    first, second = (sha256_of(m.variants["fp32"]) for m in made)
    assert first == second
    other = run(tmp_path / "b", replace(job, seed=1))
    assert sha256_of(other.variants["fp32"]) != first


def test_what_is_finished_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tiny_job(tmp_path)
    first = run(tmp_path, job)
    monkeypatch.setattr(distill, "distill", None)  # would raise
    assert run(tmp_path, job).variants == first.variants


def test_what_was_trained_on_is_remembered_by_its_digest(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    made = run(tmp_path, job)
    fresh = context_of(tmp_path, job).read("fresh")
    trained = np.isin(data.digests(fresh.x), made.trained)
    assert (trained == ~fresh.gate).all()


def test_without_a_training_folder_a_built_in_student_is_distilled_and_told(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    shutil.rmtree(tmp_path / "incumbent" / "training")
    context = context_of(tmp_path, job)
    rows = [context.read(r) for r in ("fresh", "reference", "trusted")]
    build.build(context, *rows)
    assert any("distilled from scratch" in w for w in context.warnings)


def test_rows_with_missing_values_are_trained_on(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    job = tiny_job(tmp_path)
    table = pq.read_table(tmp_path / "fresh.parquet")
    broken = pa.array([None if i % 2 else 1.0 for i in range(table.num_rows)], pa.float32())
    index = table.column_names.index("a")
    pq.write_table(table.set_column(index, "a", broken), tmp_path / "fresh.parquet")
    made = run(tmp_path, job)  # missing values stand for medians: no NaN comes of them
    student = Graph(made.variants["fp32"], GraphCall(features=GRAPH.features, classes=2))
    assert np.isfinite(student.outputs(np.full((2, 3), np.nan, np.float32))).all()
    (logits,) = (tmp_path / "work").glob("teacher_logits*")
    assert np.isfinite(np.load(logits)).all()


def test_training_on_labels_tells_whose_they_were(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, train_on="labels")
    made = run(tmp_path, job)
    assert made.facts.labels_in_loss
    assert made.facts.training_sources == ("clerks",)
    assert made.facts.domain_auc is not None


def test_training_on_labels_wants_labels_or_a_teacher_for_replay(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    job = tiny_job(tmp_path, train_on="labels")
    table = pq.read_table(tmp_path / "reference.parquet").drop_columns(["label"])
    pq.write_table(table, tmp_path / "reference.parquet")
    shutil.rmtree(tmp_path / "teacher")
    with pytest.raises(BadData, match="no teacher to label them"):
        run(tmp_path, job)


def test_one_thread_is_given_back() -> None:
    before = torch.get_num_threads()
    with build.one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
