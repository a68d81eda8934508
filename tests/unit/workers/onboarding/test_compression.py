"""Compression in three calls: files in, a folder out; what is wrong is said before any work."""

from __future__ import annotations

import gc
from pathlib import Path

import linear
import numpy as np
import onnx
import pytest

from redistill import Compression
from redistill.compress.plan import read_report
from redistill.workers.errors import SpecError, UsageError
from redistill.workers.onboarding.compression import Compressed


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return linear.build(tmp_path_factory.mktemp("m") / "m")


@pytest.fixture(scope="module")
def found(spec: Path) -> Compressed:
    return Compression.read(spec).run(seconds=60)


def test_chosen_student_is_saved_whole(found: Compressed, tmp_path: Path) -> None:
    kept = found.save(tmp_path / "out")
    assert kept == tmp_path / "out" / "candidate"
    assert onnx.load(kept / "model.onnx").graph.input[0].name == "x"
    assert read_report((kept / "report.json").read_bytes()).chosen == found.best.name
    assert found.passed
    again = found.save(tmp_path / "out")
    assert [p.name for p in again.parent.iterdir()] == ["candidate"]
    assert found.best.name in found.front()


def test_same_seed_gives_the_same_bytes(found: Compressed, spec: Path) -> None:
    again = Compression.read(spec).run(seconds=60)
    assert {v.name: v.sha256 for v in again.report.variants} == {
        v.name: v.sha256 for v in found.report.variants
    }


def test_without_a_model_that_serves_the_teacher_stands_for_it(spec: Path, tmp_path: Path) -> None:
    text = "\n".join(
        line for line in spec.read_text().splitlines() if line != 'onnx = "model.onnx"'
    )
    linear.build(tmp_path / "m")
    (tmp_path / "m" / "model.toml").write_text(text.replace('level = "repair"', 'level = "watch"'))
    (tmp_path / "m" / "model.onnx").unlink()
    job = Compression.read(tmp_path / "m")
    assert job.contents["incumbent/model.onnx"] == job.contents["teacher/model.onnx"]


def test_all_that_is_wrong_with_the_files_is_said_at_once(tmp_path: Path) -> None:
    spec = linear.build(tmp_path / "m")
    rows = linear.rows(np.random.default_rng(0), 200)
    del rows["label"]
    linear.write_rows(tmp_path / "m" / "trusted.parquet", rows)
    (tmp_path / "m" / "teacher.onnx").write_bytes(b"PK\x03\x04" + b"\xff" * 9)
    with pytest.raises(SpecError) as refused:
        Compression.read(spec)
    said = str(refused.value)
    assert "has no column 'label'" in said
    assert "[teacher] onnx" in said


def test_what_is_needed_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text(
        'name = "x"\n[schema]\nfeatures = { a = "float" }\nclasses = ["no", "yes"]\n'
    )
    with pytest.raises(SpecError) as refused:
        Compression.read(tmp_path)
    told = str(refused.value)
    keys = ("[teacher] onnx", "[data] reference", "[data] trusted")
    assert all(f"{key} is missing" in told for key in keys)


def test_folder_of_its_own_goes_with_what_was_found(spec: Path) -> None:
    done = Compression.read(spec).run(seconds=60)
    folder = done.folder
    assert folder.is_dir()
    del done
    gc.collect()
    assert not folder.exists()


def test_budget_of_nothing_is_refused_in_a_sentence(spec: Path) -> None:
    with pytest.raises(UsageError, match="cannot be compressed: the deadline of 1e-06 s passed"):
        Compression.read(spec).run(seconds=1e-6)


def test_folder_that_cannot_be_written_is_told(found: Compressed, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot be written"):
        found.save(tmp_path / "file")
