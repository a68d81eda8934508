"""Modes that train, on a model of one threshold: made once, judged again without training."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import linear
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from any_speed import ANY_SPEED
from compress_rows import context_of, rows_of, tiny_job, write_table

from redistill.compress import pipeline, repair
from redistill.compress.errors import BadJob
from redistill.compress.plan import Accepted, JobSpec, Rejected, Report, Training, Tried, to_json
from redistill.compress.shrink import distill, export, students
from redistill.compress.shrink.trained import Architecture
from redistill.files import sha256_of

POLICY = {**ANY_SPEED, "trusted": {"margin_points": 5.0}}
MOVED = Training(epochs=30, learning_rate=0.05, min_replay_rows=0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, JobSpec, Report]:
    folder = tmp_path_factory.mktemp("repair")
    job = tiny_job(folder, policy=POLICY, training=MOVED)
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


def test_trusted_rows_that_were_registered_later_and_trained_on_judge_nothing(
    made: tuple[Path, JobSpec, Report], tmp_path: Path
) -> None:
    folder, job, _ = made
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    again = replace(job, mode="gate")
    context = context_of(tmp_path, again)
    learned = context.read("fresh")
    learned = learned.take(~learned.gate)
    write_table(tmp_path / "more.parquet", learned, threshold=0.5)
    both = [pq.read_table(tmp_path / f"{name}.parquet") for name in ("trusted", "more")]
    pq.write_table(pa.concat_tables(both), tmp_path / "trusted.parquet")
    report = repair.gate(context_of(tmp_path, again))
    assert report.rows["trusted"] == 200
    assert (
        f"{len(learned)} trusted rows were trained on: they judge nothing here" in report.warnings
    )


def test_trees_are_judged_without_int8_and_leave_nothing_to_begin_with(tmp_path: Path) -> None:
    job = tiny_job(
        tmp_path,
        recipes=("trees",),
        candidates=("static_int8", "dynamic_int8"),
        policy=POLICY,
        training=MOVED,
    )
    report = repair.repair(context_of(tmp_path, job))
    assert (report.recipe_name, report.chosen) == ("trees", "fp32")
    assert [v.name for v in report.variants] == ["fp32"]
    assert report.fresh is not None
    assert report.fresh.wins > 5 * max(1, report.fresh.losses)
    assert isinstance(report.decision, Accepted), report.decision
    assert not (tmp_path / "candidate" / "training").exists()
    before = (tmp_path / "candidate" / "model.onnx").read_bytes()
    write_table(tmp_path / "fresh.parquet", rows_of(800), threshold=0.5)
    again = repair.gate(context_of(tmp_path, replace(job, mode="gate")))
    assert again.chosen == "fp32"
    assert (tmp_path / "candidate" / "model.onnx").read_bytes() == before
    assert not (tmp_path / "candidate" / "training").exists()


def test_gate_refuses_a_candidate_that_was_changed(
    made: tuple[Path, JobSpec, Report], tmp_path: Path
) -> None:
    folder, job, _ = made
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    shutil.copyfile(tmp_path / "teacher/model.onnx", tmp_path / "candidate/model.onnx")
    with pytest.raises(BadJob, match="changed since"):
        repair.gate(context_of(tmp_path, replace(job, mode="gate")))


def test_candidate_is_judged_again_after_another_recipe_was_tried(
    made: tuple[Path, JobSpec, Report], tmp_path: Path
) -> None:
    """As left open before: its files are put back to be published, under its own number."""
    folder, job, first = made
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    model = tmp_path / "candidate" / "model.onnx"
    before, number = model.read_bytes(), sha256_of(model)
    both = replace(job, recipes=("warm", "trees"))
    warm = Tried(name="warm", number=1, sha256=number, reasons=("trusted: few",), open=True)
    trees = replace(warm, name="trees", number=2, sha256=None)
    second = repair.repair(context_of(tmp_path, replace(both, tried=(warm,), recipe=2)))
    assert (second.recipe_name, second.recipe) == ("trees", 2)
    assert model.read_bytes() != before
    asked = replace(
        both, mode="gate", tried=(trees,), again="warm", recipe=3, faced={number: 1}
    )  # fmt: skip
    again = repair.gate(context_of(tmp_path, asked))
    assert (again.recipe_name, again.recipe, again.chosen) == (first.recipe_name, 1, first.chosen)
    assert model.read_bytes() == before
    assert [t.name for t in again.tried] == ["trees"]
    assert again.ranking_loss is not None
    assert again.ranking_loss == first.ranking_loss


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


def test_a_tiny_model_is_not_compressed_into_a_large_one(tmp_path: Path) -> None:
    """A logistic regression of some hundred bytes, without a training folder: the student that is
    distilled from scratch is as wide as its file may be large, and refused where that is
    nothing."""
    job = tiny_job(tmp_path, candidates=("fp32", "dynamic_int8"), policy=POLICY)
    shutil.rmtree(tmp_path / "incumbent")
    (tmp_path / "incumbent").mkdir()
    weights = np.array([[-8, 8], [0, 0], [0, 0]], np.float32)
    incumbent = linear.graph(tmp_path / "incumbent" / "model.onnx", weights)
    teacher = students.build(Architecture(inputs=3, hidden=(600, 600), outputs=2), seed=0)
    distill.distill(
        teacher,
        rows_of(800).x,
        labels=(rows_of(800).x[:, 0] > 0.5).astype(np.int64),
        training=Training(epochs=3),
    )
    export.to_onnx(students.arrays(teacher), tmp_path / "teacher" / "model.onnx")
    report = pipeline.run(tmp_path)
    assert incumbent.stat().st_size < 500
    assert isinstance(report.decision, Accepted)
    for variant in report.variants:
        (gate,) = (g for g in variant.gates if g.name == "size")
        assert (gate.passed, gate.limit) == (True, 65_536)
    assert any("layers [96, 96], not [384, 384]" in w for w in report.warnings)
    tight = POLICY | {"size": {"max_bytes": 1_000}}
    (tmp_path / "job.json").write_bytes(to_json(replace(job, policy=tight)))
    again = pipeline.run(tmp_path)
    assert isinstance(again.decision, Rejected)
    assert any(r.startswith("size: ") for r in again.decision.reasons)
