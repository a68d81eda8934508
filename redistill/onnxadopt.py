"""Adoption of an ONNX file that somebody brings: checked, and given the form in which graphs are
called here.

Converters differ in how a graph takes rows and gives scores; what follows from the file alone is
done to it once, where it comes in, and all that load it later need not know: a list of maps becomes
a matrix (the node ZipMap is cut), other floats are cast, one score of two classes becomes two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from redistill import onnxfile, onnxports, onnxsizes, onnxwalk
from redistill.onnxports import GraphLayout, OnnxError
from redistill.onnxwalk import called

__all__ = ["CAST", "AdoptedGraph", "adopt", "as_it_is"]

CAST = {"DOUBLE": 11, "FLOAT16": 10}
"""Floats that are cast from and to float32."""
FLOAT = 1
CHANCE = frozenset(
    [
        *("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"),
        "RandomUniformLike",
    ]
)
"""Operators that draw at random."""
PASSED_ON = ("Identity", "Reshape", "Flatten", "Cast", "Squeeze", "Unsqueeze")
"""Operators that give what they get in another form."""
OPSET = 9
"""Of the standard operators, in a file that used none of them so far."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdoptedGraph:
    """A file as it is kept, and how it is called."""

    data: bytes
    layout: GraphLayout
    output: str
    changes: tuple[str, ...] = ()
    """What was done to it, a sentence each."""


def as_it_is(name: str, data: bytes, features: Sequence[str], output: str | None) -> AdoptedGraph:
    """A file that serves already: only what every reader of it asks is asked.

    Raises
    ------
    OnnxError
        It cannot be loaded or called.
    """
    facts = onnxfile.check_bytes(name, data)
    return AdoptedGraph(
        data=data,
        layout=onnxports.layout(facts.inputs, features),
        output=onnxports.scores_output(facts.outputs, output),
    )


def adopt(
    name: str,
    data: bytes,
    *,
    features: Sequence[str],
    classes: Sequence[str],
    output: str | None,
    kind: str,
) -> AdoptedGraph:
    """Check a file, and change it where it must be to be called.

    Parameters
    ----------
    name
        Its name, for messages.
    features, classes
        Of the schema.
    output
        Name of the output to be read; ``None``: the only one with scores.
    kind
        ``logits`` or ``probabilities``.

    Returns
    -------
    AdoptedGraph
        The same bytes where nothing had to be changed; else the same for the same file.

    Raises
    ------
    OnnxError
        It cannot be used; the message says what to do.
    """
    onnxfile.check_bytes(name, data)
    with onnxwalk.guarded(name):
        return _adopted(name, data, features, classes, output, kind)


def _adopted(
    name: str,
    data: bytes,
    features: Sequence[str],
    classes: Sequence[str],
    output: str | None,
    kind: str,
) -> AdoptedGraph:
    model = onnxwalk.parse(name, data)
    _refuse_training(name, model)
    _refuse_control_flow(name, model)
    changes = [*_cut_maps(model, output, classes), *_cast_inputs(model)]
    inputs, outputs = onnxfile.ports(model)
    layout = onnxports.layout(inputs, features)
    if layout.rows is not None or any(p.shape[:1] == (0,) for p in inputs):
        rows_of = "one row" if layout.rows else "no rows"
        raise OnnxError(
            f"{name}: its input is fixed to {rows_of}; export it with a dynamic batch"
            f" ({onnxports.DYNAMIC})"
        )
    floats = [replace(p, element="FLOAT") if p.element in CAST else p for p in outputs]
    read = onnxports.scores_output(floats, output)
    width = len(features) if layout.matrix else 1
    rows = (onnxsizes.SIZED_ROWS, width)[: layout.rank]
    element, shape = onnxsizes.check(name, model, dict.fromkeys(layout.names, rows))[read]
    if element in CAST.values():
        changes.append(_cast_output(model, read))
    if shape in {rows[:1], (*rows[:1], 1)} and len(classes) == 2:
        changes.append(_two_columns(model, read, classes, kind))
    elif not shape or shape[0] != onnxsizes.SIZED_ROWS:
        raise OnnxError(
            f"{name}: output {read!r} gives {shape[0] if shape else 1} rows for"
            f" {onnxsizes.SIZED_ROWS}: the number of rows is fixed inside the graph (a Reshape), or"
            f" rows stand in columns; export it with a dynamic batch ({onnxports.DYNAMIC})"
        )
    elif shape[1:] != (len(classes),):
        per_row = "x".join(map(str, shape[1:])) or "one number"
        reshaped = sorted(shape[1:]) == [1] * (len(shape) - 2) + [len(classes)]
        way = ": squeeze it to two dimensions and export it again" if reshaped else ""
        raise OnnxError(
            f"{name}: output {read!r} gives {per_row} for a row; one score for each of the"
            f" {len(classes)} classes was expected{way}"
        )
    if changes:
        data = model.SerializeToString(deterministic=True)
        onnxfile.check_bytes(name, data)
    return AdoptedGraph(data=data, layout=layout, output=read, changes=tuple(changes))


def _refuse_training(name: str, model: Any) -> None:
    """Refuse layers that still learn, or draw at random."""
    constants = {t.name: t for t in model.graph.initializer}
    for node in onnxwalk.nodes(model):
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                constants[node.output[0]] = attribute.t
    for node in onnxwalk.nodes(model):
        if node.op_type in CHANCE and node.domain in onnxfile.DEFAULT_DOMAINS:
            raise OnnxError(
                f"{name} draws at random ({called(node)}): it answers a row otherwise each time."
                " Export it without noise and sampling (torch: model.eval()), the scores themselves"
            )
        numbers = {a.name: a.i for a in node.attribute}
        if node.op_type == "Dropout" and node.domain in onnxfile.DEFAULT_DOMAINS:
            flag = node.input[2] if len(node.input) > 2 else ""
            training = bool(flag) and (flag not in constants or _true(constants[flag]))
        elif node.op_type == "BatchNormalization":
            training = (
                bool(numbers.get("training_mode")) or len(list(filter(None, node.output))) > 1
            )
        else:
            continue
        if training:
            raise OnnxError(
                f"{name} was exported in training mode ({called(node)} answers otherwise each time,"
                " or by its batch): call model.eval() and export it again (torch.onnx.export:"
                " training=TrainingMode.EVAL)"
            )


def _true(tensor: Any) -> bool:
    from onnx import numpy_helper

    return bool(numpy_helper.to_array(tensor).any())


def _refuse_control_flow(name: str, model: Any) -> None:
    """Refuse graphs inside nodes: what they take and give is known only when they run."""
    for node in onnxwalk.nodes(model):
        if any(a.HasField("g") or a.graphs for a in node.attribute):
            raise OnnxError(
                f"{name} has branches or loops ({called(node)}): how long it runs and how much it"
                " needs is not known before; export the model without them (torch: without"
                " scripting; scikit-learn: neighbours cannot be exported otherwise)"
            )


def _cut_maps(model: Any, wanted: str | None, classes: Sequence[str]) -> list[str]:
    """Let the output be the matrix of which the node ZipMap makes a list of maps."""
    from onnx import helper

    graph, changes = model.graph, []
    maps = {n.output[0]: n for n in graph.node if n.op_type == "ZipMap" and len(n.output) == 1}
    for output in [o for o in graph.output if o.name in maps]:
        node = maps[output.name]
        graph.node.remove(node)
        if wanted not in (None, output.name):
            graph.output.remove(output)
            continue
        labels = _labels(node)
        if set(labels) == set(classes) and labels != list(classes):
            raise OnnxError(
                f"its scores stand in the order {labels}, [schema] classes in another: write them"
                " so (output i belongs to classes[i])"
            )
        _rename(model, node.input[0], output.name)
        shape = [None, len(labels) or None]
        output.CopyFrom(helper.make_tensor_value_info(output.name, FLOAT, shape))
        changes.append(f"output {output.name!r}: its scores are read as a matrix (ZipMap is cut)")
    return changes


def _labels(node: Any) -> list[str]:
    """Class names of a ZipMap, as texts."""
    out: list[str] = []
    for attribute in node.attribute:
        out += [s.decode(errors="replace") for s in attribute.strings]
        out += [str(i) for i in attribute.ints]
    return out


def _cast_inputs(model: Any) -> list[str]:
    """Let inputs of other floats be float32."""
    from onnx import TensorProto, helper

    weights, changes = {t.name for t in model.graph.initializer}, []
    for value in model.graph.input:
        tensor = value.type.tensor_type
        element = TensorProto.DataType.Name(tensor.elem_type)
        if element in CAST and value.name not in weights:
            inner = _free(model, value.name)
            for node in model.graph.node:
                node.input[:] = [inner if n == value.name else n for n in node.input]
            model.graph.node.insert(
                0, helper.make_node("Cast", [value.name], [inner], to=CAST[element])
            )
            _standard(model)
            tensor.elem_type = FLOAT
            changes.append(f"input {value.name!r}: float32 is cast to {element.lower()}")
    return changes


def _cast_output(model: Any, read: str) -> str:
    """Let scores in other floats be float32."""
    from onnx import helper

    inner = _free(model, read)
    _rename(model, read, inner)
    model.graph.node.append(helper.make_node("Cast", [inner], [read], to=FLOAT))
    _standard(model)
    (value,) = (o for o in model.graph.output if o.name == read)
    value.type.tensor_type.elem_type = FLOAT
    return f"output {read!r} is cast to float32"


def _two_columns(model: Any, read: str, classes: Sequence[str], kind: str) -> str:
    """Let the one score of two classes, that of the second, be two: 1 - p and p, or 0 and the
    logit."""
    from onnx import helper, numpy_helper

    makers = {o: n for n in model.graph.node for o in n.output}
    source = read
    while (maker := makers.get(source)) is not None and maker.op_type in PASSED_ON:
        source = maker.input[0]
    if kind == "logits" and maker is not None and maker.op_type == "Sigmoid":
        raise OnnxError(
            f"output {read!r} is a sigmoid, the probability of {classes[1]!r}: output_kind must be"
            ' "probabilities"'
        )
    if maker is not None and _is_label(maker, source):
        raise OnnxError(
            f"output {read!r} is the class's number ({called(maker)}), no score: name the"
            " output with a score per class (key output), or export the model with it"
        )
    one, flat, column, other = (_free(model, f"{read}_{i}") for i in range(4))
    _rename(model, read, one)
    zero_or_one = np.array([[1.0 if kind == "probabilities" else 0.0]], np.float32)
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([-1, 1], np.int64), flat),
            numpy_helper.from_array(zero_or_one, f"{other}_of"),
        ]
    )
    weight = numpy_helper.from_array(
        np.array([[-1.0 if kind == "probabilities" else 0.0]], np.float32), f"{other}_by"
    )
    model.graph.initializer.append(weight)
    model.graph.node.extend(
        [
            helper.make_node("Reshape", [one, flat], [column]),
            helper.make_node("Mul", [column, f"{other}_by"], [f"{other}_part"]),
            helper.make_node("Add", [f"{other}_part", f"{other}_of"], [other]),
            helper.make_node("Concat", [other, column], [read], axis=1),
        ]
    )
    _standard(model)
    (value,) = (o for o in model.graph.output if o.name == read)
    value.CopyFrom(helper.make_tensor_value_info(read, FLOAT, [None, 2]))
    first = "1 - p" if kind == "probabilities" else "0"
    what = "probability" if kind == "probabilities" else "logit"
    return (
        f"output {read!r} has one score for two classes: it is taken as the {what} of"
        f" {classes[1]!r}, classes[1], and {first} as that of {classes[0]!r}"
    )


def _is_label(maker: Any, source: str) -> bool:
    """Whether what a node makes is the class itself: a number, and no score."""
    if maker.op_type == "ArgMax":
        return True
    return bool(maker.op_type.endswith("Classifier") and maker.output[0] == source)


def _rename(model: Any, old: str, new: str) -> None:
    """Give a value inside the graph another name; outputs of the graph keep theirs."""
    for node in model.graph.node:
        node.input[:] = [new if n == old else n for n in node.input]
        node.output[:] = [new if n == old else n for n in node.output]
    for value in [v for v in model.graph.value_info if v.name in (old, new)]:
        model.graph.value_info.remove(value)


def _free(model: Any, like: str) -> str:
    """A name that nothing in the graph has."""
    taken = {n for node in model.graph.node for n in (*node.input, *node.output)}
    taken |= {v.name for v in (*model.graph.input, *model.graph.output, *model.graph.initializer)}
    name = f"{like}_adopted"
    while name in taken:
        name += "_"
    return name


def _standard(model: Any) -> None:
    """Say of which opset the standard operators are, where none were used so far."""
    from onnx import helper

    if not any(o.domain in onnxfile.DEFAULT_DOMAINS for o in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", OPSET))
