"""Rows of a trusted file: from columns of any type to what the gates read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from odd_names import ODD

from redistill.compress import groups, rows
from redistill.streams.wire.block import Feature, Schema
from redistill.workers.models import dataset, spec_file
from redistill.workers.models.spec import ModelSpec

SPEC = """
format = 1
name = "credit"
[schema]
features = { x = "float" }
classes = ["repay", "default"]
slices = ["channel"]
"""
ROWS = 120


def spec_of(folder: Path) -> ModelSpec:
    (folder / "model.toml").write_text(SPEC)
    return spec_file.read(folder)


def trusted(folder: Path, **more: Any) -> Path:
    labels = ["repay", "default"] * (ROWS // 2)
    path = folder / "trusted.parquet"
    pq.write_table(pa.table({"x": np.arange(ROWS, dtype=np.float32), "label": labels} | more), path)
    return path


def test_segments_of_trusted_rows_are_slices_of_the_gates(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    channels = ["web", "app", "app"] * (ROWS // 3)
    read, problems = dataset.read(
        trusted(tmp_path, channel=channels), spec, "trusted", need_labels=True
    )
    assert problems == []
    assert read is not None
    assert not any("slices" in w for w in read.warnings)
    job = tmp_path / "job.parquet"
    job.write_bytes(read.to_parquet(spec))
    graph = spec.graph()
    found, _ = rows.read_trusted(job, graph)
    of_slices = groups.by_slice(found, graph, groups.bands(found, graph))
    assert {name: int(of.sum()) for name, of in of_slices.items()} == {
        "channel=web": ROWS // 3,
        "channel=app": 2 * ROWS // 3,
        "channel=other": 0,
    }


def test_a_slice_that_the_trusted_rows_do_not_have_is_told(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    read, problems = dataset.read(trusted(tmp_path), spec, "trusted", need_labels=True)
    assert problems == []
    assert read is not None
    assert [w for w in read.warnings if "slices" in w] == [
        "trusted: without the columns channel no gate looks at these slices and groups"
    ]


def problems_of(path: Path, folder: Path) -> str:
    found, problems = dataset.read(path, spec_of(folder), "trusted", need_labels=True)
    assert found is None
    return "\n".join(problems)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("x", np.datetime64("2026-03-01", "us"), "x is declared as float and holds timestamp[us]"),
        ("x", b"1", "x is declared as float and holds binary"),
        ("x", [1.0], "x is list<"),
        ("x", "n/a", "x is declared as float, holds text (n/a) in 120 rows, the first in row 1"),
        ("label", b"\xff", "label holds bytes that are no UTF-8 (row 1)"),
        ("channel", float("inf"), "channel is infinite (row 1)"),
        (
            "label",
            "maybe",
            "120 values of label are no classes (maybe; classes are repay, default)",
        ),
    ],
)
def test_a_column_of_another_type_is_said(
    tmp_path: Path, column: str, value: Any, said: str
) -> None:
    assert said in problems_of(trusted(tmp_path, **{column: [value] * ROWS}), tmp_path)


def test_blank_labels_are_missing_ones(tmp_path: Path) -> None:
    path = trusted(tmp_path, label=["repay", "default", " ", "repay"] * (ROWS // 4))
    found, problems = dataset.read(path, spec_of(tmp_path), "trusted", need_labels=False)
    assert problems == []
    assert found is not None
    assert found.labels is not None
    assert found.labels[:4].tolist() == [0, 1, -1, 0]
    assert "trusted: 30 rows have no label" in found.warnings


def test_more_rows_than_memory_holds_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = trusted(tmp_path)
    monkeypatch.setattr(dataset, "MAX_VALUES", (ROWS - 1) * 9)
    said = "has more than 119 rows, which is what is held of 1 features: take a sample"
    assert said in problems_of(path, tmp_path)
    csv = tmp_path / "t.csv"
    csv.write_text("x,label\n" + "1,repay\n" * ROWS)
    assert said in problems_of(csv, tmp_path)


def test_a_broken_part_is_named(tmp_path: Path) -> None:
    trusted(tmp_path).rename(tmp_path / "a.parquet")
    folder = tmp_path / "rows"
    folder.mkdir()
    (tmp_path / "a.parquet").rename(folder / "a.parquet")
    (folder / "b.parquet").write_bytes(b"PAR1")
    assert "b.parquet cannot be read as Parquet" in problems_of(folder, tmp_path)


def test_columns_of_any_name_reach_the_job(tmp_path: Path) -> None:
    """Also those that are called as a job's own columns."""
    own = ("prediction", "source", "split", "p_include", "id_hash", "served_at", "scores")
    names = tuple(dict.fromkeys(n for n in (*ODD, *own, "feature.source") if n != "label"))
    schema = Schema(
        features=tuple(Feature(name=n) for n in names), classes=("a", "b"), slices=("feature.x",)
    )
    spec = replace(spec_of(tmp_path), schema=schema)
    values = np.arange(float(len(names) * ROWS)).reshape(ROWS, -1)
    table: dict[str, Any] = {n: values[:, j] for j, n in enumerate(names)}
    table |= {"label": ["a", "b"] * (ROWS // 2), "feature.x": ["s", "t"] * (ROWS // 2)}
    pq.write_table(pa.table(table), tmp_path / "trusted.parquet")
    read, problems = dataset.read(tmp_path / "trusted.parquet", spec, "trusted", need_labels=True)
    assert problems == []
    assert read is not None
    job = tmp_path / "job.parquet"
    job.write_bytes(read.to_parquet(spec))
    found, warnings = rows.read_trusted(job, spec.graph())
    assert warnings == []
    np.testing.assert_array_equal(found.x, values.astype(np.float32))
    assert found.segments == {"feature.x": ["s", "t"] * (ROWS // 2)}
    assert (found.y >= 0).all()
    assert found.source == [None] * ROWS
    assert not found.gate.any()
