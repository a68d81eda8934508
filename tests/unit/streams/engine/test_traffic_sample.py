"""A sample of strangers' traffic has bounds of its own, whatever the rows look like."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from stream_rows import prediction, record

from redistill.streams.engine import traffic_sample as module
from redistill.streams.engine.traffic_sample import TrafficSample
from redistill.streams.wire.codec import ARROW, Record, headers_of
from redistill.streams.wire.events import PredictionMade


def wire(body: dict[str, Any]) -> Record:
    whole = {
        "id": "a",
        "model": "other",
        "version": "1",
        "served_at": "2025-11-24T16:00:00Z",
        "prediction": "repay",
    }
    return record(prediction(0), 0)._replace(value=json.dumps(whole | body).encode())


def batch(columns: dict[str, Any], names: list[str] | None = None) -> Record:
    n = 3
    whole = {
        "id": pa.array([f"r{i}" for i in range(n)]),
        "served_at": pa.array(range(n), pa.int64()).cast(pa.timestamp("us", "UTC")),
        "prediction": pa.array(["repay"] * n).dictionary_encode(),
    } | columns
    made = pa.record_batch(list(whole.values()), names=list(whole)).replace_schema_metadata(
        {"redistill.model": "other", "redistill.version": "1",
         "redistill.features": json.dumps(names or [])}
    )  # fmt: skip
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, made.schema) as writer:
        writer.write_batch(made)
    headers = headers_of(PredictionMade, source="/t", event_id="1", content_type=ARROW)
    return Record("predictions", 0, 0, 0, b"other", sink.getvalue().to_pybytes(), headers)


def table(sample: TrafficSample) -> pa.Table:
    return pa.ipc.open_stream(io.BytesIO(sample.encode("other", "1"))).read_all()


def numeric(sample: TrafficSample) -> list[str]:
    return list(json.loads(table(sample).schema.metadata[b"redistill.features"]))


def test_columns_of_all_rows_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLE_COLUMNS", 5)
    sample = TrafficSample()
    left_out = sum(
        sample.extend(wire({"features": {f"a{j}_{i}": 1 for i in range(3)}})) for j in range(4)
    )
    assert numeric(sample) == ["a0_0", "a0_1", "a0_2", "a1_0", "a1_1"]
    assert (left_out, table(sample).num_rows) == (7, 4)


def test_rows_times_columns_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLE_CELLS", 20)
    sample = TrafficSample()
    for _ in range(9):
        sample.extend(wire({"features": {f"a{i}": 1 for i in range(6)}, "scores": [0.5] * 30}))
    assert (sample.full, table(sample).num_rows, len(numeric(sample))) == (True, 3, 6)
    assert "scores" not in table(sample).column_names


def test_bytes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLE_BYTES", 1_000)
    sample = TrafficSample()
    for _ in range(99):
        sample.extend(wire({"features": {"x": "v" * 200}}))
    assert sample.full
    assert sample.bytes <= 1_000
    assert table(sample).num_rows < 5


def test_row_too_large_for_any_sample_leaves_room_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SAMPLE_BYTES", 1_000)
    sample = TrafficSample()
    assert sample.extend(wire({"features": {f"a{i}": 1 for i in range(500)}})) == 500
    sample.extend(wire({"features": {"x": 1}}))
    assert (sample.full, numeric(sample)) == (False, ["x"])


def test_long_names_and_texts_are_left_out_and_counted() -> None:
    long = "v" * 257
    sample = TrafficSample()
    given = {"features": {"x": long, long: 1, "y": 2}, "segment": {"s": "a", "t": "b" * 256}}
    assert sample.extend(wire(given)) == 2
    assert numeric(sample) == ["y"]
    assert [n for n in table(sample).column_names if "." in n] == ["segment.s", "segment.t"]


@pytest.mark.parametrize(
    "odd",
    [[1.5, None, 2.0], [1, 2, 3], [True, None, False], [b"\xff"] * 3, [[1], [2], None]],
    ids=str,
)
def test_segment_that_is_no_text_is_left_out_and_the_rows_are_kept(odd: list[Any]) -> None:
    sample = TrafficSample()
    sample.extend(batch({"segment.a": pa.array(odd), "segment.b": pa.array(["x", None, "y"])}))
    assert table(sample)["id"].to_pylist() == ["r0", "r1", "r2"]
    assert table(sample)["segment.b"].to_pylist() == ["x", None, "y"]


def test_numbers_beyond_float32_are_stored_as_infinite() -> None:
    sample = TrafficSample()
    sample.extend(wire({"features": {"x": 1e300}, "scores": [1e39]}))
    assert table(sample)["features"].to_pylist() == [[math.inf]]


def test_segment_keys_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLE_SEGMENTS", 2)
    sample = TrafficSample()
    assert sample.extend(wire({"segment": {f"s{i}": "a" for i in range(5)}})) == 3
    assert [n for n in table(sample).column_names if "." in n] == ["segment.s0", "segment.s1"]


def test_columns_of_a_batch_that_nobody_reads_are_never_written_out() -> None:
    nulls = pa.FixedSizeListArray.from_arrays(pa.nulls(3 * 2_000_000), 2_000_000)
    long = pa.DictionaryArray.from_arrays(pa.array([0, 0, 1]), pa.array(["w" * 400_000, "b"]))
    sample = TrafficSample()
    matrix = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(6, np.float32)), 2)
    sample.extend(
        batch(
            {"debug": nulls, "feature.n": nulls, "feature.w": long, "feature.b": pa.array([True] * 3),
             "features": matrix, "scores": matrix},
            ["x", "y"],
        )
    )  # fmt: skip
    assert numeric(sample) == ["b", "x", "y"]
    assert table(sample)["feature.w"].to_pylist() == [None, None, "b"]
    assert table(sample)["scores"].to_pylist() == [[1.0, 1.0]] * 3


def test_stored_sample_is_read_again_or_begun_anew() -> None:
    first = TrafficSample()
    first.extend(wire({"features": {"x": 1, "c": "EU"}, "segment": {"s": "a"}, "scores": [1, 0]}))
    stored = first.encode("other", "1")
    again = TrafficSample.of(stored)
    assert (again.stored, again.due) == (1, False)
    assert again.encode("other", "1") == stored
    for broken in (None, b"", b"garbage"):
        assert TrafficSample.of(broken).stored == 0
