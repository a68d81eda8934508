from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from redistill.compress.errors import BadModel
from redistill.compress.judge.graph import Graph, GraphCall
from redistill.compress.shrink import distill, export, students
from redistill.compress.shrink.trained import Architecture


@pytest.fixture(scope="module")
def student() -> students.Mlp:
    made = students.build(
        Architecture(
            inputs=5,
            hidden=(64, 64),
            outputs=3,
            normalisation="standard",
            clip=8.0,
            categories=((4, 6),),
        ),
        seed=1,
    )
    made.fit_inputs(some_rows(200))
    return made


def some_rows(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5)) * [1, 1000, 0.01, 5, 0]
    x[:, 4] = rng.integers(-1, 6, n)
    x[rng.random((n, 5)) < 0.05] = np.nan
    return x.astype(np.float32)


@pytest.fixture(scope="module")
def folder(student: students.Mlp, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("onnx")
    export.to_onnx(students.arrays(student), out / "fp32.onnx")

    return out


CALL = GraphCall(features=tuple("abcde"), classes=3)


def test_the_exported_graph_answers_what_torch_answers(student: students.Mlp, folder: Path) -> None:
    x = some_rows(300, seed=7)
    expected = distill.predict_logits(student, x)
    assert Graph(folder / "fp32.onnx", CALL).outputs(x) == pytest.approx(expected, abs=1e-4)


def test_the_exported_file_is_self_contained_at_the_declared_opset(folder: Path) -> None:
    model = onnx.load(folder / "fp32.onnx", load_external_data=False)
    assert [o.version for o in model.opset_import if o.domain == ""] == [export.OPSET]
    assert [i.name for i in model.graph.input] == ["x"]
    assert [o.name for o in model.graph.output] == ["y"]
    assert sorted(p.name for p in folder.iterdir()) == ["fp32.onnx"]


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh"])
@pytest.mark.parametrize(
    "over",
    [
        {},
        {"dropout": 0.3, "clip": 2.0},
        {"normalisation": "standard", "clip": 1.5},
        {"normalisation": "standard", "categories": ((4, 6), (0, 2))},
        {"clip": 1.0, "categories": ((4, 6),)},
        {"categories": tuple((j, 3) for j in range(5))},
        {"hidden": ()},
        {"codes": ((1, 2), (3, 1)), "normalisation": "standard"},
        {"codes": ((0, 1),), "categories": ((4, 6),), "clip": 8.0},
    ],
)
def test_every_architecture_answers_what_torch_answers(
    activation: str, over: dict[str, Any], tmp_path: Path
) -> None:
    given: dict[str, Any] = {"inputs": 5, "hidden": (7, 6), "outputs": 3, "activation": activation}
    student = students.build(Architecture(**given | over), seed=2).eval()
    x = some_rows(64, seed=5) * np.float32(0.01)
    x[:, 4] *= 100
    if student.architecture.codes:
        student.codes.copy_(torch.from_numpy(x[: len(student.codes)]))
    else:
        student.fit_inputs(x[:32])
    export.to_onnx(students.arrays(student), tmp_path / "x.onnx")
    expected = distill.predict_logits(student, x)
    assert np.isfinite(expected).all()
    assert Graph(tmp_path / "x.onnx", CALL).outputs(x) == pytest.approx(expected, abs=1e-5)
    export.compare(tmp_path / "x.onnx", x, expected)


def test_a_graph_that_differs_from_torch_is_refused(student: students.Mlp, folder: Path) -> None:
    x = some_rows(20)
    expected = distill.predict_logits(student, x)
    export.compare(folder / "fp32.onnx", x, expected)
    expected[13, 1] += 0.01 * np.abs(expected).max()
    with pytest.raises(BadModel, match="differs from torch"):
        export.compare(folder / "fp32.onnx", x, expected)
