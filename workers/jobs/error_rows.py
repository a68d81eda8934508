"""Errors to expect of a candidate's slices: from the rows of its job on which its base error is
measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from redistill.compress.plan import ERROR_ROWS, column_of
from redistill.streams.monitor.reference import expected_error
from redistill.streams.monitor.slice_columns import slice_columns, slices_of
from redistill.streams.wire.block import Codes, PredictionBlock
from redistill.workers.models.spec import ModelSpec

__all__ = ["read_expected_error"]


def read_expected_error(folder: Path, spec: ModelSpec, version: str) -> str | None:
    """Errors to expect, as ``profiles.expected_error`` has them.

    Parameters
    ----------
    folder
        Of the finished job.
    version
        Name of the candidate.

    Returns
    -------
    str or None
        ``None``: no slice has rows enough for a test, or an earlier redistill judged the candidate
        and left no rows.
    """
    path = folder / ERROR_ROWS
    if not path.is_file():
        return None
    table = pq.read_table(path)
    schema, n = spec.schema, len(table)
    columns = [table[column_of(name)].to_numpy().astype(np.float32) for name in schema.names]
    scores = np.asarray(table["scores"].combine_chunks().flatten(), np.float32)
    prediction = table["prediction"].to_pylist()
    segments = {k: column_of(k) for k in schema.divisions if k not in schema.names}
    block = PredictionBlock(
        model=spec.name,
        version=version,
        ids=[str(i) for i in range(n)],
        served_at=np.zeros(n, np.int64),
        feature_names=schema.names,
        features=np.stack(columns, axis=1),
        prediction=Codes.of(prediction),
        scores=scores.reshape(n, len(schema.classes)),
        segments={
            k: Codes.of(table[c].to_pylist())
            for k, c in segments.items()
            if c in table.column_names
        },
    )
    labels = table["label"].to_pylist()
    found = expected_error(
        block,
        slices_of(block, schema, slice_columns(schema, spec.privacy.store_features)),
        np.array([p != y for p, y in zip(prediction, labels, strict=True)], np.bool_),
        np.array([y is not None for y in labels], np.bool_),
        ordered=False,  # nobody knows it any more
    )
    return None if found is None else found.to_json()
