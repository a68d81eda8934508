"""Recalibration: rows that no gate uses set the temperature, the file has it, training has not."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from any_speed import ANY_SPEED
from compress_rows import context_of, rows_of, tiny_job, write_table

from redistill.compress import build, recalibrate, repair, trusted_rows
from redistill.compress.folder import CANDIDATE
from redistill.compress.judge.graph import Graph
from redistill.compress.plan import JobSpec, Measure
from redistill.compress.rows import Rows
from redistill.compress.shrink import distill, students, temperature
from redistill.files import sha256_of, sha256_of_tree

VARIANTS = ("fp32", "static_int8", "dynamic_int8")
POLICY = {**ANY_SPEED, "trusted": {"margin_points": 50.0}}


def built(folder: Path, job: JobSpec) -> tuple[build.Candidates, Rows, Rows]:
    context = context_of(folder, job)
    rows = [context.read(r) for r in ("fresh", "reference", "trusted")]
    made, prepared = build.build(context, *rows)
    return made, prepared.train, prepared.trusted


def graph(folder: Path, job: JobSpec, path: Path) -> Graph:
    return Graph(path, context_of(folder, job).call(CANDIDATE))


def noisy(path: Path, rows: Rows, *, seed: int) -> None:
    """Rows of which every fourth has the other label: nobody may be surer than 75%."""
    wrong = np.random.default_rng(seed).random(len(rows)) < 0.25
    at = np.where(wrong == (rows.x[:, 0] > 0.5), 9.0, -9.0)  # above: "no"; below: "yes"
    write_table(path, rows, threshold=at)


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, JobSpec]:
    folder = tmp_path_factory.mktemp("recalibrate")
    job = tiny_job(folder, candidates=VARIANTS, policy=POLICY)
    noisy(folder / "fresh.parquet", rows_of(800), seed=0)
    noisy(folder / "trusted.parquet", rows_of(400, seed=2), seed=2)
    return folder, job


def test_every_variant_becomes_as_sure_as_labels_allow(noise: tuple[Path, JobSpec]) -> None:
    folder, job = noise
    made, train, trusted = built(folder, job)
    assert made.variants.keys() == set(VARIANTS) == made.facts.temperatures.keys()
    for name, path in made.variants.items():
        found = made.facts.temperatures[name]
        assert found.value > 1.5
        assert found.n == len(train) + int(trusted_rows.ranking(trusted).sum())
        assert found.low is not None
        sure = temperature.confidence(graph(folder, job, path).logits(trusted.x))
        assert 0.6 < sure < 0.85
        raw = graph(folder, job, next((folder / "work").glob(f"{_raw(name)}-*.onnx")))
        assert (raw.classes(trusted.x) == graph(folder, job, path).classes(trusted.x)).all()
        assert temperature.confidence(raw.logits(trusted.x)) > sure + 0.05


def _raw(name: str) -> str:
    return "export" if name == "fp32" else name


def test_the_training_folder_keeps_what_was_learned(noise: tuple[Path, JobSpec]) -> None:
    folder, job = noise
    made, train, _ = built(folder, job)
    value = round(made.facts.temperatures["fp32"].value, 4)
    learned = distill.predict_logits(students.load(made.training), train.x)
    served = graph(folder, job, made.variants["fp32"]).logits(train.x)
    np.testing.assert_allclose(served * value, learned, rtol=1e-4, atol=1e-4)


def test_a_warm_start_tempers_once(noise: tuple[Path, JobSpec], tmp_path: Path) -> None:
    """The second job starts from what the first published; its scores are not divided twice."""
    folder, job = noise
    repair.repair(context_of(folder, job))
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    for name in ("work", "steps.json", "incumbent", "report.json"):
        path = tmp_path / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    shutil.move(tmp_path / CANDIDATE, tmp_path / "incumbent")
    second = replace(job, job_id="job-2", made_here=("incumbent",))
    made, _, trusted = built(tmp_path, second)
    sure = temperature.confidence(graph(tmp_path, second, made.variants["fp32"]).logits(trusted.x))
    assert 0.6 < sure < 0.85
    assert made.facts.temperatures["fp32"].value > 1.5


def test_gate_rows_have_no_say(noise: tuple[Path, JobSpec], tmp_path: Path) -> None:
    folder, job = noise
    first, _, trusted = built(folder, job)
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    rows = context_of(tmp_path, job).read("fresh")
    other = rows_of(800)
    flipped = np.where(rows.gate, 1 - rows.y, rows.y)
    write_table(tmp_path / "fresh.parquet", other, threshold=np.where(flipped == 1, -9.0, 9.0))
    judges = ~trusted_rows.ranking(trusted)
    changed = np.where(judges, 1 - trusted.y, trusted.y)
    write_table(
        tmp_path / "trusted.parquet",
        rows_of(400, seed=2),
        threshold=np.where(changed == 1, -9.0, 9.0),
    )
    again, _, _ = built(tmp_path, job)
    assert again.facts.temperatures == first.facts.temperatures


def test_labels_that_were_trained_on_have_no_say(noise: tuple[Path, JobSpec]) -> None:
    folder, job = noise
    made, _, trusted = built(folder, replace(job, train_on="labels"))
    few = int(trusted_rows.ranking(trusted).sum())
    assert few < temperature.MIN_LABELLED
    assert made.facts.temperatures["fp32"].low is None, "too few labels are left: it is matched"


def test_without_labels_a_student_is_as_sure_as_its_teacher(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, rows=120, candidates=VARIANTS)
    made, train, _ = built(tmp_path, job)
    teacher = context_of(tmp_path, job).graph("teacher")
    sure = temperature.confidence(teacher.logits(train.x))
    for name, path in made.variants.items():
        assert made.facts.temperatures[name].low is None
        got = temperature.confidence(graph(tmp_path, job, path).logits(train.x))
        assert got == pytest.approx(sure, abs=0.01), name


def test_the_judged_file_is_the_tempered_one_and_is_found_again(
    noise: tuple[Path, JobSpec],
) -> None:
    folder, job = noise
    report = repair.repair(context_of(folder, job))
    assert report.chosen is not None
    context = context_of(folder, job)
    path = recalibrate.finished(context.steps, report.chosen)
    assert sha256_of(path) == sha256_of(folder / CANDIDATE / "model.onnx")
    (chosen,) = (v for v in report.variants if v.name == report.chosen)
    assert chosen.sha256 == sha256_of(path)
    assert isinstance(chosen.temperature, Measure)
    golden = np.load(folder / CANDIDATE / "golden.npz")
    served = graph(folder, job, folder / CANDIDATE / "model.onnx")
    np.testing.assert_allclose(served.raw(golden["inputs"]), golden["outputs"], atol=1e-5)
    again = repair.gate(context_of(folder, replace(job, mode="gate")))
    assert again.chosen == report.chosen
    assert sha256_of_tree(folder / CANDIDATE / "training") == sha256_of_tree(
        context.steps.finished("train")
    )


def test_a_job_of_an_older_release_is_judged_as_it_was_made(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    context = context_of(tmp_path, job)
    raw = context.steps.make("export", "k", lambda out: out.write_bytes(b"x") and None)
    assert recalibrate.finished(context_of(tmp_path, job).steps, "fp32") == raw
