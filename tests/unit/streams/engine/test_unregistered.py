from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from stream_rows import new_database, prediction, record

from redistill.streams.engine.unregistered import UnregisteredRows
from redistill.streams.store.batch import FlushBatch
from redistill.streams.wire.codec import decode_predictions


@pytest.mark.parametrize(
    ("odd", "structured"),
    [
        (True, False),
        (True, True),
        ([1, 2], False),
        ({"a": 1}, True),
        (float("nan"), False),
        (float("inf"), False),
        (10**400, False),
    ],
    ids=lambda v: str(v)[:9],
)
def test_rows_with_a_value_that_fits_no_column_are_sampled(
    tmp_path: Path, odd: Any, structured: bool
) -> None:
    body = {
        "id": "a",
        "model": "other",
        "version": "1",
        "served_at": "2025-11-24T16:00:00+01:00",
        "prediction": "repay",
        "scores": [0.5, None],
        "features": {"odd": odd, "region": "US", "age": 30},
    }
    sent = record(prediction(0), 0)._replace(value=json.dumps(body).encode())
    if structured:
        event = {"specversion": "1.0", "type": "redistill.prediction.v1", "id": "e", "source": "/x"}
        sent = sent._replace(
            headers=[("content-type", b"application/cloudevents+json; charset=UTF-8")],
            value=json.dumps(event | {"data": body}).encode(),
        )
    decoded = decode_predictions([sent], lambda _: None)
    rows = UnregisteredRows(new_database(f"sqlite:///{tmp_path / 'x.db'}"))
    rows.add(decoded.blocks[0], [sent], np.array([0]), 1)
    batch = FlushBatch()
    rows.close(batch)
    sample = batch.unregistered["other", "1"].sample
    assert sample is not None
    table = pa.ipc.open_stream(io.BytesIO(sample)).read_all()
    assert table["feature.region"].to_pylist() == ["US"]
    names = json.loads(table.schema.metadata[b"redistill.features"])
    assert names == (["age"] if isinstance(odd, list | dict) else ["age", "odd"])
    assert table["served_at"].cast(pa.int64()).to_pylist() == [1_763_996_400_000_000]
