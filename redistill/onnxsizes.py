"""Sizes of everything an ONNX graph makes, told before it runs: shapes from the shapes of its
inputs and from constants.

A file of two kilobytes can ask for gigabytes (``ConstantOfShape``, ``Expand``, a chain of
``Concat``), and a graph whose shapes depend on the values of a row can do so for one row in a
million.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redistill.onnxports import OnnxError
from redistill.onnxrules import RULES, Form, number
from redistill.onnxwalk import called

__all__ = ["SIZED_ROWS", "check"]

SIZED_ROWS = 8
"""Rows of the call that is reckoned, where a graph takes any number."""
MAX_WORKING_BYTES = 512 << 20
"""Of all that the nodes make in that call. A layer of 16,384 makes half a megabyte."""
MAX_NODES = 50_000
"""Nodes of a graph, those in functions as often as they are called."""
MAX_DEPTH = 16
"""Functions that call functions."""
FOLDED = frozenset(
    [
        *("Cast", "Concat", "Constant", "ConstantOfShape", "Expand", "Flatten", "Gather"),
        *("Identity", "Range", "Reshape", "Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
        *("Abs", "Add", "Ceil", "Div", "Floor", "Max", "Min", "Mod", "Mul", "Neg", "Pow", "Round"),
        *("ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Sub", "Sum", "Where"),
        *("And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or"),
    ]
)
"""Operators with which exporters reckon shapes: on few constants they are run here."""
FOLDED_VALUES = 4_096
"""Values of a constant that shapes are reckoned from."""
BYTES = dict.fromkeys((2, 3, 9), 1) | dict.fromkeys((4, 5, 10, 16), 2) | {1: 4, 6: 4, 12: 4, 8: 64}
"""Of an element, by ``TensorProto.DataType``, a text with its object; the others have eight."""
WIDE = 8
FLOAT = 1

Shape = tuple[int, ...]


@dataclass(slots=True)
class _Budget:
    name: str
    nodes: int = 0
    bytes: int = 0

    def take(self, node: Any, size: int) -> None:
        self.bytes += size
        if self.bytes > MAX_WORKING_BYTES:
            raise OnnxError(
                f"{self.name}: {called(node)} makes {size:,} bytes, and all nodes up to it more"
                f" than {MAX_WORKING_BYTES:,}, the most that a model may ask for"
            )

    def count(self) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise OnnxError(
                f"{self.name} has more than {MAX_NODES:,} nodes (its functions inlined)"
            )


@dataclass(slots=True)
class _Known:
    """What is known of the values of a graph, by name."""

    types: dict[str, Any] = field(default_factory=dict)
    """``TypeProto``."""
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)


def check(name: str, model: Any, inputs: Mapping[str, Shape]) -> dict[str, Form]:
    """Refuse a graph that asks for too much, or whose sizes cannot be told before it runs.

    Parameters
    ----------
    name
        The file's, for messages.
    model
        A ``ModelProto`` without graphs inside nodes.
    inputs
        Shape of each input in the call that is reckoned.

    Returns
    -------
    dict
        Elements and shape of each output in that call.

    Raises
    ------
    OnnxError
        Naming the node.
    """
    from onnx import helper, numpy_helper

    budget, known = _Budget(name), _Known()
    for at, shape in inputs.items():
        known.types[at] = helper.make_tensor_type_proto(FLOAT, shape)
    for tensor in model.graph.initializer:
        known.types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
        if math.prod(tensor.dims) <= FOLDED_VALUES:
            known.constants[tensor.name] = numpy_helper.to_array(tensor)
    for sparse in model.graph.sparse_initializer:
        values = sparse.values
        known.types[values.name] = helper.make_tensor_type_proto(values.data_type, sparse.dims)
        budget.take(
            helper.make_node("sparse_initializer", [], [values.name]),
            _bytes(values.data_type, tuple(sparse.dims)),
        )
    functions = {(f.domain, f.name): f for f in model.functions}
    _Sizer(functions, budget).graph(model.graph.node, known, _versions(model.opset_import), 0)
    lost = [o.name for o in model.graph.output if o.name not in known.types]
    if lost:
        raise OnnxError(f"{name}: nothing makes its output {lost[0][:80]!r}")
    return {o.name: _form(known.types[o.name]) for o in model.graph.output}


def _versions(imports: Any) -> dict[str, int]:
    return {"" if o.domain == "ai.onnx" else o.domain: o.version for o in imports}


def _bytes(element: int, shape: Shape) -> int:
    return math.prod(shape) * BYTES.get(element, WIDE)


@dataclass(frozen=True, slots=True)
class _Sizer:
    functions: Mapping[tuple[str, str], Any]
    budget: _Budget

    def graph(
        self, nodes: Sequence[Any], known: _Known, versions: Mapping[str, int], depth: int
    ) -> None:
        """Reckon all nodes, each after those that it reads from."""
        for node in _sorted(self.budget.name, nodes, known.types):
            self.budget.count()
            function = self.functions.get((node.domain, node.op_type))
            if function is not None:
                self._call(node, function, known, depth)
            else:
                self._node(node, known, versions)

    def _call(self, node: Any, function: Any, known: _Known, depth: int) -> None:
        """A function that the file brings: its body, with what it is given."""
        if depth == MAX_DEPTH:
            raise OnnxError(
                f"{self.budget.name}: function {function.name[:80]!r} is called more than"
                f" {MAX_DEPTH} functions deep"
            )
        inner = _Known()
        for formal, actual in zip(function.input, node.input, strict=False):
            for ours, theirs in ((inner.types, known.types), (inner.constants, known.constants)):
                if actual in theirs:
                    ours[formal] = theirs[actual]
        given = {a.name: a for a in (*function.attribute_proto, *node.attribute)}
        body = [_filled(inside, given) for inside in function.node]
        self.graph(body, inner, _versions(function.opset_import), depth + 1)
        for formal, actual in zip(function.output, node.output, strict=False):
            if formal in inner.types:
                known.types[actual] = inner.types[formal]
            if formal in inner.constants:
                known.constants[actual] = inner.constants[formal]

    def _node(self, node: Any, known: _Known, versions: Mapping[str, int]) -> None:
        found = self._types(node, known, versions)
        small = True
        for output in filter(None, node.output):
            kind = found.get(output)
            shape = None if kind is None else _shape(kind)
            if kind is None or shape is None:
                raise OnnxError(
                    f"{self.budget.name}: how much {called(node)} gives depends on the values of a"
                    " row, or is a list: export the model without it, so that all sizes follow from"
                    " the number of rows"
                )
            known.types[output] = kind
            small = small and math.prod(shape) <= FOLDED_VALUES
            self.budget.take(node, _bytes(kind.tensor_type.elem_type, shape))
        if small and node.domain in ("", "ai.onnx"):
            known.constants |= _constants(node, known, versions.get("", 1))

    def _types(self, node: Any, known: _Known, versions: Mapping[str, int]) -> Mapping[str, Any]:
        """Types of the outputs, as far as onnx or a rule of ours tells them."""
        from onnx import defs, helper, numpy_helper, shape_inference

        domain = "" if node.domain == "ai.onnx" else node.domain
        types = {n: known.types[n] for n in node.input if n}
        found: dict[str, Any] = {}
        why = ""
        if defs.has(node.op_type, domain):
            data = {
                n: numpy_helper.from_array(known.constants[n], n)
                for n in types
                if n in known.constants
            }
            try:
                found = shape_inference.infer_node_outputs(
                    defs.get_schema(node.op_type, versions.get(domain, 1), domain),
                    node,
                    types,
                    data,
                    opset_imports=[helper.make_opsetid(d, v) for d, v in versions.items()],
                    ir_version=10,
                )
            except Exception as error:  # classes of a C++ module, without a common base
                why = str(error)
        outputs = [n for n in node.output if n]
        rule = RULES.get((domain, node.op_type))
        if rule is not None and not all(n in found and _shape(found[n]) for n in outputs):
            try:
                forms = rule(node, [_form(types[n]) if n else None for n in node.input])
            except (IndexError, ValueError) as error:
                why = str(error)
            else:
                forms += forms[-1:] * len(outputs)
                return {
                    n: helper.make_tensor_type_proto(*form)
                    for n, form in zip(outputs, forms, strict=False)
                }
        if why:
            raise OnnxError(f"{self.budget.name}: {called(node)} cannot be: {why[:200]}")
        return found


def _form(kind: Any) -> Form:
    return kind.tensor_type.elem_type, _shape(kind) or ()


def _shape(kind: Any) -> Shape | None:
    """A shape of which every size is known."""
    tensor = kind.tensor_type
    if not kind.HasField("tensor_type") or not tensor.HasField("shape"):
        return None
    if not all(d.HasField("dim_value") and d.dim_value >= 0 for d in tensor.shape.dim):
        return None
    return tuple(d.dim_value for d in tensor.shape.dim)


def _filled(node: Any, given: Mapping[str, Any]) -> Any:
    """A node of a function with its attributes, those that the call gives among them."""
    if not any(a.ref_attr_name for a in node.attribute):
        return node
    out = type(node)()
    out.CopyFrom(node)
    del out.attribute[:]
    for attribute in node.attribute:
        source = given.get(attribute.ref_attr_name) if attribute.ref_attr_name else attribute
        if source is not None:
            out.attribute.add().CopyFrom(source)
            out.attribute[-1].name = attribute.name
    return out


def _constants(node: Any, known: _Known, opset: int) -> dict[str, NDArray[Any]]:
    """Values of the outputs, where they follow from sizes and constants."""
    if node.op_type == "Shape":
        sizes = np.array(_shape(known.types[node.input[0]]), np.int64)
        last = number(node, "end") if any(a.name == "end" for a in node.attribute) else None
        return {node.output[0]: sizes[number(node, "start") : last]}
    if node.op_type == "Size":
        return {node.output[0]: np.array(math.prod(_shape(known.types[node.input[0]]) or ()))}
    inputs = [n for n in dict.fromkeys(node.input) if n]
    if node.op_type not in FOLDED or any(n not in known.constants for n in inputs):
        return {}
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    outputs = [n for n in node.output if n]
    takes, gives = (
        [helper.make_value_info(n, known.types[n]) for n in x] for x in (inputs, outputs)
    )
    model = helper.make_model(
        helper.make_graph([node], "node", takes, gives),
        opset_imports=[helper.make_opsetid("", opset)],
    )
    try:
        made = ReferenceEvaluator(model).run(None, {n: known.constants[n] for n in inputs})
    except Exception:  # what cannot be reckoned is not known
        return {}
    return {n: np.asarray(value) for n, value in zip(outputs, made, strict=True)}


def _sorted(name: str, nodes: Sequence[Any], there: Mapping[str, Any]) -> list[Any]:
    """The nodes, each after those that it reads from.

    Raises
    ------
    OnnxError
        A node reads what nothing makes, or two nodes make the same; or there is a circle.
    """
    if len(nodes) > MAX_NODES:
        raise OnnxError(f"{name} has {len(nodes):,} nodes; {MAX_NODES:,} are allowed")
    made: dict[str, int] = {}
    for i, node in enumerate(nodes):
        for output in filter(None, node.output):
            if output in made or output in there:
                raise OnnxError(f"{name}: {called(node)} makes {output[:80]!r} a second time")
            made[output] = i
    waits: list[int] = []
    readers: dict[int, list[int]] = defaultdict(list)
    for i, node in enumerate(nodes):
        sources = {n for n in node.input if n and n not in there}
        if lost := [n for n in sources if n not in made]:
            raise OnnxError(f"{name}: {called(node)} reads {lost[0][:80]!r}, which nothing makes")
        for source in {made[n] for n in sources}:
            readers[source].append(i)
        waits.append(len({made[n] for n in sources}))
    ready = deque(i for i, left in enumerate(waits) if not left)
    out: list[Any] = []
    while ready:
        i = ready.popleft()
        out.append(nodes[i])
        for reader in readers[i]:
            waits[reader] -= 1
            if not waits[reader]:
                ready.append(reader)
    if len(out) < len(nodes):
        raise OnnxError(f"{name}: its graph runs in a circle")
    return out
