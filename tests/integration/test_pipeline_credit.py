"""``redistill.compress.pipeline`` on a model with categories and missing values: the made-up credit
decision."""

from __future__ import annotations

import shutil
from pathlib import Path

import credit
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from any_speed import ANY_SPEED

from redistill.compress import pipeline
from redistill.compress.judge.graph import Graph, GraphCall
from redistill.compress.plan import Accepted, GraphSpec, JobSpec, to_json
from redistill.compress.shrink import students

GRAPH = GraphSpec(
    features=credit.FEATURES,
    classes=credit.CLASSES,
    output="probabilities",
    output_kind="probabilities",
    slices={"region": credit.REGIONS, "age": ()},
    groups=("region", "age"),
    categories={"region": credit.REGIONS},
)
# thirty thousandths of a millisecond: int8 gains nothing at 5,000 weights, and the clock is coarse
POLICY = {**ANY_SPEED, "quantized": {"max_size_ratio": 2.0}}


def as_indices(columns: dict) -> pa.Table:
    """Rows as a job holds them: float32, categories as indices, NaN as null."""
    x = credit.matrix(columns)
    table = {n: pa.array(x[:, j], pa.float32()) for j, n in enumerate(credit.FEATURES)}
    return pa.table(table | {"label": pa.array(columns["label"].tolist(), pa.string())})


@pytest.fixture(scope="module")
def job_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("credit")
    credit.build(source, seed=3)
    folder = tmp_path_factory.mktemp("job")
    for role, name in (("incumbent", "student"), ("teacher", "teacher")):
        (folder / role).mkdir()
        shutil.copy(source / f"{name}.onnx", folder / role / "model.onnx")
    shutil.copytree(source / "student", folder / "incumbent" / "training")
    rng = np.random.default_rng(5)
    pq.write_table(as_indices(credit.rows(rng, 4_000)), folder / "reference.parquet")
    pq.write_table(as_indices(credit.rows(rng, 3_000)), folder / "trusted.parquet")
    fresh = as_indices(credit.rows(rng, 2_000, boom=True))
    split = np.where(np.arange(2_000) % 2 == 1, "gate", "train")
    labels = [
        v if s == "gate" and i % 5 == 0 else None
        for i, (v, s) in enumerate(zip(fresh["label"].to_pylist(), split, strict=True))
    ]
    fresh = fresh.set_column(7, "label", pa.array(labels, pa.string()))
    fresh = fresh.append_column("split", pa.array(split.tolist()))
    pq.write_table(fresh, folder / "fresh.parquet")
    job = JobSpec(job_id="j", model="credit", graph=GRAPH, policy=POLICY)
    (folder / "job.json").write_bytes(to_json(job))
    return folder


def test_a_shift_that_the_teacher_knows_is_repaired(job_folder: Path) -> None:
    report = pipeline.run(job_folder)
    assert isinstance(report.decision, Accepted), report.decision
    columns = credit.rows(np.random.default_rng(9), 3_000, boom=True)
    x, y = credit.matrix(columns), credit.targets(columns)
    calls = {"incumbent": GraphCall.student(GRAPH), "candidate": GraphCall.made(GRAPH)}
    before, after = (
        float((Graph(job_folder / role / "model.onnx", call).classes(x) == y).mean())
        for role, call in calls.items()
    )
    assert after > before + 0.1
    names = {g.name for g in report.gates}
    assert {"trusted", "worst_class", "worst_group", "negative_flips", "f1"} <= names
    assert {"size", "latency", "memory", "throughput", "calibration"} <= names
    assert [g.key for g in report.gaps] == ["region", "age"]
    region, age = report.gaps
    assert set(region.accuracy["candidate"]) == set(credit.REGIONS)
    assert len(age.accuracy["candidate"]) == 4, "a number is cut into bands"
    assert set(region.added) == {"incumbent", "teacher"}
    (chosen,) = (v for v in report.variants if v.name == report.chosen)
    assert chosen.temperature is not None
    assert chosen.measures["calibration_error"].value < 0.1


def test_missing_values_and_unseen_categories_are_answered(job_folder: Path) -> None:
    pipeline.run(job_folder)
    x = credit.matrix(credit.rows(np.random.default_rng(1), 50))
    x[:10, :] = np.nan
    x[10:20, 6] = -1.0
    x[20:30, 0] = np.inf
    graph = Graph(job_folder / "candidate" / "model.onnx", GraphCall.made(GRAPH))
    assert np.isfinite(graph.outputs(x)).all()
    student = students.load(job_folder / "candidate" / "training")
    assert student.architecture.categories == ((6, 3),)
