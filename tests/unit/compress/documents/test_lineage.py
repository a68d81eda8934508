"""Lineage: hashes of what a file was made from, the same bytes for the same making."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from compress_rows import tiny_job
from judged_reports import report

from redistill.compress.documents import lineage as module
from redistill.compress.documents.lineage import Lineage, gather, source, to_json
from redistill.compress.plan import JobSpec, Report
from redistill.files import sha256_of


@pytest.fixture
def job(tmp_path: Path) -> JobSpec:
    return tiny_job(tmp_path, parent="r11-aaaaaaaa", seed=5)


def of(folder: Path, job: JobSpec, given: Report | None = None) -> Lineage:
    trained = source("training window", folder / "fresh.parquet")
    assert trained is not None
    return gather(
        folder, job, given or report(), model=folder / "teacher" / "model.onnx",
        trained_on=(trained,), labels_in_loss=False,
    )  # fmt: skip


def test_parent_teacher_data_recipe_seed_and_code_are_there_by_hash(
    tmp_path: Path, job: JobSpec
) -> None:
    found = of(tmp_path, job)
    assert found.parent is not None
    assert found.parent.version == "r11-aaaaaaaa"
    assert found.parent.sha256 == sha256_of(tmp_path / "incumbent" / "model.onnx")
    assert found.parent.training_sha256 is not None
    assert found.teacher is not None
    assert found.sha256 == found.teacher.sha256 == sha256_of(tmp_path / "teacher" / "model.onnx")
    assert found.trained_on[0].sha256 == sha256_of(tmp_path / "fresh.parquet")
    assert [s.role for s in found.judged_on] == ["fresh", "trusted"]
    assert (found.seed, found.recipe, found.variant) == (5, "warm", "static_int8")
    assert found.operators
    assert found.parameters > 0
    assert found.libraries["numpy"] == "2.1.0"
    assert found.cpu_flags == ("avx2", "avx512_vnni")


def test_the_same_making_gives_the_same_bytes_whatever_it_took(
    tmp_path: Path, job: JobSpec
) -> None:
    first = to_json(of(tmp_path, job))
    slower = report(cost=None, seconds={"total": 99.0})
    assert to_json(of(tmp_path, job, slower)) == first
    assert list(json.loads(first)) == sorted(json.loads(first))
    assert to_json(of(tmp_path, replace(job, seed=6))) != first


def test_what_was_brought_has_no_making(tmp_path: Path, job: JobSpec) -> None:
    brought = report(recipe_name=None, chosen="incumbent")
    model = tmp_path / "incumbent" / "model.onnx"
    found = gather(tmp_path, job, brought, model=model, trained_on=(), labels_in_loss=None)
    assert found.parent is None, "it is the incumbent itself"
    assert (found.recipe, found.variant, found.training, found.labels_in_loss) == (
        None,
        None,
        {},
        None,
    )


def test_an_earlier_release_was_trained_by_no_job_that_takes_it_again(
    tmp_path: Path, job: JobSpec
) -> None:
    again = report(recipe_name="reuse", chosen="r3-aaaaaaaa")
    model = tmp_path / "teacher" / "model.onnx"
    found = gather(tmp_path, job, again, model=model, trained_on=(), labels_in_loss=None)
    assert (found.recipe, found.variant, found.training) == ("reuse", None, {})


def test_times_of_rows_are_told_and_missing_ones_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    times = pa.array([1_000_000, None, 3_500_000], pa.timestamp("us", tz="UTC"))
    pq.write_table(pa.table({"served_at": times, "secret": [1.5, 2.5, 3.5]}), path)
    found = source("fresh", path)
    assert found is not None
    assert (found.rows, found.first, found.last) == (
        3, "1970-01-01T00:00:01+00:00", "1970-01-01T00:00:03.500000+00:00"
    )  # fmt: skip
    pq.write_table(pa.table({"served_at": times.slice(1, 1)}), path)
    none = source("fresh", path)
    assert none is not None
    assert (none.first, none.last) == (None, None)
    pq.write_table(pa.table({"a": np.ones(2)}), path)
    untimed = source("trusted", path)
    assert untimed is not None
    assert (untimed.rows, untimed.first) == (2, None)
    assert source("none", tmp_path / "missing.parquet") is None


def test_code_is_known_by_version_and_by_the_hash_of_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = module.code.__wrapped__()
    assert usual == module.code.__wrapped__()
    for name in ("a.py", "compress/b.py", "streams/c.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    first = module.code.__wrapped__()
    assert first.sha256 != usual.sha256
    (tmp_path / "streams" / "c.py").write_text("another")
    assert module.code.__wrapped__() == first, "it makes no model"
    (tmp_path / "compress" / "b.py").write_text("another")
    assert module.code.__wrapped__() != first
