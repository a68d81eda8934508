"""An earlier release as a candidate: chosen by training rows, judged by the gates, never made."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from any_speed import ANY_SPEED
from compress_rows import context_of, rows_of, tiny_job, write_table

from redistill.compress import pipeline, repair, reuse
from redistill.compress.errors import BadJob
from redistill.compress.plan import Accepted, JobSpec, Rejected, Tried
from redistill.files import sha256_of, write

POLICY = {**ANY_SPEED, "trusted": {"margin_points": 5.0}}
TEACHER = np.zeros(1_000, np.int64)


def answers(right: int) -> np.ndarray:
    """The first so many rows as the teacher does."""
    return (np.arange(1_000) >= right).astype(np.int64)


def job_with(folder: Path, **releases: str) -> JobSpec:
    """A job whose incumbent lost what its teacher kept; releases are copies of these roles."""
    job = tiny_job(folder, policy=POLICY, recipes=("reuse", "warm"), releases=tuple(releases))
    for number, role in enumerate(releases.values(), start=1):
        (folder / "best" / str(number)).mkdir(parents=True)
        shutil.copy(folder / role / "model.onnx", folder / "best" / str(number) / "model.onnx")
    return job


def test_release_that_answers_most_like_the_teacher_is_chosen() -> None:
    releases = {"v1": answers(900), "v2": answers(990), "v3": answers(950)}
    choice = reuse.choose(TEACHER, answers(700), releases, least=0.5)
    assert choice.version == "v2"
    assert choice.why == (
        "v2 answers as the teacher does on 99.0% of 1,000 training rows, the incumbent on 70.0%:"
        " +29.0 points [+26.3, +31.9]"
    )


@pytest.mark.parametrize(
    ("releases", "said"),
    [
        ({"v1": answers(710)[::-1]}, "+1.0 points [-3.8, +5.8], which is not surely more"),
        ({"v1": answers(600)}, "-10.0 points"),
        ({"v1": answers(800)}, "+10.0 points [+8.3, +12.0], and 15.0 are asked for"),
        ({"v1": np.full(1_000, -1)}, "0.0%"),
        ({}, "no earlier release can be run"),
    ],
)
def test_release_that_is_not_worth_a_look_is_not_chosen(
    releases: dict[str, np.ndarray], said: str
) -> None:
    choice = reuse.choose(TEACHER, answers(700), releases, least=0.5)
    assert choice.version is None
    assert said in choice.why


def test_row_without_an_answer_of_the_teacher_speaks_for_nobody() -> None:
    silent = np.full(1_000, -1)
    assert reuse.choose(silent, answers(700), {"v1": silent}, least=0.5).version is None


def test_release_that_copes_is_judged_and_accepted_without_being_made(tmp_path: Path) -> None:
    job = job_with(tmp_path, v1="incumbent", v2="teacher")
    report = repair.repair(context_of(tmp_path, job))
    assert report.decision == Accepted(variant="reuse")
    assert (report.reused, report.recipe_name, report.faced) == ("v2", "reuse", True)
    (variant,) = report.variants
    assert variant.sha256 == sha256_of(tmp_path / "best" / "2" / "model.onnx")
    asked = {g.name for g in report.gates}
    assert {"loads", "size", "latency", "recipe", "fresh", "trusted", "calibration"} <= asked
    assert not (tmp_path / "candidate").exists()
    assert {"reuse", "facts", "probe"} <= report.seconds.keys()
    assert not {"train", "export"} & report.seconds.keys()
    assert any("v2 answers as the teacher does on" in w for w in report.warnings)


def test_release_that_does_no_better_faces_no_label(tmp_path: Path) -> None:
    job = job_with(tmp_path, v1="incumbent")
    report = repair.repair(context_of(tmp_path, job))
    assert isinstance(report.decision, Rejected)
    assert "v1 answers as the teacher does on" in report.decision.reasons[0]
    assert (report.faced, report.gates, report.variants, report.chosen) == (False, (), (), None)
    assert "probe" not in report.seconds


def test_release_that_cannot_be_run_is_left_out(tmp_path: Path) -> None:
    job = job_with(tmp_path, v1="teacher")
    write(tmp_path / "best" / "1" / "model.onnx", b"no graph")
    report = repair.repair(context_of(tmp_path, job))
    assert report.decision == Rejected(reasons=("no earlier release can be run",))
    assert any("release v1 cannot be reused" in w for w in report.warnings)


def test_chosen_release_is_judged_again_with_the_rows_of_now(tmp_path: Path) -> None:
    job = job_with(tmp_path, v1="teacher", v2="incumbent")
    write_table(tmp_path / "fresh.parquet", rows_of(80), threshold=0.5)
    first = repair.repair(context_of(tmp_path, job))
    write_table(tmp_path / "fresh.parquet", rows_of(800), threshold=0.5)
    shutil.copytree(tmp_path / "best" / "1", tmp_path / "best" / "3")  # another order by now
    turned = replace(job, mode="gate", releases=("other", "v2", "v1"))
    again = repair.gate(context_of(tmp_path, turned))
    assert (first.reused, again.reused) == ("v1", "v1")
    assert again.rows["gate"] > first.rows["gate"]
    assert again.decision == Accepted(variant="reuse")


def test_release_that_may_not_serve_any_more_is_refused(tmp_path: Path) -> None:
    job = job_with(tmp_path, v1="teacher")
    repair.repair(context_of(tmp_path, job))
    report = repair.gate(context_of(tmp_path, replace(job, mode="gate", releases=())))
    assert report.decision == Rejected(
        reasons=("release v1, which was chosen before, may not serve any more",)
    )
    assert report.faced is False


def test_other_bytes_under_the_name_of_the_release_are_not_judged(tmp_path: Path) -> None:
    job = job_with(tmp_path, v1="teacher")
    repair.repair(context_of(tmp_path, job))
    shutil.copy(tmp_path / "incumbent" / "model.onnx", tmp_path / "best" / "1" / "model.onnx")
    with pytest.raises(BadJob, match=r"best/1/model\.onnx is not the file of v1"):
        repair.gate(context_of(tmp_path, replace(job, mode="gate")))


def test_recipe_after_a_refused_release_makes_a_student_in_the_same_folder(tmp_path: Path) -> None:
    job = job_with(tmp_path, v1="incumbent")
    refused = pipeline.run(tmp_path)
    assert isinstance(refused.decision, Rejected)
    tried = Tried(name="reuse", number=None, sha256=None, reasons=refused.decision.reasons)
    report = repair.repair(context_of(tmp_path, replace(job, tried=(tried,))))
    assert (report.recipe_name, report.recipe, report.reused) == ("warm", 1, None)
    assert (tmp_path / "candidate" / "model.onnx").is_file()
