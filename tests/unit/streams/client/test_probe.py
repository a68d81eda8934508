"""The limited child in which a release is loaded first."""

from __future__ import annotations

import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from release_kit import SCHEMA, model_of, write_candidate

from redistill.files import sha256_of
from redistill.streams.client import probe as probing
from redistill.streams.client.probe import probe
from redistill.streams.client.release import FileEntry, InputLayout, Manifest
from redistill.streams.errors import ReleaseError


def finish(folder: Path) -> Path:
    """Write the manifest of what lies in a folder."""
    files = {
        name: FileEntry(sha256=sha256_of(folder / name), bytes=(folder / name).stat().st_size)
        for name in ("model.onnx", "golden.npz")
    }
    manifest = Manifest(
        model="credit",
        version="v1",
        kind="repaired",
        sha256=files["model.onnx"].sha256,
        files=files,
        schema=SCHEMA,
        input=InputLayout(kind="matrix", names=("x",)),
        output="y",
        output_kind="logits",
        golden_tolerance=1e-4,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    (folder / "manifest.json").write_bytes(manifest.to_json())
    return folder


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return finish(write_candidate(tmp_path / "release", 1))


def test_good_release_passes(release: Path) -> None:
    probe(release)


def test_what_is_wrong_comes_back_as_the_error(release: Path) -> None:
    np.savez(release / "golden.npz", inputs=np.zeros((1, 3)), outputs=np.full((1, 2), 9.0))
    finish(release)
    with pytest.raises(ReleaseError, match="golden outputs differ"):
        probe(release)
    (release / "model.onnx").write_bytes(b"other")
    with pytest.raises(ReleaseError, match=r"graph is empty|no readable ONNX"):
        probe(release)


def bomb(folder: Path) -> Path:
    """A graph of a few bytes that asks for 64 GiB when it runs."""
    shape = helper.make_tensor("huge", TensorProto.INT64, [2], [2**17, 2**17])
    nodes = [
        helper.make_node("ConstantOfShape", ["huge"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["x", "axis"], ["sum"], keepdims=1),
        helper.make_node("Concat", ["sum", "sum"], ["two"], axis=1),
        helper.make_node("Add", ["two", "total"], ["y"]),
    ]
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [1])
    graph = helper.make_graph(
        nodes,
        "bomb",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [shape, axis],
    )
    onnx.save(model_of(graph), folder / "model.onnx")
    return finish(folder)


def test_graph_that_wants_too_much_memory_ends_the_child_only(release: Path) -> None:
    with pytest.raises(ReleaseError):
        probe(bomb(release), memory_bytes=3 * 1024**3, seconds=20)


def loop(folder: Path) -> Path:
    """A graph that never ends."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["state", "one"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, []),
        ],
    )
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["start"], keepdims=0),
        helper.make_node("Loop", ["", "true", "start"], ["end"], body=body),
        helper.make_node("ReduceSum", ["x", "axis"], ["sum"], keepdims=1),
        helper.make_node("Concat", ["sum", "sum"], ["two"], axis=1),
        helper.make_node("Add", ["two", "end"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "loop",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [
            helper.make_tensor("true", TensorProto.BOOL, [], [True]),
            helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]),
            helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        ],
    )
    onnx.save(model_of(graph), folder / "model.onnx")
    return finish(folder)


def test_graph_that_never_ends_is_stopped_in_time(release: Path) -> None:
    with pytest.raises(ReleaseError, match=r"longer than 12 s|SIGXCPU|SIGKILL"):
        probe(loop(release), seconds=3)


def test_release_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="does not exist"):
        probe(tmp_path)


def test_embedding_server_finds_the_interpreter_beside_it(
    release: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("true") or "/bin/true")
    assert Path(probing._python()).name == "python3"
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(ReleaseError, match="no Python interpreter"):
        probe(release)
