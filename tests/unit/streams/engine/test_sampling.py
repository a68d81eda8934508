from __future__ import annotations

import dataclasses
import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from stream_rows import CONFIG

from redistill.streams.engine.sampling import Bucket, Sampler, kept
from redistill.streams.store.batch import FlushBatch, Partition
from redistill.streams.wire.block import Codes, PredictionBlock
from redistill.streams.wire.hashing import id_hashes

P = Partition("t", 0)
SALT = b"s" * 16


def block(n: int, *, first: int = 0, step_us: int = 1_000) -> PredictionBlock:
    return PredictionBlock(
        model="credit",
        version="7",
        ids=[f"row-{i}" for i in range(first, first + n)],
        served_at=np.arange(first, first + n, dtype=np.int64) * step_us,
        feature_names=("income", "age", "region"),
        features=np.ones((n, 3), np.float32),
        prediction=Codes(np.zeros(n, np.int32), ("repay",)),
        scores=np.full((n, 2), np.nan, np.float32),
    )


def run(sampler: Sampler, b: PredictionBlock, *, now: float, **config: Any) -> FlushBatch:
    settings = dataclasses.replace(CONFIG, **config)
    sampler.add(b, id_hashes(b.ids, SALT), np.zeros(len(b), np.int64), config=settings, partition=P)
    batch = FlushBatch()
    sampler.close(batch, {"credit": settings}, now=now)
    return batch


@pytest.mark.parametrize("exponent", [0, 1, 3, 40])
def test_kept_is_a_share_of_uniform_hashes(exponent: int) -> None:
    hashes = np.random.default_rng(0).integers(0, 2**64, 100_000, dtype=np.uint64)
    share = kept(hashes, exponent).mean()
    assert share == pytest.approx(2.0**-exponent, abs=0.005)


def test_everything_is_kept_below_the_cap() -> None:
    batch = run(Sampler(total_cap=None), block(500), now=0, join_rows_per_second=1_000)
    assert len(batch.joins["credit"]) == 500
    assert batch.join_exponents == {}
    assert set(batch.joins["credit"].score) == {None}


def test_backlog_that_was_served_slowly_is_not_thinned_for_being_read_fast() -> None:
    sampler = Sampler(total_cap=None)
    for i in range(20):  # 20 x 1,000 rows, one millisecond apart, read within one second
        batch = run(
            sampler, block(1_000, first=1_000 * i), now=100 + i / 20, join_rows_per_second=1_500
        )
        assert len(batch.joins["credit"]) == 1_000


def test_traffic_above_the_cap_is_thinned_until_it_fits() -> None:
    sampler = Sampler(total_cap=None)
    kept_rows = []
    for i in range(40):  # 20,000 rows a second
        batch = run(
            sampler,
            block(10_000, first=10_000 * i, step_us=50),
            now=100 + i / 2,
            join_rows_per_second=1_000,
        )
        kept_rows.append(len(batch.joins.get("credit", ())))
    assert sampler.join_exponents["credit"] == 5  # 20,000 / 32 = 625 a second
    assert sum(kept_rows[-10:]) / 5 == pytest.approx(625, rel=0.1)


def test_cap_of_the_database_is_shared_by_the_models() -> None:
    sampler = Sampler(total_cap=50)
    assert len(run(sampler, block(2_000), now=0).joins["credit"]) <= 500


def read(batch: FlushBatch) -> pa.Table:
    (blob,) = batch.features
    table = pa.ipc.open_stream(io.BytesIO(blob.data)).read_all()
    assert blob.rows == table.num_rows
    return table


def test_feature_rows_are_one_arrow_stream_per_version() -> None:
    b = block(20)
    b.features[:] = np.arange(60).reshape(20, 3)
    batch = run(Sampler(total_cap=None), b, now=0)
    table = read(batch)
    assert json.loads(table.schema.metadata[b"features"]) == ["income", "age", "region"]
    assert table.column_names == ["id", "id_hash", "served_at", "prediction", "score", "features"]
    assert table["id"].to_pylist() == list(b.ids)
    assert table["id_hash"].to_pylist() == batch.joins["credit"].id_hash
    assert table["features"].to_pylist()[:2] == [[0, 1, 2], [3, 4, 5]]
    assert (batch.features[0].first_served_at, batch.features[0].last_served_at) == (0, 19_000)


def test_stored_features_obey_privacy() -> None:
    config = {"store_features": ("age",)}
    b = block(3)
    b.features[:] = np.arange(9).reshape(3, 3)
    table = read(run(Sampler(total_cap=None), b, now=0, **config))
    assert json.loads(table.schema.metadata[b"features"]) == ["age"]
    assert table["features"].to_pylist() == [[1], [4], [7]]
    config = {"store_features": ()}
    assert run(Sampler(total_cap=None), b, now=0, **config).features == []


def test_caps_thin_join_and_feature_rows_to_nested_uniform_samples() -> None:
    sampler = Sampler(total_cap=None)
    caps = {"join_rows_per_second": 20, "feature_rows_per_second": 1}
    batch = run(sampler, block(4_000), now=0, **caps)
    e = batch.join_exponents["credit"]
    assert e >= 4
    hashes = batch.joins["credit"].id_hash
    assert 60 <= len(hashes) <= 200  # ten seconds of the cap at once
    assert all((h & (2**64 - 1)) >> (64 - e) == 0 for h in hashes)
    features = read(batch)["id_hash"].to_pylist()
    assert 10 <= len(features) <= 60
    assert set(features) <= set(hashes)


def test_rates_that_were_lowered_elsewhere_are_obeyed() -> None:
    sampler = Sampler(total_cap=None)
    sampler.join_exponents["credit"] = 4
    hashes = run(sampler, block(2_000), now=0).joins["credit"].id_hash
    assert hashes
    assert all((h & (2**64 - 1)) >> 60 == 0 for h in hashes)


def test_slices_of_a_row_are_json_from_its_segments_and_its_categories() -> None:
    b = dataclasses.replace(
        block(3), features=np.array([[1, 1, 0], [1, 1, 1], [1, 1, np.nan]], np.float32)
    )
    slices = run(Sampler(total_cap=None), b, now=0).joins["credit"].slices
    assert slices == ['{"region": "EU"}', '{"region": "US"}', None]
    named = dataclasses.replace(b, segments={"region": Codes(np.array([1, 0, -1]), ("A", "B"))})
    slices = run(Sampler(total_cap=None), named, now=0).joins["credit"].slices
    assert slices == ['{"region": "B"}', '{"region": "A"}', None]


def test_rows_that_failed_are_kept_for_the_join_and_their_features_are_not() -> None:
    failed = Codes(np.array([-1, 0, 1], np.int32), ("error", "fallback"))
    interval = np.array([[1.0, 2.0], [np.nan, np.nan], [3.0, 4.0]])
    b = dataclasses.replace(block(3), failed=failed, prediction_interval=interval)
    batch = run(Sampler(total_cap=None), b, now=0)
    joins = batch.joins["credit"]
    assert joins.failed == [None, "error", "fallback"]
    assert (joins.predicted_low, joins.predicted_high) == ([1.0, None, 3.0], [2.0, None, 4.0])
    assert read(batch)["id"].to_pylist() == ["row-0"]


def test_columns_that_no_row_fills_are_not_written() -> None:
    joins = run(Sampler(total_cap=None), block(3), now=0).joins["credit"]
    assert not joins.by_hash("credit").keys() & {"failed", "predicted_low", "predicted_high"}
    joins.failed[1] = "error"
    assert joins.by_hash("credit")["failed"].count("error") == 1


def test_rows_of_a_model_that_was_unregistered_meanwhile_are_dropped() -> None:
    sampler, b = Sampler(total_cap=None), block(3)
    sampler.add(b, id_hashes(b.ids, SALT), np.zeros(3, np.int64), config=CONFIG, partition=P)
    assert sampler.pending() == 3
    batch = FlushBatch()
    sampler.close(batch, {}, now=0)
    assert (batch.joins, batch.features, sampler.pending()) == ({}, [], 0)


def test_bucket_is_full_at_first_and_never_more() -> None:
    bucket = Bucket(burst=10)
    assert bucket.refill(5, 0, 0) == 50
    assert bucket.refill(5, 1e9, 1e9) == 50
    bucket.tokens = 0
    assert bucket.refill(5, 1e9 - 5, 0) == 0  # clocks that go back give nothing


def test_categories_are_slices_unless_the_model_or_its_privacy_says_no() -> None:
    b = dataclasses.replace(
        block(2),
        features=np.array([[1, 1, 0], [1, 1, 1]], np.float32),
        segments={"channel": Codes(np.array([0, 1]), ("web", "app"))},
    )

    def slices(**changes: Any) -> list[str | None]:
        schema = dataclasses.replace(CONFIG.schema, slices=(), **changes.pop("schema", {}))
        config = dataclasses.replace(CONFIG, schema=schema, **changes)
        sampler = Sampler(total_cap=None)
        sampler.add(b, id_hashes(b.ids, SALT), np.zeros(2, np.int64), config=config, partition=P)
        batch = FlushBatch()
        sampler.close(batch, {"credit": config}, now=0)
        return batch.joins["credit"].slices

    assert slices() == [
        '{"channel": "web", "region": "EU"}',
        '{"channel": "app", "region": "US"}',
    ]
    only = ['{"channel": "web"}', '{"channel": "app"}']
    assert slices(schema={"no_slices": ("region",)}) == only
    assert slices(store_features=("income",)) == only
    assert slices(schema={"groups": ("channel",)}, store_features=()) == only
