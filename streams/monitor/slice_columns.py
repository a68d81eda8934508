"""Columns of slices: by which accuracy is broken down and tested, declared or by default."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec
import numpy as np

from redistill.streams.wire.block import Codes, PredictionBlock, Schema

__all__ = ["slice_columns", "slices_from_json", "slices_of"]

VALUES = range(2, 51)
"""Values of a category that is a column of slices by default: more are hardly slices, and each
would have few rows."""
MOST_COLUMNS = 20
"""Columns of slices by default, the first ones in the schema's order: each multiplies the labels
per false alarm that a test of a slice has to reach."""


def slice_columns(schema: Schema, stored: Collection[str] | None = None) -> tuple[str, ...]:
    """Columns of slices of a model: what ``[schema] slices`` and ``groups`` declare, and each
    categorical feature of 2 to 50 values that may be stored and is not in ``no_slices``.

    Parameters
    ----------
    stored
        Features that ``[privacy] store_features`` allows; ``None``: all.

    Examples
    --------
    >>> from redistill.streams.wire.block import Feature
    >>> region = Feature(name="region", kind="category", values=("EU", "US"))
    >>> shop = Feature(name="shop", kind="category", values=("a", "b", "c"))
    >>> schema = Schema(features=(region, shop), slices=("channel",))
    >>> slice_columns(schema), slice_columns(schema, stored=["region"])
    (('channel', 'region', 'shop'), ('channel', 'region'))
    """
    declared = schema.divisions
    found = [
        f.name
        for f in schema.features
        if f.kind == "category"
        and len(f.values) in VALUES
        and f.name not in declared
        and f.name not in schema.no_slices
        and (stored is None or f.name in stored)
    ]
    return (*declared, *found[:MOST_COLUMNS])


def slices_of(
    block: PredictionBlock, schema: Schema, columns: Collection[str]
) -> Mapping[str, Codes]:
    """Slices of each row of a block, per column: from its segments, else from a category.

    Returns
    -------
    dict
        Column -> ``(n,)``; a column that the block has not is left out.
    """
    out: dict[str, Codes] = {}
    for name in columns:
        if (codes := block.segments.get(name)) is not None:
            out[name] = codes
            continue
        for j, f in enumerate(schema.features):
            if f.name == name and f.kind == "category" and j < block.features.shape[1]:
                found = np.nan_to_num(block.features[:, j], nan=-1.0).astype(np.int32)
                out[name] = Codes(np.where(found < len(f.values), found, -1), f.values)
    return out


def slices_from_json(texts: Sequence[str | None], columns: Collection[str]) -> Mapping[str, Codes]:
    """Slices of stored rows, per column.

    Parameters
    ----------
    texts
        ``{"column": "value"}`` of each row, as join rows and outcomes have it.

    Raises
    ------
    msgspec.MsgspecError
        If one of them is no such object.

    Examples
    --------
    >>> found = slices_from_json(['{"region": "EU"}', None], ["region", "shop"])
    >>> {name: codes.strings() for name, codes in found.items()}
    {'region': ['EU', None], 'shop': [None, None]}
    """
    read = {t: msgspec.json.decode(t, type=dict[str, str]) if t else {} for t in set(texts)}
    return {name: Codes.of([read[t].get(name) for t in texts]) for name in columns}
