"""How each recipe comes by its weights."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from compress_rows import context_of, tiny_job

from redistill.compress import build, data, weights
from redistill.compress.errors import BadModel
from redistill.compress.plan import JobSpec, Training
from redistill.compress.shrink import students
from redistill.compress.shrink.trained import Architecture
from redistill.files import sha256_of, sha256_of_tree


def made(folder: Path, job: JobSpec) -> weights.Weights:
    context = context_of(folder, job)
    fresh, reference, trusted = (context.read(r) for r in ("fresh", "reference", "trusted"))
    training = weights.training_of(context.recipe, job.training)
    prepared = data.prepare(replace(job, training=training), fresh, reference, trusted)
    return weights.made(context, prepared, training)


def test_from_scratch_trains_longer_and_on_more_of_what_was_known() -> None:
    given = Training(epochs=3, replay_ratio=1.0)
    assert weights.training_of("warm", given) == given
    assert weights.training_of("requantize", given) == given
    scratch = weights.training_of("scratch", given)
    assert (scratch.epochs, scratch.replay_ratio) == (6, 4.0)
    assert weights.training_of("scratch", Training(replay_ratio=9.0)).replay_ratio == 9.0


def test_warm_keeps_the_architecture_and_scratch_brings_its_own(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, training=Training(epochs=1, min_replay_rows=0, hidden=(7,)))
    hidden = {
        name: students.load(
            made(tmp_path, replace(job, recipes=(name,))).folder
        ).architecture.hidden
        for name in ("warm", "scratch")
    }
    assert hidden == {"warm": (), "scratch": (7,)}


def test_scratch_is_as_wide_as_what_gate_size_lets_through(tmp_path: Path) -> None:
    small = {"size": {"max_bytes": 8_000, "max_teacher_ratio": 100.0}}
    job = tiny_job(
        tmp_path, recipes=("scratch",), candidates=("fp32",), policy=small,
        training=Training(epochs=1, min_replay_rows=0),
    )  # fmt: skip
    context = context_of(tmp_path, job)
    candidates, _ = build.build(
        context, *(context.read(r) for r in ("fresh", "reference", "trusted"))
    )
    assert students.load(candidates.training).architecture.hidden == (24, 24)
    assert candidates.variants["fp32"].stat().st_size <= 8_000
    said = "the built-in student has layers [24, 24], not [384, 384]: 8,000 are allowed"
    assert said in context.warnings
    assert said in candidates.facts.warnings


def test_requantize_trains_nothing_and_needs_no_teacher(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, recipes=("requantize",))
    shutil.rmtree(tmp_path / "teacher")
    found = made(tmp_path, job)
    assert sha256_of_tree(found.folder) == sha256_of_tree(tmp_path / "incumbent" / "training")
    assert not list((tmp_path / "work").glob("train-*"))


def test_requantized_graphs_are_calibrated_with_the_fresh_rows_of_now(tmp_path: Path) -> None:
    variants, facts = [], []
    for name, rows in (("a", 400), ("b", 300)):
        job = tiny_job(
            tmp_path / name, rows=rows, recipes=("requantize",), candidates=("static_int8",)
        )
        context = context_of(tmp_path / name, job)
        tables = [context.read(r) for r in ("fresh", "reference", "trusted")]
        candidates, _ = build.build(context, *tables)
        exported, int8 = (
            next((tmp_path / name / "work").glob(f"{step}-*")) for step in ("export", "static_int8")
        )
        variants.append({"fp32": sha256_of(exported), "static_int8": sha256_of(int8)})
        facts.append(candidates.facts.counts["train"])
    first, second = variants
    assert first["fp32"] == second["fp32"]
    assert first["static_int8"] != second["static_int8"]
    assert facts == [200, 150], "what calibrated it is left out of the gates later"


@pytest.mark.parametrize("recipe", ["warm", "requantize"])
def test_weights_of_another_model_are_refused(tmp_path: Path, recipe: str) -> None:
    job = tiny_job(tmp_path, recipes=(recipe,))
    other = students.build(Architecture(inputs=9, hidden=(), outputs=2), seed=0)
    students.arrays(other).save(tmp_path / "incumbent" / "training")
    with pytest.raises(BadModel, match="has 9 inputs"):
        made(tmp_path, job)


def test_the_same_recipe_gives_the_same_bytes_elsewhere(tmp_path: Path) -> None:
    keys = set()
    for name in ("a", "b"):
        job = tiny_job(tmp_path / name, recipes=("scratch",))
        found = made(tmp_path / name, job)
        keys.add((found.key, sha256_of_tree(found.folder)))
    assert len(keys) == 1
