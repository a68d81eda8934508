"""Rows of a batch, one by one, are what the same rows are in JSON."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from redistill.streams.wire.arrow_encode import encode_batch
from redistill.streams.wire.arrow_open import open_batch
from redistill.streams.wire.arrow_rows import rows_of_batch


def test_rows_are_as_they_would_stand_in_json() -> None:
    raw = encode_batch(
        model="m", version="1", ids=["a", "b", "c"], served_at=np.array([5, 6, 7]),
        feature_names=["x"], features=np.array([[1.5], [2], [3]], np.float32),
        categories={"c": ["EU", None, "US"], "b": [True, False, None]},
        prediction=np.array([1.0, 0.0, 1.0]), scores=np.full((3, 2), 0.5, np.float32),
        segments={"s": ["web", None, "app"]}, failed=[None, "fallback", None],
    )  # fmt: skip
    rows = list(rows_of_batch(open_batch(raw), 2))
    assert rows == [
        {"id": "a", "served_at": 5, "prediction": 1.0, "scores": [0.5, 0.5],
         "features": {"x": 1.5, "c": "EU", "b": True}, "segment": {"s": "web"},
             "failed": None},
        {"id": "b", "served_at": 6, "prediction": 0.0, "scores": [0.5, 0.5],
         "features": {"x": 2.0, "c": None, "b": False}, "segment": {},
             "failed": "fallback"},
    ]  # fmt: skip


def test_features_of_a_type_that_none_has_are_left_out() -> None:
    columns = {
        "id": pa.array(["a"]), "served_at": pa.array([1], pa.timestamp("s", "UTC")),
        "prediction": pa.array(["p"]), "feature.n": pa.array([1]), "feature.l": pa.array([[1]]),
    }  # fmt: skip
    sink = pa.BufferOutputStream()
    batch = pa.record_batch(columns)
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    (row,) = rows_of_batch(open_batch(sink.getvalue().to_pybytes()), 9)
    assert (row["served_at"], row["features"], row["scores"]) == (1_000_000, {"n": 1}, None)
