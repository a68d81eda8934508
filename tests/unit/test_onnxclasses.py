"""Class names that an ONNX file tells."""

from __future__ import annotations

from pathlib import Path

import linear
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from redistill.onnxclasses import class_names
from redistill.onnxports import OnnxError


def graph(tmp_path: Path) -> onnx.ModelProto:
    return onnx.load(linear.graph(tmp_path / "m.onnx", np.ones((3, 2), np.float32)))


def one_of_three(inner: tuple[str, ...], *, label: bool) -> onnx.ModelProto:
    """A classifier of three, made of another one as skl2onnx writes one-against-rest and stacking:
    the labels are weights, and the last thing before the label."""
    kind = {"domain": "ai.onnx.ml", "coefficients": [0.0] * 2 * len(inner)}
    nodes = [
        helper.make_node(
            "LinearClassifier", ["x"], ["l", "p"], classlabels_strings=list(inner), **kind
        ),
        helper.make_node("MatMul", ["p", "w"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["best"]),
        helper.make_node(
            "ArrayFeatureExtractor", ["stack_classes", "best"], ["label"], domain="ai.onnx.ml"
        ),
    ]
    outputs = [
        helper.make_tensor_value_info("label", onnx.TensorProto.STRING, [None]),
        helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [None, 3]),
    ]
    names = np.array(["high", "low", "mid"], object)
    return helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, 2])],
            outputs[not label :],
            [
                numpy_helper.from_array(np.ones((len(inner), 3), np.float32), "w"),
                numpy_helper.from_array(names, "stack_classes"),
            ],
        )
    )


def told(model: onnx.ModelProto) -> tuple[str, ...]:
    return class_names("m.onnx", model.SerializeToString())


def test_classifier_tells_its_labels(tmp_path: Path) -> None:
    data = linear.forest(tmp_path / "f.onnx").read_bytes()
    assert class_names("f.onnx", data) == ("no", "yes")


def test_zipmap_of_whole_numbers_is_believed_before_a_classifier(tmp_path: Path) -> None:
    model = onnx.load(linear.forest(tmp_path / "f.onnx"))
    model.graph.node.append(
        helper.make_node(
            "ZipMap", ["probabilities"], ["m"], domain="ai.onnx.ml", classlabels_int64s=[3, 5]
        )
    )
    assert told(model) == ("3", "5")


def test_labels_among_the_weights_are_those_of_skl2onnx(tmp_path: Path) -> None:
    model = graph(tmp_path)
    assert told(model) == ()
    model.graph.initializer.append(numpy_helper.from_array(np.array([7, 9]), "classes1"))
    assert told(model) == ("7", "9")


@pytest.mark.parametrize(
    ("inner", "label", "expected"),
    [
        (("0", "1"), True, ("high", "low", "mid")),
        (("0", "1", "2"), True, ("high", "low", "mid")),
        (("0", "1"), False, ()),
    ],
)
def test_classifiers_inside_of_another_one_do_not_tell_its_classes(
    tmp_path: Path, inner: tuple[str, ...], label: bool, expected: tuple[str, ...]
) -> None:
    assert told(one_of_three(inner, label=label)) == expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("names", "{0: 'cat', 1: 'dog'}", ("cat", "dog")),
        ("classes", '["no", "yes"]', ("no", "yes")),
        ("id2label", '{"1": "b", "0": "a"}', ("a", "b")),
        ("classes", '["no", "no"]', ()),
        ("classes", '{"2": "a", "0": "b"}', ()),
        ("classes", "[" * 50_000, ()),
        ("classes", "[[1], [2]]", ()),
        ("other", '["no", "yes"]', ()),
    ],
)
def test_metadata_is_read_as_exporters_write_it(
    tmp_path: Path, key: str, value: str, expected: tuple[str, ...]
) -> None:
    model = graph(tmp_path)
    model.metadata_props.add(key=key, value=value)
    assert told(model) == expected


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(OnnxError, match="x\\.onnx"):
        class_names("x.onnx", b"\x80\x04")
