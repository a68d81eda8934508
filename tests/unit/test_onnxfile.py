"""ONNX files: what is refused before anything runs it, and how a session is made."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from release_kit import graph, linear, model_of

from redistill import onnxfile
from redistill.onnxfile import check
from redistill.onnxports import OnnxError


@pytest.fixture
def good() -> onnx.ModelProto:
    return graph(*linear(0))


def save(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_good_file_is_described(good: onnx.ModelProto, tmp_path: Path) -> None:
    facts = check(save(good, tmp_path))
    assert [(p.name, p.element, p.shape) for p in facts.inputs] == [("x", "FLOAT", (None, 3))]
    assert [p.name for p in facts.outputs] == ["y"]
    assert facts.opset == 17
    assert facts.operators == (":Add", ":IsNaN", ":MatMul", ":Where")


@pytest.mark.parametrize("data", [b"no protobuf at all \xff\xff", b"\x08\x09"])
def test_corrupt_file_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(OnnxError, match=r"no readable ONNX|graph is empty"):
        check(path)


def test_truncated_file_is_refused(good: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(good.SerializeToString()[:-20])
    with pytest.raises(OnnxError):
        check(path)


def test_missing_empty_and_large_files_are_refused(good: onnx.ModelProto, tmp_path: Path) -> None:
    with pytest.raises(OnnxError, match="does not exist"):
        check(tmp_path / "model.onnx")
    path = save(good, tmp_path)
    os.truncate(path, onnxfile.MAX_BYTES + 1)
    with pytest.raises(OnnxError, match=f"1 to {onnxfile.MAX_BYTES} are allowed"):
        check(path)
    path.write_bytes(b"")
    with pytest.raises(OnnxError, match="0 bytes"):
        check(path)


def outside(name: str) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[3, 2])
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    return tensor


def test_external_weights_are_refused(good: onnx.ModelProto, tmp_path: Path) -> None:
    del good.graph.initializer[0]
    good.graph.initializer.append(outside("w"))
    with pytest.raises(OnnxError, match="'w' is one"):
        check(save(good, tmp_path))


def hollow(kind: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 2])
    match kind:
        case "without data":
            pass
        case "too short":
            tensor.raw_data = b"\0" * 20
        case "huge":
            tensor.dims[:] = [2**40, 2**40]
            tensor.raw_data = b"\0" * 24
        case "negative":
            tensor.dims[:] = [-3, -2]
            tensor.raw_data = b"\0" * 24
        case "listed":
            tensor.float_data.extend([0.0] * 5)
        case "text":
            tensor.data_type = TensorProto.STRING
            tensor.string_data.append(b"x")
    return tensor


@pytest.mark.parametrize(
    "kind", ["without data", "too short", "huge", "negative", "listed", "text"]
)
@pytest.mark.parametrize("where", ["initializer", "default of a function"])
def test_a_tensor_that_holds_less_than_it_says_is_refused(
    good: onnx.ModelProto, tmp_path: Path, kind: str, where: str
) -> None:
    if where == "initializer":
        del good.graph.initializer[0]
        good.graph.initializer.append(hollow(kind))
    else:
        function = helper.make_function(
            "own", "f", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])],
            [helper.make_opsetid("", 17)],
        )  # fmt: skip
        function.attribute_proto.append(helper.make_attribute("value", hollow(kind)))
        good.functions.append(function)
    with pytest.raises(OnnxError, match=r"tensor 'w' (should have the sizes|has a negative size)"):
        check(save(good, tmp_path))


@pytest.mark.parametrize(
    "element",
    [
        *("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "INT8", "UINT8", "INT16", "INT32", "INT64"),
        *("BOOL", "INT4", "UINT4", "FLOAT8E4M3FN"),
    ],
)
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "listed"])
def test_whole_tensors_of_every_type_pass(
    good: onnx.ModelProto, tmp_path: Path, element: str, raw: bool
) -> None:
    kind = TensorProto.DataType.Value(element)
    listed = helper.make_tensor("w2", kind, [5], [1, 0, 1, 0, 1])
    tensor = numpy_helper.from_array(numpy_helper.to_array(listed), "w2") if raw else listed
    good.graph.initializer.append(tensor)
    check(save(good, tmp_path))


def test_a_newer_file_format_is_told(good: onnx.ModelProto, tmp_path: Path) -> None:
    good.ir_version = 99
    with pytest.raises(OnnxError, match=r"version 99 of the file format; up to 14 .*ir_version"):
        check(save(good, tmp_path))


def test_an_opset_of_a_function_counts(good: onnx.ModelProto, tmp_path: Path) -> None:
    body = [helper.make_node("Relu", ["a"], ["b"])]
    good.functions.append(
        helper.make_function("own", "f", ["a"], ["b"], body, [helper.make_opsetid("", 99)])
    )
    with pytest.raises(OnnxError, match=r"opset 99.*opset_version=17"):
        check(save(good, tmp_path))


def test_external_data_in_a_nested_graph_is_refused(good: onnx.ModelProto, tmp_path: Path) -> None:
    constant = helper.make_node("Constant", [], ["c"], value=outside("hidden"))
    branch = helper.make_graph(
        [constant], "branch", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, [3, 2])]
    )
    good.graph.node.append(
        helper.make_node("If", ["flag"], ["unused"], then_branch=branch, else_branch=branch)
    )
    good.graph.initializer.append(numpy_helper.from_array(np.array(True), "flag"))
    with pytest.raises(OnnxError, match="'hidden' is one"):
        check(save(good, tmp_path))


def test_external_data_in_a_sparse_initializer_is_refused(
    good: onnx.ModelProto, tmp_path: Path
) -> None:
    indices = numpy_helper.from_array(np.zeros((6,), np.int64), "i")
    good.graph.sparse_initializer.append(helper.make_sparse_tensor(outside("s"), indices, [3, 2]))
    with pytest.raises(OnnxError, match="'s' is one"):
        check(save(good, tmp_path))


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
    with pytest.raises(OnnxError, match=f"not allowed.*{name}"):
        check(save(good, tmp_path))


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
    assert "mine:twice" in check(save(good, tmp_path)).operators
    good.functions.pop()
    good.functions.append(function("Exec"))
    with pytest.raises(OnnxError, match="Exec"):
        check(save(good, tmp_path))


def test_operator_inside_a_branch_is_found(good: onnx.ModelProto, tmp_path: Path) -> None:
    def branch(domain: str, operator: str) -> onnx.GraphProto:
        y = helper.make_tensor_value_info("t", TensorProto.FLOAT, ["n", 3])
        node = helper.make_node(operator, ["x"], ["t"], domain=domain)
        return helper.make_graph([node], "branch", [], [y])

    flag = numpy_helper.from_array(np.array(True), "flag")
    good.graph.initializer.append(flag)
    then, otherwise = branch("evil", "Steal"), branch("", "Identity")
    good.graph.node.append(
        helper.make_node("If", ["flag"], ["z"], then_branch=then, else_branch=otherwise)
    )
    with pytest.raises(OnnxError, match=r"not allowed.*evil:Steal"):
        check(save(good, tmp_path))


@pytest.mark.parametrize("opset", [1, 6, 26, 99])
def test_opset_out_of_range_is_refused(good: onnx.ModelProto, tmp_path: Path, opset: int) -> None:
    model = model_of(good.graph, opset_imports=[helper.make_opsetid("", opset)])
    with pytest.raises(OnnxError, match=f"opset {opset}"):
        check(save(model, tmp_path))
    both = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx", opset)]
    with pytest.raises(OnnxError, match=f"opset {opset}"):
        check(save(model_of(good.graph, opset_imports=both), tmp_path))


def test_standard_operators_need_an_opset_and_trees_alone_do_not(
    good: onnx.ModelProto, tmp_path: Path
) -> None:
    trees = [helper.make_opsetid("ai.onnx.ml", 2)]
    with pytest.raises(OnnxError, match="of which opset"):
        check(save(model_of(good.graph, opset_imports=trees), tmp_path))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])
    scaler = helper.make_node(
        "Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[0.0] * 3, scale=[2.0] * 3
    )
    model = model_of(helper.make_graph([scaler], "g", [x], [y]), opset_imports=trees)
    path = save(model, tmp_path)
    facts = check(path)
    assert (facts.opset, facts.operators) == (None, ("ai.onnx.ml:Scaler",))
    (out,) = onnxfile.session(path).run(None, {"x": np.ones((1, 3), np.float32)})
    assert out.tolist() == [[2.0, 2.0, 2.0]]


def test_training_graphs_are_refused(good: onnx.ModelProto, tmp_path: Path) -> None:
    good.training_info.add()
    with pytest.raises(OnnxError, match="training"):
        check(save(good, tmp_path))


def test_graph_without_inputs_is_refused(good: onnx.ModelProto, tmp_path: Path) -> None:
    good.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 3), np.float32), "x"))
    with pytest.raises(OnnxError, match="takes no input"):
        check(save(good, tmp_path))


def test_weights_that_are_listed_as_inputs_are_no_ports(
    good: onnx.ModelProto, tmp_path: Path
) -> None:
    weight = helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 2])
    good.graph.input.append(weight)
    assert [p.name for p in check(save(good, tmp_path)).inputs] == ["x"]


def test_session_runs_on_the_given_threads_and_prints_nothing(
    good: onnx.ModelProto, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = save(good, tmp_path)
    x = np.ones((2, 3), np.float32)
    for source, threads in ((path, 1), (path.read_bytes(), 2)):
        session = onnxfile.session(source, threads=threads)
        options = session.get_session_options()
        assert (options.intra_op_num_threads, options.inter_op_num_threads) == (threads, 1)
        assert session.get_providers() == ["CPUExecutionProvider"]
        assert session.run(None, {"x": x})[0].shape == (2, 2)
    with pytest.raises(OnnxError, match="ONNX Runtime cannot load it"):
        onnxfile.session(b"garbage")
    assert capfd.readouterr() == ("", "")


def test_optimised_graph_is_written_and_its_operators_are_read(
    good: onnx.ModelProto, tmp_path: Path
) -> None:
    path = save(good, tmp_path)
    onnxfile.session(path, optimised=tmp_path / "made.onnx")
    assert onnxfile.operator_types(tmp_path / "made.onnx") == ("Gemm", "IsNaN", "Where")
    assert onnxfile.operator_types(path) == ("Add", "IsNaN", "MatMul", "Where")
