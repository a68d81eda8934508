"""Scaling of an output: one node more, the same ports, and only once."""

from __future__ import annotations

from pathlib import Path

import linear
import numpy as np
import pytest

from redistill import onnxfile, onnxscaled
from redistill.onnxports import OnnxError


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return linear.graph(tmp_path / "g.onnx", np.eye(2, 3, dtype=np.float32).T)


def test_outputs_are_multiplied_and_ports_stay(graph: Path, tmp_path: Path) -> None:
    before = onnxfile.session(graph)
    (port,) = before.get_outputs()
    out = tmp_path / "scaled.onnx"
    out.write_bytes(onnxscaled.scaled("g", graph.read_bytes(), port.name, 0.25))
    onnxfile.check(out)
    after = onnxfile.session(out)
    assert [(p.name, p.shape) for p in after.get_outputs()] == [(port.name, port.shape)]
    rows = np.arange(6, dtype=np.float32).reshape(2, -1)
    feed = {before.get_inputs()[0].name: rows}
    np.testing.assert_allclose(after.run(None, feed)[0], 0.25 * before.run(None, feed)[0])


def test_an_output_is_scaled_once(graph: Path) -> None:
    name = onnxfile.session(graph).get_outputs()[0].name
    once = onnxscaled.scaled("g", graph.read_bytes(), name, 2.0)
    assert once == onnxscaled.scaled("g", graph.read_bytes(), name, 2.0)
    with pytest.raises(OnnxError, match=f"its output '{name}' is scaled already"):
        onnxscaled.scaled("g", once, name, 2.0)


def test_an_output_that_no_node_makes_cannot_be_scaled(graph: Path) -> None:
    with pytest.raises(OnnxError, match="no node makes the output 'x'"):
        onnxscaled.scaled("g", graph.read_bytes(), "x", 2.0)
