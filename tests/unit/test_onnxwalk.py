"""Walk over ONNX files: nothing in them is overlooked, and a hostile one is refused in words."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from release_kit import graph, linear

from redistill import onnxwalk
from redistill.onnxports import OnnxError


def tensor(name: str) -> TensorProto:
    return numpy_helper.from_array(np.zeros(1, np.float32), name)


def _field(number: int, content: bytes) -> bytes:
    """A field of protobuf that holds a message."""
    size, length = len(content), b""
    while size >= 128:
        length += bytes([size % 128 + 128])
        size //= 128
    return bytes([number * 8 + 2]) + length + bytes([size]) + content


def test_tensors_and_nodes_of_functions_their_defaults_and_branches_are_found() -> None:
    model = graph(*linear(0))
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=tensor("in a branch"))], "branch", [], []
    )
    body = [
        helper.make_node("Constant", [], ["k"], value=tensor("in a body")),
        helper.make_node("If", ["a"], ["b"], then_branch=inner, else_branch=inner),
    ]
    function = helper.make_function("own", "f", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    function.attribute_proto.append(helper.make_attribute("value", tensor("a default")))
    deep = helper.make_graph([helper.make_node("Deep", [], ["d"])], "deep", [], [])
    function.attribute_proto.append(helper.make_attribute("graph", deep))
    model.functions.append(function)
    assert {"in a branch", "in a body", "a default"} <= {t.name for t in onnxwalk.tensors(model)}
    assert {"If", "Constant", "Deep"} <= {n.op_type for n in onnxwalk.nodes(model)}


def test_a_file_that_nests_too_deep_is_refused() -> None:
    data = b""
    for _ in range(10_000):  # a graph in an attribute in a node in a graph
        for number in (6, 5, 1):
            data = _field(number, data)
    data = b"\x08\x08" + _field(7, data)
    with pytest.raises(OnnxError, match="no readable ONNX"):
        onnxwalk.parse("m.onnx", data)


def test_a_node_is_called_by_what_it_computes_and_its_name_however_long() -> None:
    node = helper.make_node("Relu" * 100, ["x"], ["y"], name="n" * 1000)
    assert len(onnxwalk.called(node)) < 200
    assert onnxwalk.called(helper.make_node("Relu", ["x"], ["y"])) == "Relu 'y'"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:46\nsize 5\n", "git lfs pull"),
        (b"PK\x03\x04" + b"x" * 40, "zip archive .* export the model as ONNX"),
        (b"\x80\x04\x95\x0b\x00\x00\x00", "a pickle: export"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x1f\x8b\x08\x00\x00\x00", "gzip: unpack it"),
        (b"<html>404</html>", "download the file itself"),
        (b'{"learner": {}}', "JSON: export"),
    ],
    ids=["lfs", "zip", "pickle", "hdf5", "gzip", "html", "json"],
)
def test_a_file_of_another_kind_is_told_as_such(data: bytes, told: str) -> None:
    with pytest.raises(OnnxError, match=f"m is no readable ONNX file: it is .*{told}"):
        onnxwalk.parse("m", data)
