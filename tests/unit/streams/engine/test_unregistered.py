"""Rows that nobody registered: all are counted, and a growing sample of them can be read again."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
import structlog
from stream_rows import CONFIG, batch_record, new_database, prediction, record

from redistill.streams.engine import traffic_sample as samples
from redistill.streams.engine import unregistered as module
from redistill.streams.engine.unregistered import UnregisteredRows
from redistill.streams.store import tables as t
from redistill.streams.store.batch import FlushBatch, NameLimits, Unregistered
from redistill.streams.store.database import Database
from redistill.streams.wire.codec import Record, decode_predictions


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = new_database(f"sqlite:///{tmp_path / 'x.db'}")
    yield db
    db.dispose()


def add(rows: UnregisteredRows, *records: Record, now: int = 1) -> None:
    """Count records of one version."""
    decoded = decode_predictions(records, lambda _: None)
    for block, record_of in zip(decoded.blocks, decoded.record_of, strict=True):
        rows.add(block, list(records), record_of, now)


def close(rows: UnregisteredRows) -> dict[tuple[str, str], Unregistered]:
    batch = FlushBatch()
    rows.close(batch)
    return batch.unregistered


def read(sample: bytes | None) -> pa.Table:
    assert sample is not None
    return pa.ipc.open_stream(io.BytesIO(sample)).read_all()


def singles(first: int, end: int, version: str = "1") -> list[Record]:
    return [record(prediction(i, model="other", version=version), i) for i in range(first, end)]


def test_rows_are_counted_until_they_are_flushed(db: Database) -> None:
    rows = UnregisteredRows(db)
    add(rows, *singles(0, 3), now=5)
    add(rows, *singles(3, 5), now=9)
    add(rows, *singles(0, 1, "2"), now=7)
    counts = close(rows)
    assert {k: (u.rows, u.first_seen_at, u.last_seen_at) for k, u in counts.items()} == {
        ("other", "1"): (5, 5, 9), ("other", "2"): (1, 7, 7),
    }  # fmt: skip
    assert close(rows) == {}


def test_name_is_new_once_between_two_flushes(db: Database) -> None:
    rows = UnregisteredRows(db)
    assert [rows.is_new("m", "1"), rows.is_new("m", "1"), rows.is_new("m", "2")] == [
        True,
        False,
        True,
    ]
    close(rows)
    assert rows.is_new("m", "1")
    rows.clear()
    assert rows.is_new("m", "1")


def test_sample_is_written_each_time_it_has_grown_four_times(db: Database) -> None:
    rows = UnregisteredRows(db)
    sizes = []
    for first in range(0, 40, 2):
        add(rows, *singles(first, first + 2))
        sample = close(rows)["other", "1"].sample
        sizes.append(0 if sample is None else read(sample).num_rows)
    assert [n for n in sizes if n] == [2, 8, 32]


def test_sample_is_full_at_its_size_and_counting_goes_on(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "SAMPLE_ROWS", 20)
    rows = UnregisteredRows(db)
    add(rows, batch_record(range(15), 0, version="9"))
    close(rows)
    add(rows, batch_record(range(15, 40), 1, version="9"))
    full = close(rows)["credit", "9"]
    assert (full.rows, read(full.sample).num_rows) == (25, 20)
    add(rows, batch_record(range(40, 50), 2, version="9"))
    again = close(rows)["credit", "9"]
    assert (again.rows, again.sample) == (10, None)


def test_sample_that_cannot_be_written_costs_no_count_and_no_other_sample(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = samples.TrafficSample.encode

    def encode(self: samples.TrafficSample, model: str, version: str) -> bytes:
        if version == "1":
            raise KeyError("a defect")
        return real(self, model, version)

    monkeypatch.setattr(samples.TrafficSample, "encode", encode)
    rows = UnregisteredRows(db)
    with structlog.testing.capture_logs() as lines:
        for first in (0, 5, 50):
            add(rows, *singles(first, first * 10 + 5), *singles(first, first * 10 + 5, "2"))
            counts = close(rows)
            assert counts["other", "1"].rows == counts["other", "2"].rows
            assert (counts["other", "1"].sample, counts["other", "2"].sample is None) == (
                None,
                False,
            )
    assert [x["action"] for x in lines if x["log_level"] == "error"] == ["sample_failed"]


def test_sample_of_an_earlier_worker_is_continued(db: Database) -> None:
    first = UnregisteredRows(db)
    add(first, *singles(0, 3))
    sample = close(first)["other", "1"].sample
    with db.begin() as conn:
        conn.execute(
            sa.insert(t.unregistered).values(
                model="other", version="1", rows=3, first_seen_at=1, last_seen_at=1, sample=sample
            )
        )
    second = UnregisteredRows(db)
    add(second, *singles(3, 5))
    assert close(second)["other", "1"].sample is None
    add(second, *singles(5, 12))
    assert read(close(second)["other", "1"].sample)["id"].to_pylist() == [
        f"row-{i}" for i in range(12)
    ]


def test_versions_with_a_sample_in_memory_are_bounded(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAMPLES", 2)
    rows = UnregisteredRows(db)
    for version in "abc":
        add(rows, *singles(0, 2, version))
    assert [u.sample is not None for u in close(rows).values()] == [True, True, False]


def test_sample_of_both_encodings_is_in_the_layout_of_the_wire(db: Database) -> None:
    rows = UnregisteredRows(db)
    add(rows, batch_record([0, 1], 0, version="9"), record(prediction(2, version="9"), 1))
    sample = close(rows)["credit", "9"].sample
    assert sample is not None
    batch = record(prediction(0, version="9"), 5)._replace(
        value=sample, headers=batch_record([0], 0, version="9").headers
    )
    (block,) = decode_predictions([batch], lambda _: CONFIG.schema).blocks
    assert list(block.ids) == ["row-0", "row-1", "row-2"]
    assert block.flawless
    assert not np.isnan(block.features).any()


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
    db: Database, odd: Any, structured: bool
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
    rows = UnregisteredRows(db)
    add(rows, sent)
    table = read(close(rows)["other", "1"].sample)
    assert table["feature.region"].to_pylist() == ["US"]
    names = json.loads(table.schema.metadata[b"redistill.features"])
    assert names == (["age"] if isinstance(odd, list | dict) else ["age", "odd"])
    assert table["served_at"].cast(pa.int64()).to_pylist() == [1_763_996_400_000_000]


# ---------------------------------------------------------------------------- names without end


def test_new_names_of_a_flush_are_bounded_and_the_one_with_most_rows_is_among_them(
    db: Database,
) -> None:
    rows = UnregisteredRows(db, NameLimits(new=3))
    junk = [record(prediction(i, model=f"junk{i}", version="1"), i) for i in range(20)]
    add(rows, *junk, *singles(0, 5))
    batch = FlushBatch()
    rows.close(batch)
    assert set(batch.unregistered) == {("other", "1"), ("junk0", "1"), ("junk1", "1")}
    assert batch.counters[("", "rows_nameless")] == 18
    add(rows, *junk[2:4], *singles(5, 8))
    again = FlushBatch()
    rows.close(again)
    assert set(again.unregistered) == {("other", "1"), ("junk2", "1"), ("junk3", "1")}
    assert again.counters == {}


def test_names_counted_between_two_flushes_are_bounded(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COUNTED", 2)
    rows = UnregisteredRows(db)
    for version in "abc":
        add(rows, *singles(0, 2, version))
    batch = FlushBatch()
    rows.close(batch)
    assert (len(batch.unregistered), batch.counters) == (2, {("", "rows_nameless"): 2})


def test_name_that_is_stored_has_its_sample_whoever_else_comes(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAMPLES", 2)
    rows = UnregisteredRows(db, NameLimits(new=2))
    junk = [record(prediction(i, model=f"junk{i}", version="1"), i) for i in range(20)]
    add(rows, *junk[:9], *singles(0, 5))
    assert close(rows)["other", "1"].sample is None
    add(rows, *junk[9:], *singles(5, 9))
    assert read(close(rows)["other", "1"].sample).num_rows == 4


def test_samples_in_memory_are_bounded_in_bytes(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAMPLES_BYTES", 500)
    rows = UnregisteredRows(db)
    for version in "abcd":
        add(rows, *singles(0, 2, version))
    sampled = [u.sample is not None for u in close(rows).values()]
    assert sampled[0]
    assert not sampled[-1]


def test_labels_know_the_models_that_are_stored(db: Database) -> None:
    rows = UnregisteredRows(db)
    assert not rows.knows("other")
    add(rows, *singles(0, 1))
    close(rows)
    assert rows.knows("other")
