"""ONNX files that are refused before anything runs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from release_kit import graph, linear, model_of

from redistill.streams.client.graph import check_onnx
from redistill.streams.errors import ReleaseError


@pytest.fixture
def good() -> onnx.ModelProto:
    return graph(*linear(0))


def save(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_good_file_is_described(good: onnx.ModelProto, tmp_path: Path) -> None:
    facts = check_onnx(save(good, tmp_path))
    assert [(p.name, p.element, p.shape) for p in facts.inputs] == [("x", "FLOAT", (None, 3))]
    assert [p.name for p in facts.outputs] == ["y"]
    assert facts.opset == 17
    assert facts.operators == (":Add", ":IsNaN", ":MatMul", ":Where")


@pytest.mark.parametrize("data", [b"no protobuf at all \xff\xff", b"\x08\x09"])
def test_corrupt_file_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(ReleaseError, match=r"no readable ONNX|graph is empty"):
        check_onnx(path)


def test_truncated_file_is_refused(good: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(good.SerializeToString()[:-20])
    with pytest.raises(ReleaseError):
        check_onnx(path)


def test_missing_empty_and_large_files_are_refused(good: onnx.ModelProto, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="does not exist"):
        check_onnx(tmp_path / "model.onnx")
    path = save(good, tmp_path)
    with pytest.raises(ReleaseError, match="1 to 10 are allowed"):
        check_onnx(path, max_bytes=10)
    path.write_bytes(b"")
    with pytest.raises(ReleaseError, match="0 bytes"):
        check_onnx(path)


def outside(name: str) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[3, 2])
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    return tensor


def test_external_weights_are_refused(good: onnx.ModelProto, tmp_path: Path) -> None:
    del good.graph.initializer[0]
    good.graph.initializer.append(outside("w"))
    with pytest.raises(ReleaseError, match="'w' is one"):
        check_onnx(save(good, tmp_path))


def test_external_data_in_a_nested_graph_is_refused(good: onnx.ModelProto, tmp_path: Path) -> None:
    constant = helper.make_node("Constant", [], ["c"], value=outside("hidden"))
    branch = helper.make_graph(
        [constant], "branch", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, [3, 2])]
    )
    good.graph.node.append(
        helper.make_node("If", ["flag"], ["unused"], then_branch=branch, else_branch=branch)
    )
    good.graph.initializer.append(numpy_helper.from_array(np.array(True), "flag"))
    with pytest.raises(ReleaseError, match="'hidden' is one"):
        check_onnx(save(good, tmp_path))


def test_external_data_in_a_sparse_initializer_is_refused(
    good: onnx.ModelProto, tmp_path: Path
) -> None:
    indices = numpy_helper.from_array(np.zeros((6,), np.int64), "i")
    good.graph.sparse_initializer.append(helper.make_sparse_tensor(outside("s"), indices, [3, 2]))
    with pytest.raises(ReleaseError, match="'s' is one"):
        check_onnx(save(good, tmp_path))


@pytest.mark.parametrize(
    ("domain", "name"),
    [
        ("", "NoSuchOperator"),
        ("evil.example", "Run"),
        ("com.microsoft", "Rfft"),
        ("ai.onnx.ml", "X"),
    ],
)
def test_unknown_operators_are_refused(
    good: onnx.ModelProto, tmp_path: Path, domain: str, name: str
) -> None:
    good.graph.node.append(helper.make_node(name, ["x"], ["z"], domain=domain))
    with pytest.raises(ReleaseError, match=f"not allowed.*{name}"):
        check_onnx(save(good, tmp_path))


def test_function_in_the_file_is_allowed_and_its_body_is_checked(
    good: onnx.ModelProto, tmp_path: Path
) -> None:
    def function(operator: str) -> onnx.FunctionProto:
        return helper.make_function(
            "mine", "twice", ["a"], ["b"], [helper.make_node(operator, ["a", "a"], ["b"])],
            [helper.make_opsetid("", 17)],
        )  # fmt: skip

    good.graph.node.append(helper.make_node("twice", ["x"], ["z"], domain="mine"))
    good.functions.append(function("Add"))
    assert "mine:twice" in check_onnx(save(good, tmp_path)).operators
    good.functions.pop()
    good.functions.append(function("Exec"))
    with pytest.raises(ReleaseError, match="Exec"):
        check_onnx(save(good, tmp_path))


@pytest.mark.parametrize("opset", [1, 99])
def test_opset_out_of_range_is_refused(good: onnx.ModelProto, tmp_path: Path, opset: int) -> None:
    model = model_of(good.graph, opset_imports=[helper.make_opsetid("", opset)])
    with pytest.raises(ReleaseError, match=f"opset {opset}"):
        check_onnx(save(model, tmp_path))


def test_training_graphs_are_refused(good: onnx.ModelProto, tmp_path: Path) -> None:
    good.training_info.add()
    with pytest.raises(ReleaseError, match="training"):
        check_onnx(save(good, tmp_path))
