"""Rows of an Arrow batch, one by one, as they would stand in JSON: for a sample, never for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pyarrow as pa

from redistill.rowvalues import is_number, is_single, numbers
from redistill.streams.errors import WireError
from redistill.streams.wire.arrow import numeric_names
from redistill.streams.wire.arrow_columns import codes_of, lists
from redistill.streams.wire.arrow_encode import TIME
from redistill.streams.wire.failures import failure_of

__all__ = ["rows_of_batch"]

At = Callable[[int], Any]


def rows_of_batch(batch: Any, most: int) -> Iterator[dict[str, Any]]:
    """The first rows of a batch; each is made when it is asked for.

    Parameters
    ----------
    batch
        As ``open_batch`` gives it.
    most
        Rows.

    Yields
    ------
    dict
        ``id``, ``served_at`` (microseconds since 1970), ``prediction``, ``scores``, ``features``,
        ``segment``, ``failed``; ``None`` is missing. A feature of a type that none has is left out.

    Raises
    ------
    WireError, pyarrow.ArrowException
        The batch is not in the layout.
    """
    batch = batch.slice(0, most)
    metadata = batch.schema.metadata or {}
    names = numeric_names(metadata.get(b"redistill.features", b"[]").decode("utf-8", "replace"))
    matrix = lists(batch, "features", len(names))
    scores = None
    if batch.schema.get_field_index("scores") >= 0:
        with suppress(WireError):
            scores = lists(batch, "scores", -1)
    columns: dict[str, dict[str, At]] = {"feature": {}, "segment": {}}
    for name in batch.schema.names:
        kind, dot, rest = name.partition(".")
        if dot and (at := _column(batch.column(name), name)) is not None:
            columns[kind][rest] = at
    ids, predictions = (_column(batch.column(n), n) for n in ("id", "prediction"))
    at = batch.schema.get_field_index("failed")
    failed = None if at < 0 else batch.column(at).to_pylist()
    served_at = batch.column("served_at").cast(TIME).cast(pa.int64()).to_pylist()
    for i in range(batch.num_rows):
        features = dict(zip(names, matrix[i].tolist(), strict=True))
        yield {
            "id": ids and ids(i),
            "served_at": served_at[i],
            "prediction": predictions and predictions(i),
            "scores": None if scores is None else scores[i].tolist(),
            "failed": None if failed is None else failure_of(failed[i])[0],
            "features": features | {k: at(i) for k, at in columns["feature"].items()},
            "segment": {k: v for k, at in columns["segment"].items() if (v := at(i)) is not None},
        }


def _column(column: Any, name: str) -> At | None:
    """Row -> value of a column; ``None``: no value of it has a text."""
    if not is_single(column.type):
        return None
    if is_number(column.type):
        exact = pa.types.is_boolean(column.type) or pa.types.is_integer(column.type)
        values = column.to_pylist() if exact else numbers(column)[0].tolist()
        return lambda i: values[i]
    codes, words = codes_of(column, name)
    texts = [*words, None]  # code -1 = missing = the last one
    return lambda i: texts[codes[i]]
