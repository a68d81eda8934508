"""Schema that nobody declared: what a graph takes and a file of rows holds, as far as they say it.

Numbers only: which index a category has is written in no file.
"""

from __future__ import annotations

from collections.abc import Sequence

from redistill.onnxports import Port
from redistill.rowfiles import RowFile
from redistill.rownames import nearly, number_of
from redistill.rowvalues import texts
from redistill.streams.wire.block import Feature, Schema
from redistill.workers.errors import UsageError
from redistill.workers.models.dataset_columns import listed

__all__ = ["infer"]

MAX_CLASSES = 1_000
"""Distinct labels; more are an id or a number, and no classes."""
DECLARE = "declare them in [schema] of the policy (--policy), as in model.toml"


def infer(
    inputs: Sequence[Port], file: RowFile, *, label: str, classes: Sequence[str]
) -> tuple[Schema, tuple[str, ...]]:
    """The schema under which a graph is called with the rows of a file.

    Parameters
    ----------
    inputs
        Of the graph.
    file
        Its columns are looked at, and all labels where ``classes`` is empty.
    label
        Name of the column of labels.
    classes
        As the graph tells them, in the order of its scores; empty: it does not.

    Returns
    -------
    tuple
        The schema, and what was assumed, a sentence each.

    Raises
    ------
    UsageError
        Graph and file do not tell it; the message says what to declare.
    """
    if label not in file.columns:
        raise UsageError(
            f"{file.name} has no column {label!r}: name the column of labels with --labels (it has"
            f" {listed(file.columns, 12)}){nearly([label], file.columns)}"
        )
    names, assumed = _features(inputs, file, label)
    if not classes:
        classes = _classes(file, label)
        assumed += (f"the classes are the labels of the file in their order: {listed(classes, 6)}",)
    return Schema(features=tuple(Feature(name=n) for n in names), classes=tuple(classes)), assumed


def _features(
    inputs: Sequence[Port], file: RowFile, label: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    there = [c for c in file.columns if c != label]
    if len(inputs) > 1:
        names = tuple(p.name for p in inputs)
        if lacking := [n for n in names if n not in there]:
            raise UsageError(
                f"{file.name} has no column for the inputs {listed(lacking)} of the graph (it has"
                f" {listed(there, 12)}){nearly(lacking, there)}"
            )
        return names, ()
    kinds = file.kinds(there)
    numbers = tuple(c for c in there if kinds[c] == "number")
    shape = inputs[0].shape
    width = shape[1] if len(shape) == 2 else None
    others = [c for c in there if kinds[c] != "number"]
    if (width is not None and len(numbers) != width) or not numbers:
        beside = f", and {len(others)} that are none: {listed(others)}" if others else ""
        raise UsageError(
            f"the graph takes {'a number of' if width is None else width} features, and"
            f" {file.name} has {len(numbers)} columns of numbers beside {label!r}:"
            f" {listed(numbers, 12) if numbers else 'none'}{beside}. Which columns they are, and"
            f" which values a category has: {DECLARE}"
        )
    assumed = [
        f"the features are the columns of numbers as the file orders them: {listed(numbers, 6)}"
    ]
    if others:
        assumed.append(f"columns that are no numbers are left out: {listed(others)}")
    return numbers, tuple(assumed)


def _classes(file: RowFile, label: str) -> tuple[str, ...]:
    """Distinct labels: numbers by value, else by their letters, as scikit-learn orders them."""
    found: dict[str, None] = {}
    for batch in file.batches({label: "text"}):
        found |= {t: None for t in texts(batch[label]).values if t.strip()}
        if len(found) > MAX_CLASSES:
            raise UsageError(
                f"column {label!r} of {file.name} has more than {MAX_CLASSES:,} distinct values:"
                " these are no classes; name the column of labels with --labels"
            )
    if len(found) < 2:
        raise UsageError(
            f"column {label!r} of {file.name} holds {listed(list(found)) or 'no label at all'}:"
            f" labels of two classes at least are needed, or {DECLARE}"
        )
    numeric = {t: number_of(t) for t in found}
    if all(v is not None and v == v for v in numeric.values()):
        return tuple(sorted(found, key=lambda t: (float(numeric[t] or 0.0), t)))
    return tuple(sorted(found))
