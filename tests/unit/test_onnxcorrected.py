"""Scores with a bias and a factor, inside the graph: any graph that serves, as often as needed."""

from __future__ import annotations

from pathlib import Path

import linear
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from redistill import onnxcorrected, onnxfile
from redistill.onnxports import OnnxError
from redistill.stats import softmax

WEIGHTS = np.array([[2.0, -1.0], [0.0, 1.0], [0.5, 0.0]], np.float32)
BIAS = np.array([0.7, -0.7], np.float32)


def scores_of(path: Path, rows: np.ndarray) -> np.ndarray:
    onnxfile.check(path)
    session = onnxfile.session(path)
    assert [o.name for o in session.get_outputs()] == ["y"]
    (out,) = session.run(None, {session.get_inputs()[0].name: rows})
    return np.asarray(out)


def correct(path: Path, out: Path, output: str, kind: str = "logits", by: float = 2.0) -> Path:
    data = onnxcorrected.corrected(
        path.name, path.read_bytes(), output=output, kind=kind, made="y", bias=BIAS, factor=1 / by  # type: ignore[arg-type]
    )  # fmt: skip
    out.write_bytes(data)
    return out


def test_logits_get_the_bias_and_the_temperature_as_often_as_they_are_corrected(
    tmp_path: Path,
) -> None:
    graph = linear.graph(tmp_path / "g.onnx", WEIGHTS)
    name = onnxfile.session(graph).get_outputs()[0].name
    rows = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    before = rows @ WEIGHTS
    once = correct(graph, tmp_path / "1.onnx", name)
    np.testing.assert_allclose(scores_of(once, rows), (before + BIAS) / 2, rtol=1e-5)
    twice = correct(once, tmp_path / "2.onnx", "y")
    expected = ((before + BIAS) / 2 + BIAS) / 2
    np.testing.assert_allclose(scores_of(twice, rows), expected, rtol=1e-5)
    same = correct(graph, tmp_path / "3.onnx", name)
    assert same.read_bytes() == once.read_bytes()


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_probabilities_become_logits_and_other_outputs_are_dropped(
    tmp_path: Path, kind: int
) -> None:
    rows = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])
    p = helper.make_tensor_value_info("p", kind, ["n", 2])
    label = helper.make_tensor_value_info("label", TensorProto.INT64, ["n"])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Softmax", ["z"], ["soft"], axis=1),
        helper.make_node("Cast", ["soft"], ["p"], to=kind),
        helper.make_node("ArgMax", ["soft"], ["label"], axis=1, keepdims=0),
    ]
    weights = helper.make_tensor("w", TensorProto.FLOAT, WEIGHTS.shape, WEIGHTS.ravel())
    graph = helper.make_graph(nodes, "g", [rows], [label, p], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "g.onnx")
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    out = correct(tmp_path / "g.onnx", tmp_path / "o.onnx", "p", "probabilities", 1.0)
    expected = softmax((x @ WEIGHTS).astype(np.float64)) * np.exp(BIAS)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax(scores_of(out, x)), expected, rtol=1e-4)


def test_output_that_is_not_there_is_told(tmp_path: Path) -> None:
    graph = linear.graph(tmp_path / "g.onnx", WEIGHTS)
    with pytest.raises(OnnxError, match="has no output 'nothing'"):
        correct(graph, tmp_path / "o.onnx", "nothing")
