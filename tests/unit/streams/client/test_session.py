"""Rows in, predictions out: packing, layouts, scores, the golden test."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_names import ODD
from onnx import TensorProto, helper
from release_kit import NUMERIC, SCHEMA, graph, linear, model_of, rows

from redistill.streams.client.release import FileEntry, InputLayout, Manifest
from redistill.streams.client.session import Session, load, self_test
from redistill.streams.errors import NoAnswer, ReleaseError
from redistill.streams.wire.block import Feature, Schema

W, B = linear(7)


def manifest(schema: Schema = SCHEMA, **more: Any) -> Manifest:
    fields: dict[str, Any] = {
        "model": "credit",
        "version": "v1",
        "kind": "repaired",
        "sha256": "a" * 64,
        "files": {"model.onnx": FileEntry(sha256="a" * 64, bytes=1)},
        "schema": schema,
        "input": InputLayout(kind="matrix", names=("x",)),
        "output": "y",
        "output_kind": "logits",
        "golden_tolerance": 1e-4,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return Manifest(**{**fields, **more})


SESSION = Session(graph(W, B).SerializeToString(), manifest())
PLAIN = Session(graph(*linear(7, NUMERIC)).SerializeToString(), manifest(NUMERIC))

VALUES = st.one_of(
    st.none(),
    st.floats(allow_nan=True, allow_infinity=True, width=32),
    st.integers(-(2**40), 2**40),
    st.sampled_from(["EU", "US", "MARS", "1.5", "", "x"]),
)


@given(st.dictionaries(st.sampled_from([*SCHEMA.names, "other"]), VALUES))
def test_packing_one_row_by_name_equals_the_schema(row: dict[str, Any]) -> None:
    np.testing.assert_array_equal(SESSION.pack(row), SCHEMA.pack([row]))


@given(st.dictionaries(st.sampled_from(NUMERIC.names), VALUES))
def test_packing_numbers_the_fast_way_equals_the_schema(some: dict[str, Any]) -> None:
    row = {name: some.get(name, 0.5) for name in NUMERIC.names}
    np.testing.assert_array_equal(PLAIN.pack(row), NUMERIC.pack([row]))


def test_a_sequence_is_taken_in_the_order_of_the_schema() -> None:
    named = SESSION.pack({"income": 1.5, "age": None, "region": "US"})
    np.testing.assert_array_equal(SESSION.pack([1.5, None, "US"]), named)
    np.testing.assert_array_equal(SESSION.pack(np.array([1.5, np.nan, 1.0])), named)
    assert SESSION.pack([1.5, 2.0, 7.0])[0, 2] == -1  # no such category
    assert math.isnan(SESSION.pack([1.5, 2.0, float("nan")])[0, 2])


@pytest.mark.parametrize("row", [[1.0], [1.0, 2.0, 3.0, 4.0], np.zeros(2), []])
def test_a_sequence_of_another_length_is_refused(row: Any) -> None:
    with pytest.raises(ValueError, match="3 features were expected"):
        SESSION.pack(row)


def test_many_rows_are_packed_as_one_by_one() -> None:
    some = [{"income": 1.0, "age": 2.0, "region": "EU"}, [1.0, 2.0, "US"], {"age": 1.0}]
    one_by_one = np.concatenate([SESSION.pack(r) for r in some])
    np.testing.assert_array_equal(SESSION.pack_rows(some), one_by_one)
    np.testing.assert_array_equal(SESSION.pack_rows(some[::2]), one_by_one[::2])
    assert SESSION.pack_rows([]).shape == (0, 3)
    packed = rows(SCHEMA, 4)
    np.testing.assert_array_equal(SESSION.pack_rows(packed.astype(np.float64)), packed)
    with pytest.raises(ValueError, match=r"\(n, 3\)"):
        SESSION.pack_rows(np.zeros((4, 2)))


def test_features_of_any_name_are_found_by_it() -> None:
    schema = Schema(features=tuple(Feature(name=n) for n in ODD), classes=("a", "b"))
    told = Manifest.from_json(manifest(schema).to_json())
    assert told.schema == schema
    session = Session(graph(*linear(1, schema)).SerializeToString(), told)
    row = {name: float(i) for i, name in enumerate(ODD)}
    wanted = [list(range(len(ODD)))]
    assert session.pack(dict(reversed(row.items()))).tolist() == wanted
    assert session.pack_rows([row]).tolist() == wanted
    assert session.named(list(range(len(ODD)))) == row


@pytest.mark.parametrize("classes", [2, 40])  # the plain and the numpy way
def test_logits_become_probabilities(classes: int) -> None:
    schema = replace(SCHEMA, classes=tuple(f"c{i}" for i in range(classes)))
    session = Session(graph(*linear(1, schema)).SerializeToString(), manifest(schema))
    logits = session.run(rows(schema, 1))[0]
    prediction, scores = session.decide(logits.tolist())
    wanted = np.exp(logits - logits.max())
    np.testing.assert_allclose(scores, wanted / wanted.sum(), rtol=1e-5)
    assert prediction == f"c{logits.argmax()}"


def test_probabilities_are_left_as_they_are_and_large_logits_do_not_overflow() -> None:
    kind = Session(graph(W, B).SerializeToString(), manifest(output_kind="probabilities"))
    assert kind.decide([0.25, 0.75]) == ("default", [0.25, 0.75])
    assert SESSION.decide([3e38, -3e38]) == ("repay", [1.0, 0.0])


def test_a_regression_answers_with_its_number() -> None:
    schema = replace(SCHEMA, classes=())
    session = Session(
        graph(W[:, :1], B[:1]).SerializeToString(),
        manifest(schema, task="regression", output_kind="value"),
    )
    x = rows(schema, 5)
    assert session.run(x).shape == (5, 1)
    assert session.decide([1.5]) == (1.5, None)


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("logits", [math.nan, 1.0]),
        ("logits", [1.0, math.nan]),
        ("logits", [math.nan, math.nan]),
        ("logits", [math.inf, 1.0]),
        ("logits", [-math.inf, -math.inf]),
        ("probabilities", [math.nan, 1.0]),
        ("probabilities", [1.0, math.nan]),
        ("probabilities", [math.inf, 0.0]),
    ],
)
def test_what_is_no_number_is_no_class(kind: Any, raw: list[float]) -> None:
    session = Session(graph(W, B).SerializeToString(), manifest(output_kind=kind))
    with pytest.raises(NoAnswer):
        session.decide(raw)
    assert not session.answers(raw)


def test_a_class_that_is_ruled_out_leaves_the_other() -> None:
    assert SESSION.decide([-math.inf, 1.0]) == ("default", [0.0, 1.0])


def test_a_regression_without_a_number_is_no_answer() -> None:
    schema = replace(SCHEMA, classes=())
    session = Session(
        graph(W[:, :1], B[:1]).SerializeToString(),
        manifest(schema, task="regression", output_kind="value"),
    )
    with pytest.raises(NoAnswer):
        session.decide([math.nan])


def one_column(dims: list[Any], *, squeeze: bool) -> bytes:
    """A graph with one score a row, declared and given as ``(n, 1)`` or ``(n,)``."""
    model = graph((W[:, 1:] - W[:, :1]), (B[1:] - B[:1]))
    inner = model.graph
    if squeeze:
        inner.node[-1].output[0] = "column"
        inner.initializer.append(helper.make_tensor("axis", TensorProto.INT64, [1], [1]))
        inner.node.append(helper.make_node("Squeeze", ["column", "axis"], ["y"]))
    del inner.output[:]
    inner.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, dims))
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("dims", "squeeze"), [(["n", 1], False), (["n", "c"], False), (["n"], True)]
)
def test_one_score_of_two_classes_is_never_a_confidence(dims: list[Any], squeeze: bool) -> None:
    session = Session(one_column(dims, squeeze=squeeze), manifest())
    x = rows(SCHEMA, 20)
    raw = session.run(x)
    assert raw.shape == (20, 2)
    assert session.run(x[:0]).shape == (0, 2)
    for mine, theirs in zip(raw.tolist(), SESSION.run(x).tolist(), strict=True):
        prediction, scores = session.decide(mine)
        assert (prediction, scores) == (
            SESSION.decide(theirs)[0], pytest.approx(SESSION.decide(theirs)[1], rel=1e-4),
        )  # fmt: skip


def test_one_score_of_three_classes_is_refused(tmp_path: Path) -> None:
    three = replace(SCHEMA, classes=("a", "b", "c"))
    with pytest.raises(ReleaseError, match="3 values a row"):
        Session(one_column(["n", 1], squeeze=False), manifest(three))
    with pytest.raises(ReleaseError, match="3 values a row"):
        Session(one_column(["n"], squeeze=True), manifest(three))
    session = Session(graph(*linear(1, three)).SerializeToString(), manifest(three))
    with pytest.raises(ReleaseError, match="gives 1 scores a row; 3 were expected"):
        session.widened(np.zeros((4, 1), np.float32))


def columns(rank: int) -> onnx.ModelProto:
    """The same function as ``graph``, with one input per feature."""
    shape: list[Any] = ["n"] if rank == 1 else ["n", 1]
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in SCHEMA.names]
    inner = graph(W, B).graph
    reshaped = [helper.make_node("Reshape", [n, "column"], [f"{n}_2d"]) for n in SCHEMA.names]
    nodes = [
        *reshaped,
        helper.make_node("Concat", [f"{n}_2d" for n in SCHEMA.names], ["x"], axis=1),
        *inner.node,
    ]
    column = helper.make_tensor("column", TensorProto.INT64, [2], [-1, 1])
    return model_of(
        helper.make_graph(nodes, "cols", inputs, list(inner.output), [*inner.initializer, column])
    )


@pytest.mark.parametrize("rank", [1, 2])
def test_one_input_per_feature_answers_like_a_matrix(rank: int) -> None:
    layout = InputLayout(kind="columns", names=SCHEMA.names, rank=rank)  # type: ignore[arg-type]
    session = Session(columns(rank).SerializeToString(), manifest(input=layout))
    x = rows(SCHEMA, 6)
    np.testing.assert_array_equal(session.run(x), SESSION.run(x))


def test_graph_that_takes_one_row_at_a_time_answers_batches() -> None:
    session = Session(graph(W, B, batch=1).SerializeToString(), manifest())
    x = rows(SCHEMA, 5)
    np.testing.assert_allclose(session.run(x), SESSION.run(x), rtol=1e-6)
    assert session.run(x[:0]).shape == (0, 2)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"input": InputLayout(kind="matrix", names=("z",))}, "inputs are"),
        ({"output": "probabilities"}, "no output"),
        ({"schema": NUMERIC}, r"shape \(n, 20\) was expected"),
        ({"schema": replace(SCHEMA, classes=("a", "b", "c"))}, "3 values a row"),
    ],
)
def test_graph_that_is_not_what_the_manifest_says_is_refused(
    change: dict[str, Any], why: str
) -> None:
    with pytest.raises(ReleaseError, match=why):
        Session(graph(W, B).SerializeToString(), manifest(**change))


def test_graph_of_a_fixed_batch_or_of_garbage_is_refused() -> None:
    with pytest.raises(ReleaseError, match="fixed to 8 rows"):
        Session(graph(W, B, batch=8).SerializeToString(), manifest())
    with pytest.raises(ReleaseError, match="cannot load"):
        Session(b"garbage", manifest())


def golden(folder: Path, **change: Any) -> Path:
    x = rows(SCHEMA, 32)
    arrays = {"inputs": x, "outputs": x @ W + B, **change}
    np.savez(folder / "golden.npz", **{k: v for k, v in arrays.items() if v is not None})
    return folder / "golden.npz"


def test_golden_test_passes_within_the_tolerance(tmp_path: Path) -> None:
    assert self_test(SESSION, golden(tmp_path)) < 1e-5


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"outputs": rows(SCHEMA, 32) @ W + B + 0.01}, "differ by 0.01"),
        ({"outputs": (rows(SCHEMA, 32) @ W + B)[:, ::-1]}, "differ"),
        ({"outputs": np.zeros((31, 2), np.float32)}, "shape"),
        ({"inputs": np.zeros((32, 4), np.float32)}, r"\(k, 3\)"),
        ({"outputs": np.full((32, 2), np.nan, np.float32)}, "not finite"),
        ({"inputs": np.full((32, 3), np.inf, np.float32)}, "not finite"),
        ({"outputs": None}, "cannot be read"),
    ],
)
def test_golden_test_fails_and_says_why(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    with pytest.raises(ReleaseError, match=why):
        self_test(SESSION, golden(tmp_path, **change))


def test_golden_labels_must_agree_whatever_the_tolerance(tmp_path: Path) -> None:
    tolerant = Session(graph(W, B).SerializeToString(), manifest(golden_tolerance=1e9))
    wrong = (rows(SCHEMA, 32) @ W + B)[:, ::-1]
    with pytest.raises(ReleaseError, match="32 of 32 golden labels differ"):
        self_test(tolerant, golden(tmp_path, outputs=wrong))


def test_golden_archive_with_pickles_is_refused(tmp_path: Path) -> None:
    path = golden(tmp_path, outputs=np.array([{"run": "me"}], dtype=object))
    with pytest.raises(ReleaseError, match="cannot be read"):
        self_test(SESSION, path)


def test_load_needs_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"no readable manifest\.json"):
        load(tmp_path)
