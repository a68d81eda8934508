"""Ports of graphs: how rows go in, and which output is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from release_kit import graph, linear, model_of

from redistill import onnxfile
from redistill.onnxports import (
    GraphLayout,
    OnnxError,
    Port,
    feeder,
    layout,
    of_session,
    scores_output,
)

FEATURES = ("a", "b", "c")
X = np.arange(6, dtype=np.float32).reshape(2, 3)


def port(name: str, *shape: int | None, element: str = "FLOAT") -> Port:
    return Port(name=name, element=element, shape=shape)


def columns(*shape: int | None) -> list[Port]:
    return [port(name, *shape) for name in reversed(FEATURES)]


@pytest.mark.parametrize(
    ("inputs", "matrix", "rank", "rows"),
    [
        ([port("x", None, 3)], True, 2, None),
        ([port("x", None, None)], True, 2, None),
        ([port("x", 1, 3)], True, 2, 1),
        ([port("x")], True, 2, None),
        (columns(None), False, 1, None),
        (columns(None, 1), False, 2, None),
        (columns(1, None), False, 2, 1),
    ],
)
def test_layout_is_found(inputs: list[Port], matrix: bool, rank: Any, rows: int | None) -> None:
    names = ("x",) if matrix else FEATURES
    assert layout(inputs, FEATURES) == GraphLayout(matrix=matrix, names=names, rank=rank, rows=rows)


def test_one_feature_may_be_a_vector_named_like_it() -> None:
    assert layout([port("a", None)], ["a"]) == GraphLayout(
        matrix=False, names=("a",), rank=1, rows=None
    )
    assert layout([port("a", None, 1)], ["a"]).matrix


@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        ([port("x", None, 4)], r"takes \{'x': \[None, 4\]\}; .*shape \(n, 3\) was expected"),
        ([port("x", None, 3), port("z", None)], "one input per feature"),
        ([port("x", None, 3, element="DOUBLE")], "must be float32.*DOUBLE"),
        (columns(None, 2), "one input per feature"),
        ([*columns(None)[:2], port("a", None, 1)], "one input per feature"),
        (columns(None)[:2], r"schema; it lacks \['a'\]"),
        ([*columns(None)[:2], port("A", None)], r"lacks \['a'\]; \['A'\] are no features"),
        ([*columns(None), port("d", None)], r"; \['d'\] are no features of the schema"),
        ([*columns(None)[:2], port("a", None, 1)], r"all of its inputs must be \(n, 1\), or all"),
        ([], "one float32 input"),
        ([port("x", 8, 3)], r"fixed to 8 rows; export it with a dynamic batch .*dynamic_axes"),
    ],
)
def test_other_inputs_are_told(inputs: list[Port], why: str) -> None:
    with pytest.raises(OnnxError, match=why):
        layout(inputs, FEATURES)


@pytest.mark.parametrize(("size", "rows"), [(None, None), (0, None), (-1, None), (1, 1)])
def test_a_size_that_is_none_fixes_no_rows(size: int | None, rows: int | None) -> None:
    assert layout([port("x", size, 3)], FEATURES).rows == rows


@pytest.mark.parametrize(
    ("names", "rank", "shape"), [(["x"], 2, (2, 3)), (FEATURES, 1, (2,)), (FEATURES, 2, (2, 1))]
)
def test_rows_are_fed_in_the_order_of_the_features(
    names: Sequence[str], rank: int, shape: tuple[int, ...]
) -> None:
    fed = feeder(names, rank)(X)
    assert list(fed) == list(names)
    assert {v.shape for v in fed.values()} == {shape}
    assert all(v.flags.c_contiguous for v in fed.values())
    np.testing.assert_array_equal(np.column_stack(list(fed.values())), X)


def test_output_is_found_by_name_or_is_the_only_one() -> None:
    outputs = [
        port("label", None, element="INT64"),
        port("p", None, 2),
        port("zipped", element="UNDEFINED"),
    ]
    assert scores_output(outputs, "p") == scores_output(outputs[1:2], None) == "p"
    assert scores_output(outputs, None) == "p"  # labels and maps beside the only float32
    with pytest.raises(OnnxError, match=r"\['label', 'p', 'q'\]: name the one with"):
        scores_output([*outputs[:2], port("q", None, 2)], None)
    for wanted, why in (
        ("z", "no output 'z'"),
        ("label", r"'label' holds INT64.*\['p'\]"),
        ("zipped", r"no tensor but a list or map.*zipmap"),
    ):
        with pytest.raises(OnnxError, match=why):
            scores_output(outputs, wanted)


def test_file_and_session_describe_the_same_ports(tmp_path: Path) -> None:
    built = graph(*linear(1)).graph
    vector = helper.make_node("ArgMax", ["y"], ["label"], axis=1, keepdims=0)
    maps = helper.make_node(
        "ZipMap", ["y"], ["zipped"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]
    )
    built.node.extend([vector, maps])
    built.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]))
    each = helper.make_map_type_proto(
        TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    )
    built.output.append(helper.make_value_info("zipped", helper.make_sequence_type_proto(each)))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    path = tmp_path / "model.onnx"
    onnx.save(model_of(built, opset_imports=opsets), path)
    facts, session = onnxfile.check(path), onnxfile.session(path)
    assert of_session(session.get_inputs()) == facts.inputs
    assert of_session(session.get_outputs()) == facts.outputs
    assert [p.element for p in facts.outputs] == ["FLOAT", "INT64", "UNDEFINED"]
