"""Slices that are no features: from the trusted file to the gates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from redistill.compress import data, rows
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


def trusted(folder: Path, **more: list[str]) -> Path:
    labels = ["repay", "default"] * (ROWS // 2)
    path = folder / "trusted.parquet"
    pq.write_table(
        pa.table({"x": np.arange(ROWS, dtype=np.float32), "label": labels, **more}), path
    )
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
    groups = data.slice_groups(found, graph)
    assert {name: int(of.sum()) for name, of in groups.items()} == {
        "channel=web": ROWS // 3,
        "channel=app": 2 * ROWS // 3,
        "channel=other": 0,
        "class=repay": ROWS // 2,
        "class=default": ROWS // 2,
    }


def test_a_slice_that_the_trusted_rows_do_not_have_is_told(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    read, problems = dataset.read(trusted(tmp_path), spec, "trusted", need_labels=True)
    assert problems == []
    assert read is not None
    assert [w for w in read.warnings if "slices" in w] == [
        "trusted: without the columns channel no gate looks at these slices"
    ]
