"""Perceptrons are sized by what may be served, and learn on from a training folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from redistill.compress.errors import BadModel
from redistill.compress.plan import Training
from redistill.compress.shrink import mlp, students
from redistill.compress.shrink.lesson import Lesson, Wanted
from redistill.compress.shrink.trained import read

TRAINING = Training(epochs=1, hidden=(32, 8))


def lesson(**fields: object) -> Lesson:
    x = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    given: dict[str, object] = {
        "x": x,
        "logits": np.stack([x[:, 0], -x[:, 0]], axis=1),
        "labels": None,
        "training": TRAINING,
        "seed": 0,
    }
    return Lesson(**given | fields)  # type: ignore[arg-type]


def test_layers_are_narrowed_alike_and_told() -> None:
    size, cut = mlp.sized(Wanted(inputs=2, outputs=2, most_bytes=5_000, training=TRAINING))
    assert size.hidden == (16, 4)
    assert cut == "layers [16, 4], not [32, 8]"


def test_learning_on_keeps_architecture_and_scaling_of_its_inputs(tmp_path: Path) -> None:
    size, _ = mlp.sized(Wanted(inputs=2, outputs=2, training=TRAINING))
    mlp.fit(size, lesson(), tmp_path / "a")
    mlp.fit_again(tmp_path / "a", lesson(x=5 + lesson().x), tmp_path / "b")
    a, b = read(tmp_path / "a"), read(tmp_path / "b")
    assert a.architecture == b.architecture
    assert (a.tensors["mean"] == b.tensors["mean"]).all()
    assert (a.tensors["layers.0.weight"] != b.tensors["layers.0.weight"]).any()


def test_a_graph_that_answers_otherwise_than_torch_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, _ = mlp.sized(Wanted(inputs=2, outputs=2, training=TRAINING))
    mlp.fit(size, lesson(), tmp_path / "a")
    other = students.build(size, seed=9)
    monkeypatch.setattr(mlp.students, "arrays", lambda student, given=students.arrays: given(other))
    with pytest.raises(BadModel, match="differs from torch"):
        mlp.to_onnx(tmp_path / "a", tmp_path / "x.onnx", lesson().x)
