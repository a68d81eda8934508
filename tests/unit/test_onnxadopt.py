"""Adoption of ONNX files: what converters write is let in, changed where it must be, or refused with
the one thing to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from redistill import onnxfile, onnxports
from redistill.onnxadopt import AdoptedGraph, adopt, as_it_is
from redistill.onnxports import OnnxError

FOLDER = Path(__file__).parents[1] / "golden" / "onnx"
FEATURES, CLASSES = ("a", "b", "c"), ("no", "yes")
ROWS = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)
TRUTH = ROWS[:, 0] + 0.5 * ROWS[:, 1] > 0


def adopted(data: bytes, **options: Any) -> AdoptedGraph:
    given: dict[str, Any] = {
        "features": FEATURES,
        "classes": CLASSES,
        "output": None,
        "kind": "probabilities",
    }
    return adopt("m.onnx", data, **given | options)


def run(graph: AdoptedGraph, rows: Any = ROWS) -> Any:
    feed = onnxports.feeder(graph.layout.names, graph.layout.rank)
    return onnxfile.session(graph.data).run([graph.output], feed(rows))[0]


def real(name: str) -> bytes:
    return (FOLDER / f"{name}.onnx").read_bytes()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("xgboost", []),
        ("lightgbm", ["ZipMap is cut"]),
        ("lightgbm_text", ["ZipMap is cut"]),
        ("lightgbm_matrix", []),
        ("catboost", ["ZipMap is cut"]),
        ("catboost_text", ["ZipMap is cut"]),
        ("sklearn", ["ZipMap is cut"]),
        ("sklearn_pipeline", ["ZipMap is cut"]),
        ("sklearn_mlp", ["ZipMap is cut"]),
        ("sklearn_columns", ["ZipMap is cut"]),
        ("sklearn_double", ["ZipMap is cut", "cast to double", "cast to float32"]),
        ("keras_sigmoid", ["probability of 'yes', classes[1], and 1 - p"]),
        ("keras_softmax", []),
        ("torch_sigmoid_flat", ["probability of 'yes', classes[1], and 1 - p"]),
        ("torch_dynamo_sigmoid", ["probability of 'yes', classes[1], and 1 - p"]),
    ],
)
def test_files_of_converters_give_a_probability_per_class(name: str, changes: list[str]) -> None:
    data = real(name)
    graph = adopted(data)
    assert [c for c, said in zip(graph.changes, changes, strict=True) if said not in c] == []
    assert (graph.data == data) == (not changes)
    scores = run(graph)
    assert (scores.shape, scores.dtype) == ((50, 2), np.float32)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    facts = onnxfile.check_bytes("m", graph.data)
    assert onnxports.scores_output(facts.outputs, graph.output) == graph.output
    again = adopted(graph.data, output=graph.output)
    assert (again.data, again.changes) == (graph.data, ())
    assert adopted(data).data == graph.data  # the same file gives the same bytes
    if name.startswith(("xgboost", "lightgbm", "catboost", "sklearn")) and "mlp" not in name:
        assert ((scores[:, 1] > 0.5) == TRUTH).mean() > 0.7


@pytest.mark.parametrize(
    ("name", "kind", "why"),
    [
        (
            "keras_sigmoid",
            "logits",
            "a sigmoid, .* of 'yes': output_kind must be \"probabilities\"",
        ),
        ("torch_sigmoid_flat", "logits", 'output_kind must be "probabilities"'),
        ("torch_training", "logits", r"training mode \(BatchNormalization .*model\.eval\(\)"),
        ("torch_dynamo_training", "logits", r"training mode \(Dropout .*model\.eval\(\)"),
        ("torch_fixed", "logits", "fixed to one row; .*dynamic batch .*dynamic_axes"),
        ("sklearn_fixed", "probabilities", "dynamic batch"),
        ("sklearn_int64", "probabilities", "must be float32.*INT64.*FloatTensorType"),
        ("sklearn_mixed", "probabilities", "must be float32.*STRING.*FloatTensorType"),
        ("sklearn_neighbours", "probabilities", r"branches or loops \(Scan"),
        ("sklearn_multi", "probabilities", r"\['label', 'probabilities'\]: name the one"),
        ("sklearn_zipmap_columns", "probabilities", r"'i0', 'i1'\]: name the one"),
        ("torch_nonzero", "logits", "NonZero .* depends on the values of a row"),
    ],
)
def test_what_cannot_be_served_is_refused_with_what_to_do(name: str, kind: str, why: str) -> None:
    with pytest.raises(OnnxError, match=why):
        adopted(real(name), kind=kind)


@pytest.mark.parametrize("name", ["torch_half", "torch_int8", "torch", "sklearn_raw"])
def test_logits_in_halves_bytes_and_floats_are_read(name: str) -> None:
    scores = run(adopted(real(name), kind="logits"))
    assert (scores.shape, scores.dtype) == ((50, 2), np.float32)


@pytest.mark.parametrize("name", ["keras_logit", "xgboost_regressor"])
def test_one_logit_is_that_of_the_second_class(name: str) -> None:
    graph = adopted(real(name), kind="logits")
    assert "the logit of 'yes', classes[1], and 0 as that of 'no'" in graph.changes[0]
    plain = onnxfile.session(real(name))
    (out,) = plain.run(None, {plain.get_inputs()[0].name: ROWS})
    assert run(graph).tolist() == np.column_stack([np.zeros(50), out]).tolist()


def test_the_order_in_which_a_map_names_its_classes_is_held_to_the_schema() -> None:
    assert adopted(real("catboost_text")).changes
    with pytest.raises(OnnxError, match=r"order \['no', 'yes'\], \[schema\] classes in another"):
        adopted(real("catboost_text"), classes=("yes", "no"))
    with pytest.raises(OnnxError, match="gives 2 for a row; one score for each of the 3 classes"):
        adopted(real("catboost"), classes=("a", "b", "c"))


def test_only_the_named_map_is_read_and_the_others_go() -> None:
    model = onnx.load_from_string(real("sklearn"))
    (node,) = (n for n in model.graph.node if n.op_type == "ZipMap")
    other = model.graph.node.add()
    other.CopyFrom(node)
    other.name, other.output[0] = "again", "second"
    model.graph.output.add().CopyFrom(model.graph.output[1])
    model.graph.output[2].name = "second"
    graph = adopted(model.SerializeToString(), output="second")
    kept = onnx.load_from_string(graph.data).graph
    assert [o.name for o in kept.output] == ["output_label", "second"]
    assert run(graph).shape == (50, 2)


def small(
    nodes: list[Any],
    *,
    shape: Any = ("n", 3),
    inner: Any = (),
    out: Any = ("n", 2),
    functions: Any = (),
) -> bytes:
    weights = [numpy_helper.from_array(np.ones((3, 2), np.float32), "w"), *inner]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        weights,
    )
    opsets = [helper.make_opsetid("", 17)] + [helper.make_opsetid("own", 1)] * bool(functions)
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions)
    data: bytes = made.SerializeToString()
    return data


MATMUL = helper.make_node("MatMul", ["x", "w"], ["y"])


@pytest.mark.parametrize("shape", [None, (None, None), ("n", 3)], ids=["none", "any", "said"])
def test_an_input_without_a_shape_takes_a_matrix(shape: Any) -> None:
    data = small([MATMUL], shape=shape)
    graph = adopted(data)
    assert (graph.layout.matrix, graph.layout.rank, graph.data == data) == (True, 2, True)
    assert run(graph).shape == (50, 2)
    assert as_it_is("m", data, FEATURES, None).layout == graph.layout


@pytest.mark.parametrize("value", [True, False, None], ids=["on", "off", "unknown"])
def test_dropout_that_is_on_or_may_be_is_training(value: bool | None) -> None:
    flag = [] if value is None else [numpy_helper.from_array(np.array(value), "on")]
    data = small(
        [
            helper.make_node("Not", ["off"], ["on"])
            if value is None
            else helper.make_node("Identity", ["x"], ["spare"]),
            helper.make_node("Dropout", ["x", "", "on"], ["d"]),
            helper.make_node("MatMul", ["d", "w"], ["y"]),
        ],
        inner=[*flag, numpy_helper.from_array(np.array(True), "off")],
    )
    if value is False:
        adopted(data)
    else:
        with pytest.raises(OnnxError, match="training mode"):
            adopted(data)


@pytest.mark.parametrize("op", ["RandomNormalLike", "RandomUniformLike", "Bernoulli"])
def test_a_graph_that_draws_at_random_is_refused(op: str) -> None:
    nodes = [helper.make_node(op, ["x"], ["r"]), helper.make_node("MatMul", ["r", "w"], ["y"])]
    with pytest.raises(OnnxError, match=rf"draws at random \({op} 'r'\).*model\.eval\(\)"):
        adopted(small(nodes))


@pytest.mark.parametrize(
    ("form", "out", "why"),
    [
        ([1, 2], (1, 2), "gives 1 rows for 8: .* export it with a dynamic batch"),
        ([2, -1], (2, "n"), "gives 2 rows for 8: .*rows stand in columns"),
        ([-1, 1, 2], ("n", 1, 2), "1x2 for a row; .*: squeeze it to two dimensions"),
        ([-1, 2, 1], ("n", 2, 1), "2x1 for a row; .*: squeeze it to two dimensions"),
    ],
)
def test_scores_in_another_form_are_told_what_to_change(form: Any, out: Any, why: str) -> None:
    inner = numpy_helper.from_array(np.array(form, np.int64), "form")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Reshape", ["z", "form"], ["y"]),
    ]
    with pytest.raises(OnnxError, match=why):
        adopted(small(nodes, inner=[inner], out=out))


def test_a_size_of_no_rows_is_told() -> None:
    with pytest.raises(OnnxError, match=r"its input is fixed to no rows; .* a dynamic batch"):
        adopted(small([MATMUL], shape=(0, 3)))


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_a_class_as_a_number_is_no_score(kind: str) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("ArgMax", ["z"], ["label"], axis=1, keepdims=0),
        helper.make_node("Cast", ["label"], ["y"], to=TensorProto.FLOAT),
    ]
    with pytest.raises(OnnxError, match=r"'y' is the class's number \(ArgMax 'label'\), no score"):
        adopted(small(nodes, out=("n",)), kind=kind)


def test_training_inside_a_function_of_the_file_is_found() -> None:
    body = [
        helper.make_node("Constant", [], ["t"], value=numpy_helper.from_array(np.array(True), "t")),
        helper.make_node("Dropout", ["a", "", "t"], ["b"]),
    ]
    function = helper.make_function("own", "f", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    call = helper.make_node("f", ["x"], ["d"], domain="own")
    nodes = [call, helper.make_node("MatMul", ["d", "w"], ["y"])]
    with pytest.raises(OnnxError, match="training mode"):
        adopted(small(nodes, functions=[function]))


def test_a_file_that_serves_is_taken_as_it_is_whatever_is_refused_now() -> None:
    for name in ("sklearn_neighbours", "torch_training", "torch_nonzero"):
        data = real(name)
        with pytest.raises(OnnxError):
            adopted(data)
        output = "probabilities" if name.startswith("sk") else None
        assert as_it_is("m", data, FEATURES, output).data == data


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_file_is_adopted_or_refused_in_words(seed: int) -> None:
    rng = np.random.default_rng(seed)
    files = sorted(FOLDER.glob("*.onnx"))
    kinds = set()
    for i in range(100):
        data = bytearray(files[i % len(files)].read_bytes())
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(len(data)))
            match int(rng.integers(3)):
                case 0:
                    data[at] = int(rng.integers(256))
                case 1:
                    del data[at : at + int(rng.integers(1, 20))]
                case _:
                    data[at:at] = data[: int(rng.integers(1, 200))]
        try:
            adopted(bytes(data))
        except OnnxError as error:
            kinds.add(str(error)[:20])
            told = len(str(error))
        else:
            told = 0
        assert told < 1_500
    assert len(kinds) > 1
