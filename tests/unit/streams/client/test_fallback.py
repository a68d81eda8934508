"""A fallback as it lies in a service's image: a bare file, a file with its manifest, a release."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from release_kit import SCHEMA, Installation, graph, linear, model_of

from redistill.files import sha256_of
from redistill.streams.client.fallback import load_fallback
from redistill.streams.client.fetch import Repository
from redistill.streams.client.release import FALLBACK, Manifest
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


def test_bare_file_takes_values_that_nobody_can_read_as_missing(bare: Path) -> None:
    session, _ = load_fallback(bare, "credit", 1, None)
    for row in ([1.0, 10**400, None], {"a": 1, "b": object(), "c": None}):
        assert np.array_equal(session.pack(row), [[1.0, np.nan, np.nan]], equal_nan=True)


def test_bare_file_does_not_guess_which_index_a_category_has(bare: Path) -> None:
    session, _ = load_fallback(bare, "credit", 1, None)
    with pytest.raises(ValueError, match=r"'US' is no number.*manifest\.json"):
        session.pack({"income": 1.0, "age": None, "region": "US"})


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


def ending(kind: str, *, outputs: int = 1) -> onnx.ModelProto:
    """The test graph with another end: ``softmax``, ``sigmoid``, ``nan``; and further outputs."""
    weights, bias = linear(1)
    if kind == "sigmoid":
        weights, bias = weights[:, 1:] - weights[:, :1], bias[1:] - bias[:1]
    model = graph(weights, bias)
    inner = model.graph
    last = "p"
    if kind == "nan":
        inner.node.append(helper.make_node("Sub", ["y", "y"], ["zeros"]))
        inner.node.append(helper.make_node("Div", ["zeros", "zeros"], [last]))
    elif kind == "logits":
        inner.node.append(helper.make_node("Identity", ["y"], [last]))
    else:
        inner.node.append(helper.make_node(kind.title(), ["y"], [last]))
    inner.node.append(helper.make_node("ArgMax", ["y"], ["label"], axis=1, keepdims=0))
    label = helper.make_tensor_value_info("label", TensorProto.INT64, ["n"])
    scores = helper.make_tensor_value_info(last, TensorProto.FLOAT, ["n", weights.shape[1]])
    first = inner.output[0]
    del inner.output[:]
    inner.output.extend([[scores], [label, scores], [label, first, scores]][outputs - 1])
    return model


ROW = [1.0, 2.0, 1.0]


def wanted() -> np.ndarray:
    weights, bias = linear(1)
    powers = np.exp(np.array(ROW) @ weights + bias)
    return powers / powers.sum()


@pytest.mark.parametrize("kind", ["softmax", "logits"])
@pytest.mark.parametrize("outputs", [1, 2])
def test_bare_file_says_by_its_answers_what_its_scores_are(
    tmp_path: Path, kind: str, outputs: int
) -> None:
    session, _ = load_fallback(
        save(tmp_path / "m.onnx", ending(kind, outputs=outputs)), "credit", 1, None
    )
    assert session.manifest.output == "p"
    prediction, scores = session.decide(session.run(session.pack(ROW))[0].tolist())
    assert scores == pytest.approx(wanted(), rel=1e-4)
    assert prediction == str(int(np.argmax(wanted())))


def test_bare_file_with_several_scores_needs_a_manifest(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", ending("softmax", outputs=3))
    with pytest.raises(ReleaseError, match=r"\['label', 'y', 'p'\].*manifest\.json"):
        load_fallback(path, "credit", 1, None)


def test_bare_file_is_read_by_the_output_and_the_classes_of_the_release(
    release: Path, tmp_path: Path
) -> None:
    file = release / "manifest.json"
    manifest = Manifest.from_json(file.read_bytes())
    told = replace(manifest, output="p", output_kind="probabilities")
    file.write_bytes(told.to_json())
    path = save(tmp_path / "m.onnx", ending("softmax", outputs=3))
    session, _ = load_fallback(path, "credit", 1, release)
    prediction, scores = session.decide(session.run(session.pack(ROW))[0].tolist())
    assert scores == pytest.approx(wanted(), rel=1e-4)
    assert prediction == SCHEMA.classes[int(np.argmax(wanted()))]


@pytest.mark.parametrize(("end", "kind"), [("sigmoid", "probabilities"), ("logits", "logits")])
def test_one_score_of_two_classes_is_that_of_the_second(
    release: Path, tmp_path: Path, end: str, kind: str
) -> None:
    file = release / "manifest.json"
    manifest = Manifest.from_json(file.read_bytes())
    file.write_bytes(replace(manifest, output="p", output_kind=kind).to_json())
    model = ending("sigmoid")
    if end == "logits":
        model.graph.node[4].op_type = "Identity"
    session, _ = load_fallback(save(tmp_path / "m.onnx", model), "credit", 1, release)
    prediction, scores = session.decide(session.run(session.pack(ROW))[0].tolist())
    assert scores == pytest.approx(wanted(), rel=1e-4)
    assert prediction == SCHEMA.classes[int(np.argmax(wanted()))]


def test_file_as_it_was_brought_is_adopted_like_the_registered_one(
    release: Path, tmp_path: Path
) -> None:
    """Doubles in, doubles out: registration casts them, and so is the fallback."""
    manifest = Manifest.from_json((release / "manifest.json").read_bytes())
    model = onnx.load(release / "model.onnx")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for i, weights in enumerate(model.graph.initializer):
        wide = onnx.numpy_helper.to_array(weights).astype(np.float64)
        model.graph.initializer[i].CopyFrom(onnx.numpy_helper.from_array(wide, weights.name))
    path = save(tmp_path / "m.onnx", model)
    session, sha256 = load_fallback(path, "credit", 1, release)
    assert session.manifest.schema == manifest.schema
    assert sha256 != sha256_of(path)
    kept, _ = load_fallback(release, "credit", 1, None)
    x = session.pack(ROW)
    np.testing.assert_allclose(session.run(x), kept.run(x), rtol=1e-5)


def test_graph_that_answers_nan_is_no_fallback(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="answers NaN to a row of zeros"):
        load_fallback(save(tmp_path / "m.onnx", ending("nan")), "credit", 1, None)
