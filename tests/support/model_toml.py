"""Texts of ``model.toml``: the shortest one, and one with every section."""

from __future__ import annotations

from pathlib import Path

import pytest

from redistill.workers.errors import SpecError
from redistill.workers.models import spec_file
from redistill.workers.models.spec import ModelSpec

WATCH = """
format = 1
name = "credit"
[schema]
features = { income = { type = "float", min = 0 }, age = "int", region = ["EU", "US"] }
classes = ["repay", "default"]
"""

REPAIR = """
format = 1
name = "credit"
task = "classification"
level = "repair"
[model]
version = "2026-03"
onnx = "student.onnx"
training = "student/"
[teacher]
onnx = "teacher.onnx"
torch = "credit.nets:Teacher"
weights = "teacher.safetensors"
output_kind = "probabilities"
[schema]
features = { "p[0-3]" = { type = "float", min = 0, max = 1 }, region = ["EU", "US"] }
order = ["region", "p[0-3]"]
classes = ["repay", "default"]
slices = ["region"]
[data]
reference = "reference.parquet"
trusted = "trusted.parquet"
time = "served_at"
[labels]
wait_days = 10
sources = ["ledger", "analyst"]
[watch]
tolerance_points = 2
[serving]
batch = 8
[repair]
approval = "on_request"
max_bytes = 400_000
max_p95_ms = 2.0
max_jobs_per_day = 3
wait_hours = 12
schedule = "0 3 * * SUN"
[gates]
agreement = { least = 0.9 }
[training]
epochs = 4
[privacy]
store_features = ["p[0-2]"]
retention_days = 7
"""


def write_files(folder: Path) -> Path:
    """Put files of the names that ``REPAIR`` names into a folder; there is a byte in each."""
    for name in (
        "student.onnx",
        "teacher.onnx",
        "teacher.safetensors",
        "reference.parquet",
        "trusted.parquet",
    ):
        (folder / name).write_bytes(b"x")
    (folder / "student").mkdir()
    return folder


def load(folder: Path, text: str) -> ModelSpec:
    """Read a text as the ``model.toml`` of a folder."""
    (folder / "model.toml").write_text(text)
    return spec_file.read(folder)


def refused(folder: Path, text: str) -> list[str]:
    """What is said to be wrong with a text as the ``model.toml`` of a folder, line by line."""
    with pytest.raises(SpecError) as caught:
        load(folder, text)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]
