"""Weights in 16 bits: what is halved, what stays, and that the graph answers as before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from redistill import onnxfile
from redistill.onnxhalved import halved
from redistill.onnxports import OnnxError

X = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)


def graph(weight: np.ndarray) -> bytes:
    """``y = (x + offset) @ weight``."""
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 4]) for n in ("x", "y")]
    nodes = [
        helper.make_node("Add", ["x", "offset"], ["moved"]),
        helper.make_node("MatMul", ["moved", "weight"], ["y"]),
    ]
    constants = {"offset": np.ones(4, np.float32), "weight": weight}
    initializers = [numpy_helper.from_array(v, n) for n, v in constants.items()]
    built = helper.make_graph(nodes, "g", ends[:1], ends[1:], initializers)
    model = helper.make_model(built, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    out: bytes = model.SerializeToString()
    return out


def types(data: bytes) -> dict[str, int]:
    return {t.name: t.data_type for t in onnx.load_from_string(data).graph.initializer}


def answers(data: bytes, path: Path) -> np.ndarray:
    path.write_bytes(data)
    onnxfile.check(path)
    out: np.ndarray = onnxfile.session(path).run(["y"], {"x": X})[0]
    return out


def test_what_is_multiplied_with_is_halved_and_nothing_else(tmp_path: Path) -> None:
    weight = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)
    data = graph(weight)
    found = halved("a.onnx", data, ["MatMul"])
    assert types(found) == {"offset": TensorProto.FLOAT, "weight_half": TensorProto.FLOAT16}
    near = answers(found, tmp_path / "half.onnx")
    assert np.allclose(near, answers(data, tmp_path / "whole.onnx"), atol=1e-2)
    assert halved("a.onnx", data, ["MatMul"]) == found
    assert types(halved("a.onnx", data, ["Gemm"])) == types(data)


def test_what_16_bits_cannot_hold_stays(tmp_path: Path) -> None:
    data = graph(np.full((4, 4), 1e5, np.float32))
    found = halved("a.onnx", data, ["MatMul"])
    assert types(found) == types(data)
    same = answers(found, tmp_path / "half.onnx") == answers(data, tmp_path / "whole.onnx")
    assert same.all()


def test_what_was_halved_before_stays_so() -> None:
    once = halved("a.onnx", graph(np.eye(4, dtype=np.float32)), ["MatMul"])
    assert halved("a.onnx", once, ["MatMul"]) == once


def test_a_file_that_is_none_is_refused() -> None:
    with pytest.raises(OnnxError, match=r"a\.onnx is no readable ONNX file"):
        halved("a.onnx", b"bad", ["MatMul"])
