from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from redistill.compress.errors import BadModel
from redistill.compress.judge.answers import largest
from redistill.compress.judge.graph import Graph, GraphCall, check_file
from redistill.stats import softmax

CALL = GraphCall(features=("a", "b"), classes=2)
X = np.array([[1.0, 2.0], [3.0, 1.0], [0.0, 0.0]], np.float32)


def save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], **more: Any) -> Path:
    weights = numpy_helper.from_array(np.eye(2, dtype=np.float32), "w")
    graph = helper.make_graph(nodes, "g", inputs, outputs, [weights])
    opset = more.pop("opset", 20)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10, **more
    )
    onnx.save(model, str(path))
    return path


def info(name: str, shape: list[Any], kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def matrix(path: Path, **more: Any) -> Path:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return save(path, [node], [info("x", ["n", 2])], [info("y", ["n", 2])], **more)


def test_one_input_per_feature_is_fed_by_name(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Concat", ["a", "b"], ["x"], axis=1),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    path = save(
        tmp_path / "m.onnx",
        nodes,
        [info("b", ["n", 1]), info("a", ["n", 1])],
        [info("y", ["n", 2])],
    )
    assert Graph(path, CALL).outputs(X).tolist() == X.tolist()


def test_several_outputs_need_a_name(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Softmax", ["y"], ["p"], axis=1),
    ]
    path = save(
        tmp_path / "m.onnx",
        nodes,
        [info("x", ["n", 2])],
        [info("y", ["n", 2]), info("p", ["n", 2])],
    )
    with pytest.raises(BadModel, match="name the one"):
        Graph(path, CALL)
    with pytest.raises(BadModel, match="no output 'z'"):
        Graph(path, GraphCall(features=("a", "b"), classes=2, output="z"))
    by_name = GraphCall(features=("a", "b"), classes=2, output="p", output_kind="probabilities")
    graph = Graph(path, by_name)
    assert softmax(graph.logits(X)) == pytest.approx(graph.outputs(X), abs=1e-6)
    assert graph.classes(X).tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([info("x", ["n", 3])], r"shape \(n, 2\) was expected"),
        ([info("x", [4, 2])], "fixed to 4 rows"),
        ([info("x", ["n", 2], TensorProto.DOUBLE)], "must be float32"),
        ([info("x", ["n", 2]), info("z", ["n", 1])], "one input per feature"),
    ],
)
def test_other_inputs_are_refused(tmp_path: Path, inputs: list[Any], message: str) -> None:
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)]
    path = save(tmp_path / "m.onnx", nodes, inputs, [info("y", ["n", 2])])
    with pytest.raises(BadModel, match=message):
        Graph(path, CALL)


def test_a_graph_of_one_row_is_asked_row_by_row(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, [info("x", [1, 2])], [info("y", [1, 2])])
    assert Graph(path, CALL).outputs(X).tolist() == X.tolist()


def test_no_answer_is_no_class_whatever_the_kind(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, [info("x", ["n", 2])], [info("y", ["n", 2])])
    rows = np.array([[np.inf, 0.5], [0.25, 0.75], [np.nan, 0.1]], np.float32)
    call = GraphCall(features=("a", "b"), classes=2, output_kind="probabilities")
    graph = Graph(path, call)
    assert graph.classes(rows).tolist() == [-1, 1, -1]
    assert largest(graph.logits(rows)).tolist() == [-1, 1, -1]


def test_self_test_says_to_which_rows_there_is_no_answer(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    graph = Graph(
        save(tmp_path / "m.onnx", nodes, [info("x", ["n", 2])], [info("y", ["n", 2])]), CALL
    )
    rows = np.zeros((7, 2), np.float32)
    graph.self_test(rows)
    rows[2:4, 1] = np.nan
    with pytest.raises(BadModel, match=r"infinity for 2 of 7 rows, where b is missing,: no class"):
        graph.self_test(rows)


def test_check_file_says_what_is_wrong_as_an_error_of_this_room(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="opset 6"):
        check_file(matrix(tmp_path / "m.onnx", opset=6))
    check_file(matrix(tmp_path / "n.onnx"))


def test_self_test_wants_outputs_of_the_declared_kind(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Softmax", ["y"], ["p"], axis=1),
    ]
    outputs = [info("y", ["n", 2]), info("p", ["n", 2])]
    path = save(tmp_path / "m.onnx", nodes, [info("x", ["n", 2])], outputs)
    for output, kind, other in (
        ("y", "logits", "probabilities"),
        ("p", "probabilities", "logits"),
    ):
        Graph(path, replace(CALL, output=output, output_kind=kind)).self_test(X)
        with pytest.raises(BadModel, match=f'output_kind must be "{kind}"'):
            Graph(path, replace(CALL, output=output, output_kind=other)).self_test(X)


def test_self_test_wants_answers_that_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    graph = Graph(matrix(tmp_path / "m.onnx"), CALL)
    graph.self_test(X)
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=1),
        helper.make_node("Add", ["x", "s"], ["y"]),
    ]
    summing = save(tmp_path / "s.onnx", nodes, [info("x", ["n", 2])], [info("y", ["n", 2])])
    with pytest.raises(BadModel, match="differently in a batch"):
        Graph(summing, CALL).self_test(X)
    with pytest.raises(BadModel, match="NaN"):
        graph.self_test(np.array([[np.nan, 1.0]], np.float32))
