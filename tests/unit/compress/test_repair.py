"""Modes that train, on a model of one threshold: made once, judged again without training."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from compress_rows import context_of, rows_of, tiny_job, write_table

from redistill.compress import repair
from redistill.compress.errors import BadJob
from redistill.compress.plan import JobSpec, Limits, Report, Training

LIMITS = Limits(max_latency_ratio=50.0, trusted_margin_points=5.0)
MOVED = Training(epochs=30, learning_rate=0.05, min_replay_rows=0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, JobSpec, Report]:
    folder = tmp_path_factory.mktemp("repair")
    job = tiny_job(folder, limits=LIMITS, training=MOVED)
    return folder, job, repair.repair(context_of(folder, job))


def test_repair_learns_from_the_teacher_what_the_student_did_not_know(
    made: tuple[Path, JobSpec, Report],
) -> None:
    folder, _, report = made
    assert report.chosen == "fp32"
    assert report.fresh is not None
    assert report.fresh.wins > 5 * max(1, report.fresh.losses)
    assert report.teacher is not None
    assert report.incumbent is not None
    assert report.variants[0].trusted_accuracy.value > report.incumbent.trusted_accuracy.value
    assert (folder / "candidate" / "model.onnx").is_file()
    assert {"train", "gate", "replay", "trusted"} <= report.rows.keys()


def test_gate_judges_the_same_candidate_with_the_rows_of_now(
    made: tuple[Path, JobSpec, Report], tmp_path: Path
) -> None:
    folder, job, report = made
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    before = (tmp_path / "candidate" / "model.onnx").read_bytes()
    write_table(tmp_path / "fresh.parquet", rows_of(800), threshold=0.5)
    again = repair.gate(context_of(tmp_path, replace(job, mode="gate")))
    assert again.chosen == report.chosen
    assert again.rows["gate"] > report.rows["gate"]
    assert (tmp_path / "candidate" / "model.onnx").read_bytes() == before


def test_gate_refuses_a_candidate_that_was_changed(
    made: tuple[Path, JobSpec, Report], tmp_path: Path
) -> None:
    folder, job, _ = made
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    shutil.copyfile(tmp_path / "teacher/model.onnx", tmp_path / "candidate/model.onnx")
    with pytest.raises(BadJob, match="changed since"):
        repair.gate(context_of(tmp_path, replace(job, mode="gate")))


def test_gate_needs_a_finished_candidate(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, mode="gate")
    with pytest.raises(BadJob):
        repair.gate(context_of(tmp_path, job))


def test_repair_refuses_an_incumbent_before_it_trains(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    (tmp_path / "incumbent" / "model.onnx").unlink()
    with pytest.raises(BadJob, match="incumbent/model"):
        repair.repair(context_of(tmp_path, job))
    assert not (tmp_path / "steps.json").exists()
