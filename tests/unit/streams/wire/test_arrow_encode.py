"""The layout that is written: the one its docstring and the packaged schema promise to others."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

from redistill.streams.wire.arrow_encode import TIME, encode_batch

NAN = float("nan")


def written(**more: Any) -> Any:
    values: dict[str, Any] = {
        "model": "m", "version": "1", "ids": ["a", "b"], "served_at": np.array([1, 2]),
        "prediction": ["yes", "no"],
    }  # fmt: skip
    return pa.ipc.open_stream(encode_batch(**(values | more))).read_all()


def metadata(table: Any) -> dict[str, Any]:
    texts = {k.decode(): v.decode() for k, v in table.schema.metadata.items()}
    return texts | {"redistill.features": json.loads(texts["redistill.features"])}


def test_least_batch_names_its_model_and_holds_no_empty_columns() -> None:
    table = written(feature_names=[], features=np.zeros((2, 0), np.float32), segments={})
    assert table.column_names == ["id", "served_at", "prediction"]
    assert metadata(table) == {
        "redistill.format": "1", "redistill.model": "m", "redistill.version": "1",
        "redistill.features": [],
    }  # fmt: skip
    assert table.schema.field("served_at").type == TIME
    assert table["prediction"].to_pylist() == ["yes", "no"]
    assert pa.types.is_dictionary(table.schema.field("prediction").type)


def test_full_batch_has_a_column_for_each_thing() -> None:
    table = written(
        feature_names=["x", "y"],
        features=np.array([[1, NAN], [3, 4]], np.float32),
        categories={"region": ["EU", None], "flag": [True, None]},
        scores=np.array([[0.25, 0.75], [NAN, NAN]], np.float32),
        segments={"channel": ["web", None]},
        latency_ms=np.array([1.5, NAN], np.float32),
        sample_rate=np.array([0.5, 1], np.float32),
    )
    assert table.column_names == [
        "id", "served_at", "prediction", "features", "feature.region", "feature.flag", "scores",
        "segment.channel", "latency_ms", "sample_rate",
    ]  # fmt: skip
    assert metadata(table)["redistill.features"] == ["x", "y"]
    types = {f.name: f.type for f in table.schema}
    assert types["features"] == types["scores"] == pa.list_(pa.float32(), 2)
    assert types["feature.flag"] == pa.bool_()
    assert types["latency_ms"] == types["sample_rate"] == pa.float32()
    assert table["feature.region"].to_pylist() == ["EU", None]
    assert table["feature.flag"].to_pylist() == [True, None]
    assert table["features"].to_pylist()[1] == [3, 4]
    assert np.isnan(table["features"].to_pylist()[0][1])


def test_numbers_are_predictions_of_a_regression() -> None:
    table = written(prediction=np.array([0.5, NAN]))
    assert table.schema.field("prediction").type == pa.float64()
    assert table["prediction"].to_pylist()[0] == 0.5


def test_features_of_any_memory_layout_are_written_row_by_row() -> None:
    columns = np.array([[1, 2], [3, 4]], np.float64, order="F").T
    table = written(feature_names=["x", "y"], features=columns)
    assert table["features"].to_pylist() == [[1, 3], [2, 4]]
