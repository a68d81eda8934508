"""Gates of a pair of files: what is judged, under which policy, and what is kept."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import linear
import numpy as np
import pytest

from redistill.compress.judge import policy
from redistill.compress.plan import Accepted, Rejected
from redistill.workers.errors import UsageError
from redistill.workers.models.gate_policy import GatePolicy
from redistill.workers.models.spec_file import read
from redistill.workers.onboarding import file_gate
from redistill.workers.onboarding.file_gate import JudgedPair

GOOD = np.array([[-1, 1], [-1, 1], [0, 0]], np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return linear.build(tmp_path_factory.mktemp("files") / "m").parent


def judge(files: Path, candidate: Path, asked: GatePolicy | None = None) -> JudgedPair:
    spec = read(files / "model.toml")
    asked = asked or GatePolicy(spec=spec, schema=spec.schema)
    return file_gate.judge(candidate, files / "model.onnx", files / "trusted.parquet", policy=asked)


def test_candidate_is_admitted_by_the_gates_of_an_added_version(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = judge(files, files / "teacher.onnx")
    report = found.report
    assert isinstance(report.decision, Accepted)
    assert (report.mode, report.rows["trusted"]) == ("baseline", 2_000)
    assert {"loads", "kept", "trusted", "worst_class", "f1"} <= {g.name for g in report.gates}
    spec = read(files / "model.toml")
    assert report.policy_sha256 == policy.sha256(policy.of(spec.policy()))
    given = (files / "teacher.onnx").read_bytes()
    assert found.sha256["candidate"] == hashlib.sha256(given).hexdigest()
    assert list(tmp_path.iterdir()) == [], "what it worked in is gone"


def test_worse_candidate_is_refused(files: Path, tmp_path: Path) -> None:
    bad = linear.graph(tmp_path / "bad.onnx", GOOD * np.array([[1], [-1], [1]], np.float32))
    decision = judge(files, bad).report.decision
    assert isinstance(decision, Rejected)
    assert any(r.startswith("trusted: ") for r in decision.reasons)


def test_kind_of_outputs_is_found_per_file_unless_it_is_told(files: Path, tmp_path: Path) -> None:
    forest = linear.forest(tmp_path / "forest.onnx")
    report = judge(files, forest).report
    assert report.variants[0].trusted_accuracy.value > 0.6
    measured = report.variants[0].measures["calibration_error"].value
    assert measured < 0.2, "probabilities are read as such"
    spec = read(files / "model.toml")
    told = GatePolicy(spec=spec, schema=spec.schema, kind_is_told=True)
    with pytest.raises(UsageError, match='output_kind must be "probabilities"'):
        judge(files, forest, told)


def test_files_that_name_other_classes_are_refused(files: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(files / "model.onnx")
    model.metadata_props.add(key="classes", value='["bad", "good"]')
    onnx.save(model, tmp_path / "named.onnx")
    forest = linear.forest(tmp_path / "forest.onnx")
    asked = replace(GatePolicy(spec=read(files / "model.toml")), schema=None)
    with pytest.raises(UsageError, match="the files name other classes"):
        file_gate.judge(forest, tmp_path / "named.onnx", files / "trusted.parquet", policy=asked)


def undeclared(files: Path, candidate: Path, rows: Path) -> JudgedPair:
    asked = replace(GatePolicy(spec=read(files / "model.toml")), schema=None)
    return file_gate.judge(candidate, files / "model.onnx", rows, policy=asked)


def numbers(seed: int) -> dict[str, Any]:
    x = np.random.default_rng(seed).normal(size=(1_500, 3))
    label = np.where(x[:, 0] + x[:, 1] > 0, "yes", "no")
    return {"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "label": label}


def test_baseline_that_knows_nothing_of_the_labels_is_told(files: Path, tmp_path: Path) -> None:
    """Equal models that are called with the wrong columns would pass without a word."""
    rows = numbers(1)
    right = linear.write_rows(tmp_path / "right.parquet", rows)
    wrong = linear.write_rows(
        tmp_path / "wrong.parquet",
        {"c": rows["c"], "d": rows["c"][::-1], "a": rows["a"], "label": rows["label"]},
    )
    told = {p: undeclared(files, files / "teacher.onnx", p).notes for p in (right, wrong)}
    assert not any("WARNING" in n for n in told[right])
    assert any(n.startswith("WARNING: the baseline is right on ") for n in told[wrong])


def test_models_are_tried_on_labelled_rows_however_they_lie(files: Path, tmp_path: Path) -> None:
    rows = numbers(2)
    many = {name: np.repeat(column, 2) for name, column in rows.items()}
    labels = [v if i % 2 else None for i, v in enumerate(many["label"])]
    half = linear.write_rows(tmp_path / "half.parquet", many | {"label": labels})
    flipped = linear.graph(tmp_path / "flipped.onnx", -GOOD)
    asked = replace(GatePolicy(spec=read(files / "model.toml")), schema=None)
    with pytest.raises(UsageError, match="outputs stand in another order"):
        file_gate.judge(files / "model.onnx", flipped, half, policy=asked)
