from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from redistill import onnxfile
from redistill.compress.errors import BadData, BadModel
from redistill.compress.judge.graph import INTEGER_OPERATORS, Graph, GraphCall, session
from redistill.compress.shrink import calibrate, distill, export, quantize, students
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
    quantize.static_int8(out / "fp32.onnx", out / "static.onnx", some_rows(100))
    quantize.dynamic_int8(out / "fp32.onnx", out / "dynamic.onnx")
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
    assert sorted(p.name for p in folder.iterdir()) == ["dynamic.onnx", "fp32.onnx", "static.onnx"]


def test_export_and_quantization_repeat_their_bytes(
    student: students.Mlp, folder: Path, tmp_path: Path
) -> None:
    export.to_onnx(students.arrays(student), tmp_path / "fp32.onnx")
    quantize.static_int8(tmp_path / "fp32.onnx", tmp_path / "static.onnx", some_rows(100))
    quantize.dynamic_int8(tmp_path / "fp32.onnx", tmp_path / "dynamic.onnx")
    for name in ("fp32.onnx", "static.onnx", "dynamic.onnx"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("name", ["static.onnx", "dynamic.onnx"])
def test_quantized_graphs_compute_on_integers_and_agree(folder: Path, name: str) -> None:
    session(folder / name, optimised=folder.parent / f"{folder.name}-optimised")
    made = onnxfile.operator_types(folder.parent / f"{folder.name}-optimised")
    assert set(made) & INTEGER_OPERATORS
    x = some_rows(500, seed=3)
    exact = Graph(folder / "fp32.onnx", CALL).classes(x)
    assert (Graph(folder / name, CALL).classes(x) == exact).mean() > 0.9


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
    ],
)
def test_every_architecture_answers_what_torch_answers(
    activation: str, over: dict[str, Any], tmp_path: Path
) -> None:
    given: dict[str, Any] = {"inputs": 5, "hidden": (7, 6), "outputs": 3, "activation": activation}
    student = students.build(Architecture(**given | over), seed=2).eval()
    x = some_rows(64, seed=5) * np.float32(0.01)
    x[:, 4] *= 100
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


def test_static_quantization_needs_rows(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadData, match="calibration"):
        quantize.static_int8(
            folder / "fp32.onnx", tmp_path / "x.onnx", np.empty((0, 5), np.float32)
        )


def test_quantizing_what_is_no_graph_says_so(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"bad")
    with pytest.raises(BadModel, match="dynamic quantization failed"):
        quantize.dynamic_int8(tmp_path / "bad.onnx", tmp_path / "x.onnx")
    with pytest.raises(BadModel, match="static quantization failed"):
        quantize.static_int8(tmp_path / "bad.onnx", tmp_path / "x.onnx", some_rows(8))


@pytest.mark.parametrize(
    ("fresh", "replay", "expected"),
    [(1000, 1000, (256, 256)), (100, 1000, (100, 412)), (50, 0, (50, 0))],
)
def test_calibration_rows_come_from_both_domains(
    fresh: int, replay: int, expected: tuple[int, int]
) -> None:
    new, old = np.ones((fresh, 2), np.float32), np.zeros((replay, 2), np.float32)
    some = calibrate.calibration_rows(new, old, seed=0)
    assert (int(some[:, 0].sum()), int((some[:, 0] == 0).sum())) == expected
