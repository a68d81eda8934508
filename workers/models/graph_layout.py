"""The layout of a graph that somebody brings: how it takes the schema's features, and which output holds scores."""

from __future__ import annotations

from redistill.streams.client.graph import GraphFacts
from redistill.streams.client.release import InputLayout
from redistill.streams.errors import ReleaseError
from redistill.streams.wire.block import Schema


def input_layout(facts: GraphFacts, schema: Schema) -> InputLayout:
    """How a graph takes the schema's features: one matrix, or one input per feature.

    Raises
    ------
    ReleaseError
        Neither; the message says what the graph takes.
    """
    features = schema.names
    ports = {p.name: p for p in facts.inputs}
    if any(p.element != "FLOAT" for p in facts.inputs):
        told = {p.name: p.element for p in facts.inputs if p.element != "FLOAT"}
        raise ReleaseError(
            f"the graph's inputs must be float32; these are not: {told} (numbers, and categories as"
            " their index, are given to it as float32: export it so, or put a Cast before it)"
        )
    if len(facts.inputs) == 1:
        (port,) = facts.inputs
        if len(port.shape) == 2 and port.shape[1] in (None, len(features)):
            return InputLayout(kind="matrix", names=(port.name,))
    if set(ports) == set(features):
        ranks = {len(p.shape) for p in facts.inputs}
        if ranks == {1}:
            return InputLayout(kind="columns", names=features, rank=1)
        if ranks == {2} and all(p.shape[1] in (None, 1) for p in facts.inputs):
            return InputLayout(kind="columns", names=features, rank=2)
    shapes = {p.name: list(p.shape) for p in facts.inputs}
    raise ReleaseError(
        f"the graph takes {shapes}; one float32 input of shape (n, {len(features)}) was expected, "
        f"or one input per feature named as in the schema"
    )


def output_name(facts: GraphFacts, wanted: str | None) -> str:
    """The output that is read.

    Raises
    ------
    ReleaseError
        There is no such output, it holds no float32, or none was named and there are several.
    """
    elements = {p.name: p.element for p in facts.outputs}
    names = list(elements)
    if wanted is None and len(names) > 1:
        raise ReleaseError(
            f"the graph has the outputs {names}: name the one with a score per class (key output)"
        )
    name = names[0] if wanted is None else wanted
    if name not in elements:
        raise ReleaseError(f"the graph has no output {name!r}; it has {names}")
    if elements[name] == "UNDEFINED":
        raise ReleaseError(
            f"output {name!r} is no tensor but a list or map: export the scores as a float32 matrix"
            ' (skl2onnx: options={"zipmap": False})'
        )
    if elements[name] != "FLOAT":
        scores = [n for n, element in elements.items() if element == "FLOAT"]
        raise ReleaseError(
            f"output {name!r} holds {elements[name]}: float32 scores, one per class, were expected"
            f" (outputs of float32: {scores or 'none'})"
        )
    return name
