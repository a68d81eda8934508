"""A fallback as it lies in a service's image: a bare file, a file with its manifest, a release."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from release_kit import SCHEMA, Installation, graph, linear, model_of

from redistill.streams.client.fallback import load_fallback
from redistill.streams.client.fetch import Repository
from redistill.streams.client.release import FALLBACK
from redistill.streams.errors import ReleaseError


@pytest.fixture
def release(shop: Installation, tmp_path: Path) -> Path:
    """A release's folder, as a service has it."""
    seen = Repository(shop.layout.repository, shop.trust, cache=tmp_path / "cache")
    folder = seen.release("credit", seen.pointer("credit").manifest_sha256)
    return Path(shutil.copytree(folder, tmp_path / "release"))


@pytest.fixture
def bare(release: Path, tmp_path: Path) -> Path:
    """The graph alone."""
    (tmp_path / "alone").mkdir()
    return Path(shutil.copy(release / "model.onnx", tmp_path / "alone" / "m.onnx"))


def save(path: Path, model: onnx.ModelProto) -> Path:
    onnx.save(model, path)
    return path


def test_folder_of_a_release_knows_its_names(release: Path) -> None:
    session, sha256 = load_fallback(release, "credit", 1, None)
    assert session.manifest.schema == SCHEMA
    assert sha256 == session.manifest.sha256


def test_file_beside_its_manifest_knows_its_names(release: Path) -> None:
    session, _ = load_fallback(release / "model.onnx", "credit", 1, None)
    assert (session.manifest.version, session.manifest.schema) == ("v1", SCHEMA)


def test_manifest_of_another_model_is_not_believed(release: Path) -> None:
    session, _ = load_fallback(release, "other", 1, None)
    assert (session.manifest.model, session.manifest.version) == ("other", FALLBACK)


def test_bare_file_borrows_the_schema_of_a_release_of_its_model(bare: Path, release: Path) -> None:
    session, _ = load_fallback(bare, "credit", 1, release)
    assert session.manifest.schema == SCHEMA


def test_bare_file_is_read_by_position_and_its_classes_are_numbers(bare: Path) -> None:
    session, _ = load_fallback(bare, "credit", 1, None)
    manifest = session.manifest
    assert (manifest.version, manifest.task, manifest.output_kind) == (
        FALLBACK, "classification", "logits",
    )  # fmt: skip
    assert manifest.schema.classes == ("0", "1")
    assert manifest.schema.names == ("x0", "x1", "x2")
    weights, bias = linear(1)
    prediction, scores = session.decide(session.run(session.pack([1.0, 2.0, 1.0]))[0].tolist())
    logits = np.array([1.0, 2.0, 1.0]) @ weights + bias
    assert prediction == str(int(np.argmax(logits)))
    assert sum(scores or ()) == pytest.approx(1.0)


def test_file_with_an_input_per_feature_is_named_by_them(tmp_path: Path) -> None:
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 1]) for n in ("a", "b")]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])
    built = helper.make_graph([helper.make_node("Add", ["a", "b"], ["y"])], "g", inputs, [output])
    session, _ = load_fallback(save(tmp_path / "m.onnx", model_of(built)), "credit", 1, None)
    manifest = session.manifest
    assert (manifest.task, manifest.input.kind, manifest.schema.names) == (
        "regression", "columns", ("a", "b"),
    )  # fmt: skip
    assert session.decide(session.run(session.pack([1.0, 2.5]))[0].tolist())[0] == 3.5


def test_graph_that_does_not_say_its_width_needs_a_manifest(tmp_path: Path) -> None:
    model = graph(np.ones((3, 2), np.float32), np.zeros(2, np.float32))
    model.graph.output[0].type.tensor_type.shape.dim[1].ClearField("dim_value")
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "c"
    with pytest.raises(ReleaseError, match=r"manifest\.json"):
        load_fallback(save(tmp_path / "m.onnx", model), "credit", 1, None)


@pytest.mark.parametrize("content", [None, b"garbage"])
def test_file_that_is_no_model_is_told_by_its_name(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "fallback.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ReleaseError, match=r"fallback\.onnx"):
        load_fallback(path, "credit", 1, None)
