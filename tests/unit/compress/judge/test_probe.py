from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from redistill.compress.judge.graph import GraphCall
from redistill.compress.judge.probe import Probe, ProbeTarget

CALL = GraphCall(features=("a", "b"), classes=2)
ROWS = np.array([[1.0, 2.0], [3.0, 1.0]], np.float32)


def build(path: Path, nodes: list[Any], weights: dict[str, np.ndarray]) -> ProbeTarget:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, str(path))
    return ProbeTarget(name=path.stem, path=str(path), call=CALL)


def good(path: Path) -> ProbeTarget:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return build(path, [node], {"w": np.eye(2, dtype=np.float32)})


def greedy(path: Path) -> ProbeTarget:
    """A small file that asks for 40 GB when it is loaded or run."""
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    return build(path, nodes, {"shape": np.array([100_000, 100_000], np.int64)})


def endless(path: Path) -> ProbeTarget:
    """A loop of 10^15 rounds."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_in"], ["go_out"]),
            helper.make_node("Mul", ["v_in", "one"], ["v_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v_in", TensorProto.FLOAT, ["n", 2]),
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v_out", TensorProto.FLOAT, ["n", 2]),
        ],
    )
    loop = helper.make_node("Loop", ["rounds", "go", "x"], ["y"], body=body)
    weights = {
        "rounds": np.array(10**15, np.int64),
        "go": np.array(True),
        "one": np.ones(1, np.float32),
    }
    return build(path, [loop], weights)


def test_probe_measures_what_loads_and_names_what_does_not(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"bad")
    subjects = [
        good(tmp_path / "one.onnx"),
        ProbeTarget(name="bad", path=str(tmp_path / "bad.onnx"), call=CALL),
        good(tmp_path / "two.onnx"),
    ]
    with Probe.start() as child:
        found = child.ask(subjects, ROWS, batch=4, measure=True)
    assert found["one"].error is None
    assert found["one"].operators == ("MatMul",)
    assert found["one"].integer_operators == ()
    assert 0 < (found["one"].p50_ms or 0) <= (found["one"].p95_ms or 0) < 50
    assert found["two"].p50_ms is not None
    assert 1_000 < (found["one"].rows_per_s or 0) < 10**8
    assert "no readable ONNX file" in (found["bad"].error or "")
    assert found["bad"].peak_bytes is None
    if sys.platform == "linux":
        assert found["one"].peak_bytes is not None
        assert found["one"].peak_bytes < 2**21, "a graph of one matrix, not the runtime beside it"
        assert found["one"].peak_bytes == pytest.approx(found["two"].peak_bytes, abs=2**20)


def test_peak_memory_grows_with_the_graph(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("the kernel of Linux counts it")
    node = helper.make_node("MatMul", ["x", "w"], ["h"])
    down = helper.make_node("MatMul", ["h", "v"], ["y"])
    wide = np.zeros((2, 1_000_000), np.float32)  # 8 MB each
    large = build(tmp_path / "large.onnx", [node, down], {"w": wide, "v": wide.T.copy()})
    with Probe.start() as child:
        found = child.ask([large, good(tmp_path / "g.onnx")], ROWS, batch=1, measure=True)
    small, much = found["g"].peak_bytes, found["large"].peak_bytes
    assert small is not None
    assert much is not None
    assert small + 16_000_000 < much < small + 120_000_000


@pytest.mark.parametrize("make", [greedy, endless])
def test_a_graph_that_wants_too_much_is_refused_and_the_others_are_measured(
    tmp_path: Path, make: Any
) -> None:
    subjects = [
        good(tmp_path / "good.onnx"),
        make(tmp_path / "evil.onnx"),
        good(tmp_path / "next.onnx"),
    ]
    with Probe.start() as child:
        found = child.ask(subjects, ROWS, batch=1, measure=True, cpu_seconds=3)
    assert found["evil"].error is not None
    for name in ("good", "next"):
        assert found[name].error is None
        assert found[name].p50_ms is not None


def test_a_probe_that_is_not_asked_is_ended() -> None:
    with Probe.start() as child:
        pass
    assert child.process.returncode is not None
