"""Rows that failed: their answers are left out where they are decoded, in either encoding."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from redistill.streams.wire.block import Codes, Feature, PredictionBlock, Schema
from redistill.streams.wire.codec import (
    ARROW,
    Record,
    decode_predictions,
    encode_batch,
    headers_of,
)
from redistill.streams.wire.events import PredictionMade
from redistill.streams.wire.failures import failure_codes, without_answers

SCHEMA = Schema(features=(Feature(name="x"),), classes=("a", "b"))


def decoded(*records: Record) -> PredictionBlock:
    found = decode_predictions(list(records), lambda model: SCHEMA)
    assert found.dead == []
    (block,) = found.blocks
    return block


def json_row(i: int, **more: Any) -> Record:
    body = {
        "id": f"r{i}", "model": "m", "version": "1", "served_at": "2026-01-02T03:04:05Z",
        "features": {"x": 1.0}, "prediction": "a", "scores": [0.9, 0.1],
    }  # fmt: skip
    headers = tuple(headers_of(PredictionMade, source="/", event_id=str(i)))
    return Record("predictions", 0, i, 0, b"m", json.dumps(body | more).encode(), headers)


def arrow_rows(column: pa.Array, name: str = "failed") -> Record:
    n = len(column)
    raw = encode_batch(
        model="m", version="1", ids=[f"r{i}" for i in range(n)], served_at=np.arange(n),
        feature_names=["x"], features=np.ones((n, 1), np.float32), prediction=["a"] * n,
        scores=np.full((n, 2), 0.5, np.float32),
    )  # fmt: skip
    batch = pa.ipc.open_stream(raw).read_next_batch()
    metadata = batch.schema.metadata
    made = pa.record_batch([*batch.columns, column], names=[*batch.schema.names, name])
    sink = pa.BufferOutputStream()
    made = made.replace_schema_metadata(metadata)
    with pa.ipc.new_stream(sink, made.schema) as writer:
        writer.write_batch(made)
    headers = headers_of(PredictionMade, source="/", event_id="1", content_type=ARROW)
    return Record("predictions", 0, 0, 0, b"m", sink.getvalue().to_pybytes(), tuple(headers))


def test_failed_rows_keep_their_features_and_lose_their_answers() -> None:
    block = decoded(json_row(0), json_row(1, failed="error"), json_row(2, failed="fallback"))
    assert block.failed is not None
    assert block.failed.strings() == [None, "error", "fallback"]
    assert isinstance(block.prediction, Codes)
    assert block.prediction.strings() == ["a", None, None]
    assert block.features.tolist() == [[1.0]] * 3
    assert block.scores is not None
    assert np.isnan(block.scores).any(1).tolist() == [
        False,
        True,
        True,
    ]
    assert block.invalid == {}


@pytest.mark.parametrize(
    ("given", "means", "odd"),
    [("timeout", "error", 1), (True, "error", 1), (False, None, 0), ([], "error", 1), (None, None, 0)],
)  # fmt: skip
def test_other_words_of_failure_count_as_an_error(given: Any, means: str | None, odd: int) -> None:
    block = decoded(json_row(0), json_row(1, failed=given), json_row(2, failed="fallback"))
    assert block.failed is not None
    assert block.failed.strings() == [None, means, "fallback"]
    assert block.invalid.get("failed", 0) == odd


@pytest.mark.parametrize(
    ("column", "said", "odd"),
    [
        (pa.array(["error", None, "fallback"]), ["error", None, "fallback"], 0),
        (pa.array([True, False, None]), ["error", None, None], 1),
        (pa.array([["x"], None, []]), ["error", None, "error"], 2),
        (pa.nulls(3), None, 0),
        (pa.array([None, "", None]), None, 0),
    ],
)
def test_columns_of_any_type_say_which_rows_failed(
    column: pa.Array, said: list[str | None] | None, odd: int
) -> None:
    block = decoded(arrow_rows(column))
    assert (None if block.failed is None else block.failed.strings()) == said
    assert block.invalid.get("failed", 0) == odd


def test_numbers_that_failed_are_missing_and_the_others_stay() -> None:
    failed = failure_codes([None, "error"])
    assert failed is not None
    left, scores = without_answers(np.array([1.5, 2.5]), None, failed)
    np.testing.assert_array_equal(left, [1.5, np.nan])
    assert scores is None


@pytest.mark.parametrize(
    ("column", "ends", "odd"),
    [
        (pa.array([[1.0, 2.0], None], pa.list_(pa.float64(), 2)), [[1, 2], [np.nan] * 2], 0),
        (pa.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]], 0),
        (pa.array([[1.0, 2.0], [2.0, 1.0]]), [[1, 2], [np.nan] * 2], 1),
        (pa.array([[1.0, 2.0, 3.0], None]), None, 1),
        (pa.array([1.0, None]), None, 1),
        (pa.nulls(2), None, 0),
    ],
)
def test_intervals_of_any_list_of_numbers_are_read(
    column: pa.Array, ends: list[list[float]] | None, odd: int
) -> None:
    block = decoded(arrow_rows(column, "prediction_interval"))
    assert block.invalid.get("prediction_interval", 0) == odd
    if ends is None:
        assert block.prediction_interval is None
    else:
        np.testing.assert_array_equal(block.prediction_interval, ends)


def test_whole_numbers_beyond_float32_stay_exact_in_an_interval() -> None:
    block = decoded(json_row(0, prediction_interval=[16_777_217, 2**40 + 1]))
    assert block.prediction_interval is not None
    assert block.prediction_interval.tolist() == [[16_777_217.0, float(2**40 + 1)]]
