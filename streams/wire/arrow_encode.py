"""Write predictions as an Arrow IPC stream: one schema, one record batch.

Layout (version 1)
------------------
Schema metadata: ``redistill.format`` = ``1``, ``redistill.model``, ``redistill.version``,
``redistill.features`` = JSON list of the names of the numeric features.

========================  ===========================================  =============================
column                    type                                         meaning
========================  ===========================================  =============================
``id``                    utf8                                         1 to 200 characters
``served_at``             timestamp with a time zone                   written as us, UTC
``prediction``            dictionary<utf8>, utf8 or float64            class name, or number
``features``              FixedSizeList<float32>[F]                    null = NaN = missing
``feature.NAME``          dictionary<utf8> or utf8; bool, int64, ...   a category; a number
``scores``                FixedSizeList<float32>[C]                    optional
``segment.KEY``           dictionary<utf8> or utf8                     optional
``latency_ms``            float32                                      optional
``sample_rate``           float32                                      optional
``failed``                dictionary<utf8> or utf8                     optional: error, fallback
``prediction_interval``   FixedSizeList<float64>[2]                    optional: low, high
========================  ===========================================  =============================

Other columns are ignored. Booleans are 1 and 0 of a number, ``true`` and ``false`` of a category,
as in JSON. Whole numbers beyond 2^24, which float32 does not hold, have a column of their own: they
may name categories. Ids, classes, categories and segments of other types (integers, decimals,
bytes) are read as their texts. Buffers may not be compressed: Kafka compresses, and a megabyte that
unpacks to gigabytes would stop a worker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["FORMAT", "TIME", "encode_batch"]

FORMAT = "1"
TIME = pa.timestamp("us", "UTC")


def encode_batch(
    *,
    model: str,
    version: str,
    ids: Sequence[str],
    served_at: NDArray[np.int64],
    feature_names: Sequence[str] = (),
    features: NDArray[np.float32] | None = None,
    categories: Mapping[str, Sequence[str | float | None]] | None = None,
    prediction: Sequence[str] | NDArray[np.float64],
    scores: NDArray[np.float32] | None = None,
    segments: Mapping[str, Sequence[str | None]] | None = None,
    latency_ms: NDArray[np.float32] | None = None,
    sample_rate: NDArray[np.float32] | None = None,
    failed: Sequence[str | None] | None = None,
    prediction_interval: NDArray[np.float64] | None = None,
) -> bytes:
    """Write ``n`` predictions of one model version as one Arrow IPC stream.

    Parameters
    ----------
    model, version
        Whose predictions.
    ids
        ``n`` ids.
    served_at
        ``(n,) int64``, microseconds since 1970, UTC.
    feature_names
        Names of the ``F`` numeric features.
    features
        ``(n, F) float32``, NaN = missing.
    categories
        Name -> ``n`` strings, or booleans, or numbers that float32 does not hold.
    prediction
        ``n`` class names, or ``(n,) float64``.
    scores
        ``(n, C) float32``.
    segments
        Key -> ``n`` values.
    latency_ms, sample_rate
        ``(n,) float32``.
    failed
        ``n`` of ``error``, ``fallback`` or ``None``.
    prediction_interval
        ``(n, 2) float64``, low and high; NaN = not given.

    Examples
    --------
    >>> import numpy as np
    >>> raw = encode_batch(
    ...     model="m", version="1", ids=["a"], served_at=np.array([0]), prediction=["x"]
    ... )
    >>> pa.ipc.open_stream(raw).read_all().column_names
    ['id', 'served_at', 'prediction']
    """
    numbers = isinstance(prediction, np.ndarray)
    columns: dict[str, Any] = {
        "id": pa.array(ids, pa.utf8()),
        "served_at": pa.array(served_at, pa.int64()).cast(TIME),
        "prediction": pa.array(prediction, pa.float64()) if numbers else _words(prediction),
    }
    if features is not None and features.shape[1]:
        columns["features"] = _lists(features)
    for name, values in (categories or {}).items():
        columns[f"feature.{name}"] = _column(values)
    if scores is not None and scores.shape[1]:
        columns["scores"] = _lists(scores)
    for key, words in (segments or {}).items():
        columns[f"segment.{key}"] = _words(words)
    for name, optional in (("latency_ms", latency_ms), ("sample_rate", sample_rate)):
        if optional is not None:
            columns[name] = pa.array(optional, pa.float32())
    if failed is not None:
        columns["failed"] = _words(failed)
    if prediction_interval is not None:
        columns["prediction_interval"] = _lists(prediction_interval, np.float64)
    has_features = "features" in columns
    metadata = {
        "redistill.format": FORMAT,
        "redistill.model": model,
        "redistill.version": version,
        "redistill.features": msgspec.json.encode(list(feature_names) if has_features else []),
    }
    batch = pa.record_batch(list(columns.values()), names=list(columns)).replace_schema_metadata(
        metadata
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def _words(values: Any) -> Any:
    return pa.array(values, pa.utf8()).dictionary_encode()


def _column(values: Sequence[Any]) -> Any:
    kinds = {type(v) for v in values} - {type(None)}
    if kinds in ({bool}, {int}):
        return pa.array(values)
    return pa.array(values, pa.float64()) if kinds and kinds <= {int, float} else _words(values)


def _lists(values: NDArray[Any], kind: type[np.floating[Any]] = np.float32) -> Any:
    flat = pa.array(np.ascontiguousarray(values, kind).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
