"""int8 graphs: they compute on integers, agree with fp32, and repeat their bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from redistill import onnxfile
from redistill.compress.errors import BadData, BadModel
from redistill.compress.judge.graph import INTEGER_OPERATORS, Graph, GraphCall, session
from redistill.compress.shrink import export, quantize, students
from redistill.compress.shrink.trained import Architecture

CALL = GraphCall(features=tuple("abcde"), classes=3)
MAKERS = {
    "static": lambda fp32, out: quantize.static_int8(fp32, out, some_rows(100)),
    "dynamic": quantize.dynamic_int8,
}


def some_rows(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, 5)) * [1, 1000, 0.01, 5, 1]).astype(np.float32)


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    student = students.build(
        Architecture(inputs=5, hidden=(64, 64), outputs=3, normalisation="standard", clip=8.0),
        seed=1,
    )
    student.fit_inputs(some_rows(200))
    path = tmp_path_factory.mktemp("quantize") / "fp32.onnx"
    export.to_onnx(students.arrays(student), path)
    return path


@pytest.mark.parametrize("name", MAKERS)
def test_int8_computes_on_integers_is_smaller_and_agrees(
    fp32: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "int8.onnx"
    MAKERS[name](fp32, out)
    session(out, optimised=tmp_path / "optimised")
    assert set(onnxfile.operator_types(tmp_path / "optimised")) & INTEGER_OPERATORS
    assert out.stat().st_size < 0.6 * fp32.stat().st_size
    x = some_rows(500, seed=3)
    assert (Graph(out, CALL).classes(x) == Graph(fp32, CALL).classes(x)).mean() > 0.9


@pytest.mark.parametrize("name", MAKERS)
def test_the_same_graph_gives_the_same_bytes(fp32: Path, tmp_path: Path, name: str) -> None:
    for out in ("a", "b"):
        MAKERS[name](fp32, tmp_path / out)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_static_ranges_come_from_the_calibration_rows(fp32: Path, tmp_path: Path) -> None:
    quantize.static_int8(fp32, tmp_path / "wide", some_rows(100))
    quantize.static_int8(fp32, tmp_path / "narrow", 0.01 * some_rows(100))
    x = some_rows(500, seed=3)
    exact = Graph(fp32, CALL).outputs(x)
    wide, narrow = (
        float(np.abs(Graph(tmp_path / n, CALL).outputs(x) - exact).mean())
        for n in ("wide", "narrow")
    )
    assert wide < narrow  # ranges of other rows clip


def test_static_quantization_needs_rows(fp32: Path, tmp_path: Path) -> None:
    with pytest.raises(BadData, match="calibration"):
        quantize.static_int8(fp32, tmp_path / "x.onnx", np.empty((0, 5), np.float32))


@pytest.mark.parametrize("name", MAKERS)
def test_quantizing_what_is_no_graph_says_so(tmp_path: Path, name: str) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"bad")
    with pytest.raises(BadModel, match=f"{name} quantization failed"):
        MAKERS[name](tmp_path / "bad.onnx", tmp_path / "x.onnx")


def test_weights_in_16_bits_answer_alike_and_repeat_their_bytes(fp32: Path, tmp_path: Path) -> None:
    for out in ("a", "b"):
        quantize.fp16_weights(fp32, tmp_path / out)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").stat().st_size < 0.6 * fp32.stat().st_size
    x = some_rows(500, seed=3)
    half, exact = Graph(tmp_path / "a", CALL).outputs(x), Graph(fp32, CALL).outputs(x)
    assert np.abs(half - exact).max() < 2e-3 * np.abs(exact).max()


def test_weights_that_16_bits_cannot_hold_stay(tmp_path: Path) -> None:
    student = students.arrays(students.build(Architecture(inputs=5, hidden=(), outputs=3), seed=1))
    name = "layers.0.weight"
    large = replace(student, tensors={**student.tensors, name: 1e6 * student.tensors[name]})
    export.to_onnx(large, tmp_path / "fp32.onnx")
    quantize.fp16_weights(tmp_path / "fp32.onnx", tmp_path / "fp16.onnx")
    x = some_rows(50)
    outputs = [Graph(tmp_path / f"{n}.onnx", CALL).outputs(x) for n in ("fp16", "fp32")]
    assert np.isfinite(outputs[0]).all()
    assert np.allclose(*outputs, rtol=1e-5)


def test_signed_activations_make_another_graph(fp32: Path, tmp_path: Path) -> None:
    for name, signed in (("u8", False), ("s8", True)):
        quantize.static_int8(fp32, tmp_path / name, some_rows(100), signed=signed)
    x = some_rows(500, seed=3)
    u8, s8 = (Graph(tmp_path / name, CALL) for name in ("u8", "s8"))
    assert (tmp_path / "u8").read_bytes() != (tmp_path / "s8").read_bytes()
    assert (u8.classes(x) == s8.classes(x)).mean() > 0.95
