"""A large file is read in a limited child first."""

from __future__ import annotations

import subprocess
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from redistill import onnxtrial
from redistill.onnxports import OnnxError
from redistill.onnxtrial import try_large


def length(size: int) -> bytes:
    out = b""
    while size >= 128:
        out += bytes([size % 128 + 128])
        size //= 128
    return out + bytes([size])


def test_millions_of_empty_nodes_are_refused_in_the_child() -> None:
    nodes = b"\x0a\x00" * (9 << 20)
    with pytest.raises(OnnxError, match=r"cannot be read in 8 times as much memory \(.* with 1\)"):
        try_large("m.onnx", b"\x08\x08\x3a" + length(len(nodes)) + nodes)


def test_large_weights_are_read() -> None:
    weights = numpy_helper.from_array(np.ones((3, 1_500_000), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", None])],
        [weights],
    )
    data = helper.make_model(graph).SerializeToString()
    assert len(data) > onnxtrial.LARGE
    try_large("m.onnx", data)
    try_large("m.onnx", b"PK\x03\x04" + data)  # what is wrong with it is told by others


@pytest.mark.parametrize("size", [0, onnxtrial.LARGE, onnxtrial.LARGE + 1])
def test_no_child_is_started_for_a_small_file_and_one_too_slow_is_told(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    def run(command: list[str], **options: Any) -> None:
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", run)
    if size <= onnxtrial.LARGE:
        try_large("m.onnx", b"\0" * size)
    else:
        with pytest.raises(OnnxError, match=r"m\.onnx: reading it took longer than 60 s"):
            try_large("m.onnx", b"\0" * size)
