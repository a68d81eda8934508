"""Sizes of graphs: what a file asks for is reckoned before it runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from release_kit import graph, linear

from redistill import onnxsizes
from redistill.onnxports import OnnxError

N = helper.make_node
INPUT = {"x": (8, 3)}


def constant(name: str, *values: int) -> Any:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def model(
    nodes: list[Any], *inner: Any, functions: Any = (), outputs: tuple[str, ...] = ("y",)
) -> Any:
    built = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
        list(inner),
    )
    opsets = [helper.make_opsetid(d, v) for d, v in (("", 17), ("own", 1), ("com.microsoft", 1))]
    return helper.make_model(built, opset_imports=opsets, ir_version=8, functions=functions)


def function(name: str, nodes: list[Any]) -> Any:
    return helper.make_function("own", name, ["a"], ["b"], nodes, [helper.make_opsetid("", 17)])


def sizes(*args: Any, **more: Any) -> Any:
    return onnxsizes.check("m.onnx", model(*args, **more), INPUT)


def test_sizes_that_follow_from_the_rows_are_told() -> None:
    assert onnxsizes.check("m", graph(*linear(0)), INPUT) == {"y": (TensorProto.FLOAT, (8, 2))}


def test_shapes_that_a_graph_reckons_from_its_input_are_told() -> None:
    nodes = [
        N("Shape", ["x"], ["s"]),
        N("Gather", ["s", "zero"], ["rows"]),
        N("Concat", ["rows", "four"], ["wanted"], axis=0),
        N("Cast", ["wanted"], ["f"], to=TensorProto.FLOAT),
        N("Floor", ["f"], ["g"]),
        N("Cast", ["g"], ["i"], to=TensorProto.INT64),
        N("ConstantOfShape", ["i"], ["y"]),
    ]
    told = sizes(nodes, constant("zero", 0), constant("four", 4))
    assert told == {"y": (TensorProto.FLOAT, (8, 4))}


BIG = 400_000_000
BOMBS: dict[str, list[Any]] = {
    "constant": [N("ConstantOfShape", ["big"], ["y"])],
    "expand": [N("ReduceSum", ["x"], ["s"], keepdims=0), N("Expand", ["s", "big"], ["y"])],
    "tile": [N("Flatten", ["x"], ["f"]), N("Tile", ["f", "both"], ["y"])],
    "pad": [N("Pad", ["x", "pads"], ["y"])],
    "range": [N("Range", ["from", "to", "by"], ["y"])],
    "one-hot": [
        N("Cast", ["x"], ["i"], to=TensorProto.INT64),
        N("OneHot", ["i", "many", "values"], ["y"]),
    ],
    "random": [N("RandomNormal", [], ["y"], shape=[BIG])],
    "resize": [N("Unsqueeze", ["x", "axes"], ["u"]), N("Resize", ["u", "", "", "to4"], ["y"])],
    "concat-chain": [
        N("Identity", ["x"], ["c0"]),
        *[N("Concat", [f"c{i}", f"c{i}"], [f"c{i + 1}"], axis=0) for i in range(26)],
        N("Identity", ["c26"], ["y"]),
    ],
    "broadcast": [
        N("ConstantOfShape", ["tall"], ["t"]),
        N("ConstantOfShape", ["wide"], ["w"]),
        N("Add", ["t", "w"], ["y"]),
    ],
    "product": [
        N("ConstantOfShape", ["tall"], ["t"]),
        N("ConstantOfShape", ["wide"], ["w"]),
        N("MatMul", ["t", "w"], ["y"]),
    ],
    "many-small": [N("ConstantOfShape", ["some"], [f"p{i}"]) for i in range(20)]
    + [N("Identity", ["x"], ["y"])],
}
CONSTANTS = [
    constant("big", BIG),
    constant("both", BIG // 24, 1),
    constant("pads", 0, 0, BIG // 3, 0),
    numpy_helper.from_array(np.array(0, np.int64), "from"),
    numpy_helper.from_array(np.array(BIG, np.int64), "to"),
    numpy_helper.from_array(np.array(1, np.int64), "by"),
    numpy_helper.from_array(np.array(BIG, np.int64), "many"),
    constant("values", 0, 1),
    constant("axes", 0, 1),
    constant("to4", 1, 1, BIG, 3),
    constant("tall", 40_000, 1),
    constant("wide", 1, 40_000),
    constant("some", 10_000_000),
]


@pytest.mark.parametrize("name", BOMBS)
def test_a_constant_bomb_is_refused_before_it_runs(name: str) -> None:
    with pytest.raises(OnnxError, match=r"makes .* bytes.* more than 536,870,912"):
        sizes(BOMBS[name], *CONSTANTS)


def test_a_bomb_in_a_function_or_a_sparse_weight_is_found() -> None:
    shape = constant("s", BIG)
    body = [N("Constant", [], ["s"], value=shape), N("ConstantOfShape", ["s"], ["b"])]
    call = N("f", ["x"], ["y"], domain="own")
    with pytest.raises(OnnxError, match="ConstantOfShape 'b' makes"):
        sizes([call], functions=[function("f", body)])
    # the size stands in the call, not in the function
    sized = N("RandomNormal", [], ["b"])
    sized.attribute.add(name="shape", type=onnx.AttributeProto.INTS, ref_attr_name="size")
    reference = function("f", [sized])
    reference.attribute.append("size")
    call = N("f", ["x"], ["y"], domain="own", size=[BIG])
    with pytest.raises(OnnxError, match="RandomNormal 'b' makes"):
        sizes([call], functions=[reference])
    made = model([N("Identity", ["x"], ["y"])])
    value, at = numpy_helper.from_array(np.ones(1, np.float32), "w"), constant("i", 0)
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(value, at, [BIG]))
    with pytest.raises(OnnxError, match="sparse_initializer 'w' makes"):
        onnxsizes.check("m", made, INPUT)


@pytest.mark.parametrize(
    "nodes",
    [
        [N("NonZero", ["x"], ["y"])],
        [N("Unique", ["x"], ["y"])],
        [N("Cast", ["x"], ["c"], to=9), N("Compress", ["x", "flat"], ["y"])],
        [
            N("ReduceSum", ["x"], ["s"], keepdims=0),
            N("Cast", ["s"], ["n"], to=7),
            N("Range", ["from", "n", "by"], ["y"]),
        ],
        [
            N("Slice", ["x", "from1", "to1"], ["f"]),
            N("Cast", ["f"], ["i"], to=7),
            N("Flatten", ["i"], ["k"], axis=0),
            N("Reshape", ["k", "minus"], ["s"]),
            N("ConstantOfShape", ["s"], ["y"]),
        ],
        [
            N("ReduceSum", ["x"], ["s"]),
            N("Cast", ["s"], ["n"], to=7),
            N("Reshape", ["n", "minus"], ["k"]),
            N("TopK", ["x", "k"], ["y", "i"]),
        ],
        [N("SequenceConstruct", ["x", "x"], ["y"])],
    ],
    ids=["nonzero", "unique", "compress", "range", "constant-of-shape", "top-k", "sequence"],
)
def test_sizes_that_depend_on_values_are_refused(nodes: list[Any]) -> None:
    inner = [
        numpy_helper.from_array(np.array([True] * 8), "flat"),
        *CONSTANTS[3:6],
        constant("from1", 0),
        constant("to1", 1),
        constant("minus", -1),
    ]
    if nodes[1:] and nodes[1].op_type == "Compress":
        nodes = [N("ReduceMax", ["x"], ["m"], axes=[1], keepdims=0), N("Cast", ["m"], ["c"], to=9)]
        nodes += [N("Compress", ["x", "c"], ["y"])]
    with pytest.raises(OnnxError, match="depends on the values of a row"):
        sizes(nodes, *inner)


def test_graphs_that_are_none_are_refused_in_words() -> None:
    relu = N("Relu", ["x"], ["y"])
    for nodes, why in (
        ([N("Relu", ["lost"], ["y"])], "reads 'lost', which nothing makes"),
        ([relu, N("Relu", ["x"], ["y"])], "makes 'y' a second time"),
        ([relu, N("Relu", ["x"], ["x"])], "makes 'x' a second time"),
        ([N("Add", ["x", "b"], ["a"]), N("Relu", ["a"], ["b"]), relu], "runs in a circle"),
        ([N("Relu", ["x"], ["z"])], "nothing makes its output 'y'"),
        ([N("Gemm", ["x", "x"], ["y"])], "Gemm 'y' cannot be"),
        ([N("Transpose", ["x"], ["y"], perm=[7])], "Transpose 'y' cannot be"),
    ):
        with pytest.raises(OnnxError, match=why):
            sizes(nodes)


def test_nodes_may_stand_in_any_order() -> None:
    told = sizes([N("Relu", ["a"], ["y"]), N("Relu", ["x"], ["a"])])
    assert told["y"] == (TensorProto.FLOAT, (8, 3))


def test_more_nodes_than_allowed_are_refused_also_where_functions_multiply_them() -> None:
    made = model([N("Relu", ["x"], ["y"])])
    made.graph.node.extend([N("Relu", ["x"], ["z"])] * onnxsizes.MAX_NODES)
    with pytest.raises(OnnxError, match="50,001 nodes; 50,000 are allowed"):
        onnxsizes.check("m", made, INPUT)
    levels = 14
    functions = [function("f0", [N("Relu", ["a"], ["b"])])]
    for i in range(1, levels):
        inner = [N(f"f{i - 1}", ["a"], [f"t{j}"], domain="own") for j in range(4)]
        functions.append(function(f"f{i}", [*inner, N("Relu", ["t0"], ["b"])]))
    with pytest.raises(OnnxError, match=r"more than 50,000 nodes \(its functions inlined\)"):
        sizes([N(f"f{levels - 1}", ["x"], ["y"], domain="own")], functions=functions)


def test_a_function_that_calls_itself_is_refused() -> None:
    itself = function("f", [N("f", ["a"], ["b"], domain="own")])
    with pytest.raises(OnnxError, match="more than 16 functions deep"):
        sizes([N("f", ["x"], ["y"], domain="own")], functions=[itself])


def test_operators_of_microsoft_do_not_hide_sizes() -> None:
    wide = [N("ConstantOfShape", ["tall"], ["t"]), N("ConstantOfShape", ["wide"], ["w"])]
    product = N("FusedMatMul", ["t", "w"], ["y"], domain="com.microsoft")
    with pytest.raises(OnnxError, match="FusedMatMul 'y' makes"):
        sizes([*wide, product], *CONSTANTS)
    gelu = N("Gelu", ["x"], ["y"], domain="com.microsoft")
    assert sizes([gelu]) == {"y": (TensorProto.FLOAT, (8, 3))}


OPERATORS = st.sampled_from(
    [
        *("Relu", "Shape", "Concat", "Expand", "Tile", "Reshape", "Gather", "ConstantOfShape"),
        *("MatMul", "Add", "Transpose", "Slice", "Pad", "Range", "TopK", "Split", "Conv", "Einsum"),
        *("Resize", "OneHot", "Unsqueeze", "Cast", "Where", "Flatten", "Squeeze", "DepthToSpace"),
    ]
)
NAMES = st.sampled_from(["x", "a", "b", "c", "k", "neg", "huge", "", "lost"])
NUMBERS = st.sampled_from([-(2**63), -1, 0, 1, 2, 3, 2**31, 2**62])
ATTRIBUTES = st.dictionaries(
    st.sampled_from(
        ["axis", "to", "perm", "blocksize", "num_outputs", "strides", "group", "shape"]
    ),
    st.one_of(NUMBERS, st.lists(NUMBERS, max_size=3).filter(bool)),
    max_size=3,
)
NODES = st.lists(
    st.tuples(OPERATORS, st.lists(NAMES, max_size=4), st.sampled_from("abcy"), ATTRIBUTES),
    min_size=1,
    max_size=6,
)


@settings(max_examples=150, deadline=None)
@given(nodes=NODES)
def test_any_graph_is_reckoned_or_refused_in_words(nodes: list[Any]) -> None:
    made = [N(o, inputs, [out], **attributes) for o, inputs, out, attributes in nodes]
    inner = [constant("k", 2, 3), constant("neg", -5, 0), constant("huge", 2**62)]
    why = ""
    try:
        sizes(made, *inner)
    except OnnxError as error:
        why = str(error)
    assert len(why) < 600
