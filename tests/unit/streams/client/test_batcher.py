"""Rows as services log them become records that the codec reads as the same values."""

from __future__ import annotations

import dataclasses
import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from redistill.streams.client.batcher import MIN_BATCH_ROWS, Batcher, Logged, Outgoing
from redistill.streams.wire.block import Feature, PredictionBlock, Schema
from redistill.streams.wire.codec import MAX_EVENT_BYTES, Record, decode_predictions
from redistill.streams.wire.events import LabelObserved

SCHEMA = Schema(
    features=(
        Feature(name="age"),
        Feature(name="region", kind="category", values=("EU", "US")),
    ),
    classes=("no", "yes"),
)


class Refusals(list[tuple[str, int]]):
    """What the batcher reported as invalid."""

    def __call__(self, why: str, rows: int) -> None:
        self.append((why, rows))


def row(i: int = 0, **changes: Any) -> Logged:
    base = Logged(
        model="credit", version="7", id=f"r{i}", served_at=1_767_323_045_000_000 + i,
        prediction="no", scores=[0.75, 0.25], features={"age": 40.5, "region": "EU"},
        segment=None, latency_ms=None, sample_rate=1.0,
    )  # fmt: skip
    return base._replace(**changes)


def gather(rows: list[Logged], **options: Any) -> tuple[list[Outgoing], Refusals]:
    refused = Refusals()
    batcher = Batcher("/test", refused, **options)
    out = [record for r in rows for record in batcher.add(r, 0.0)]
    return out + batcher.drain(), refused


def blocks(records: list[Outgoing], schema: Schema | None = SCHEMA) -> list[PredictionBlock]:
    read = [
        Record("predictions", 0, i, 0, r.key, r.value, r.headers) for i, r in enumerate(records)
    ]
    decoded = decode_predictions(read, lambda model: schema)
    assert decoded.dead == []
    return decoded.blocks


def is_arrow(record: Outgoing) -> bool:
    return ("content-type", b"application/vnd.apache.arrow.stream") in record.headers


@pytest.mark.parametrize("n", [1, MIN_BATCH_ROWS - 1, MIN_BATCH_ROWS, 700])
def test_rows_are_read_back_as_they_were_logged(n: int) -> None:
    rows = [
        row(i, features={"age": i / 2 if i % 3 else None, "region": ["EU", "US", None][i % 3]},
            prediction=["no", "yes"][i % 2], latency_ms=i / 4, segment={"channel": f"c{i % 2}"})
        for i in range(n)
    ]  # fmt: skip
    records, refused = gather(rows)
    assert refused == []
    assert [r.rows for r in records] == {700: [500, 200], 20: [20]}.get(n, [1] * n)
    got = blocks(records)
    assert [i for b in got for i in b.ids] == [r.id for r in rows]
    features = np.concatenate([b.features for b in got])
    np.testing.assert_array_equal(
        features[:, 0], np.array([i / 2 if i % 3 else np.nan for i in range(n)], np.float32)
    )
    np.testing.assert_array_equal(
        features[:, 1], np.array([[0, 1, np.nan][i % 3] for i in range(n)], np.float32)
    )
    assert np.concatenate([b.served_at for b in got]).tolist() == [r.served_at for r in rows]
    assert [s for b in got for s in b.segments["channel"].strings()] == [
        f"c{i % 2}" for i in range(n)
    ]
    latency = np.concatenate([np.asarray(b.latency_ms) for b in got])
    assert latency.tolist() == [i / 4 for i in range(n)]


def test_batches_are_closed_by_rows_bytes_or_age() -> None:
    refused = Refusals()
    batcher = Batcher("/t", refused, batch_rows=50, batch_seconds=0.2)
    closed = [i for i in range(100) if batcher.add(row(i), 0.0)]
    assert closed == [49, 99]
    assert batcher.next_due() is None
    batcher.add(row(0), 10.0)
    batcher.add(row(1), 10.1)
    assert batcher.next_due() == pytest.approx(10.2)
    assert batcher.due(10.19) == []
    assert sum(r.rows for r in batcher.due(10.2)) == 2

    wide = {f"f{i}": float(i) for i in range(2_000)}
    records, _ = gather([row(i, features=wide) for i in range(200)], batch_bytes=200_000)
    assert len(records) > 5
    assert max(len(r.value) for r in records) <= 200_000
    assert sum(r.rows for r in records) == 200


def test_long_texts_split_a_batch() -> None:
    rows = [row(i, features={"age": 1.0, "region": "x" * 5_000 + str(i)}) for i in range(400)]
    records, _ = gather(rows, batch_bytes=300_000)
    assert max(len(r.value) for r in records) <= 300_000
    assert [i for b in blocks(records) for i in b.ids] == [r.id for r in rows]


def test_models_versions_and_kinds_of_rows_do_not_mix() -> None:
    kinds = [
        {"model": "a"},
        {"model": "b"},
        {"version": "8"},
        {"features": {"age": 1.0}},
        {"scores": [0.5]},
        {"scores": None},
    ]
    rows = [row(i, **kinds[i % len(kinds)]) for i in range(180)]
    records, refused = gather(rows)
    assert refused == []
    assert [r.rows for r in records] == [30] * len(kinds)
    assert {r.key for r in records} == {b"a", b"b", b"credit"}


def test_groups_are_bounded() -> None:
    refused = Refusals()
    batcher = Batcher("/t", refused)
    rows = [row(i, features={f"f{i}": 1.0}) for i in range(1_500)]
    early = [record for r in rows for record in batcher.add(r, 0.0)]
    assert len(early) == 500
    assert len(batcher.drain()) == 1_000


@pytest.mark.parametrize("odd", ["12", [1.0], {"a": 1}, object()])
def test_a_value_that_does_not_fit_its_column_is_sent_by_itself(odd: Any) -> None:
    rows = [row(i, features={"age": odd if i == 7 else 1.0, "region": "EU"}) for i in range(100)]
    records, refused = gather(rows)
    assert refused == []
    assert [(is_arrow(r), r.rows) for r in records] == [(True, 99), (False, 1)]
    assert sum(b.wrong_type.get("age", 0) for b in blocks(records)) == 1


def test_a_number_beyond_all_bounds_loses_no_row() -> None:
    rows = [row(i, features={"age": 10**400 if i == 7 else 1.0, "region": "EU"}) for i in range(40)]
    records, refused = gather(rows)
    assert refused == []
    got = blocks(records)
    assert [i for b in got for i in b.ids] == [r.id for r in rows]
    assert sum(b.wrong_type.get("age", 0) for b in got) == 1


def test_flags_are_one_and_zero_of_a_number() -> None:
    rows = [
        row(i, features={"age": [True, np.bool_(False)][i % 2], "region": "EU"}) for i in range(40)
    ]
    for records, _ in (gather(rows), gather([*rows, row(40, features={"age": 3, "region": "EU"})])):
        ages = {i: a for b in blocks(records) for i, a in zip(b.ids, b.features[:, 0], strict=True)}
        assert [ages[r.id] for r in rows] == [1, 0] * 20
        assert [b.wrong_type for b in blocks(records)] == [{}] * len(records)


@pytest.mark.parametrize("n", [1, MIN_BATCH_ROWS])
def test_decimals_of_a_database_are_numbers(n: int) -> None:
    rows = [
        row(i, features={"age": Decimal("1.50") if i else Decimal("NaN"), "region": "EU"},
            scores=[Decimal("0.75"), Decimal("0.25")], segment={"rate": Decimal("2.50")})
        for i in range(n)
    ]  # fmt: skip
    records, refused = gather(rows)
    assert refused == []
    assert {is_arrow(r) for r in records} == {n >= MIN_BATCH_ROWS}
    (block,) = blocks(records)
    assert block.flawless
    expected = [np.nan, *[1.5] * (n - 1)]
    np.testing.assert_array_equal(block.features[:, 0], np.array(expected, np.float32))
    assert block.scores is not None
    assert block.scores[0].tolist() == [0.75, 0.25]
    assert block.segments["rate"].values == ("2.5",)
    _, refused = gather([row(prediction=Decimal("sNaN"))])
    assert refused == [("prediction is NaN", 1)]


def test_scalars_of_numpy_are_numbers() -> None:
    kinds = [np.float32, np.float64, np.int64, np.uint8, float, int]
    rows = [
        row(i, features={"age": kinds[i % 6](3), "region": np.str_("US")}, prediction=np.str_("yes"),
            latency_ms=np.float32(1.5))
        for i in range(60)
    ]  # fmt: skip
    for records, _ in (gather(rows), gather(rows[:6])):
        for block in blocks(records):
            np.testing.assert_array_equal(
                block.features, np.tile(np.float32([3, 1]), (len(block), 1))
            )
            assert set(block.prediction.strings()) == {"yes"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("predictions", "read"),
    [
        ([1, 2.5], [1.0, 2.5]),
        ([np.int64(3), np.float32(0.5)], [3.0, 0.5]),
        (["a", 1], ["a", "1"]),
        ([True, False], ["true", "false"]),
    ],
)
def test_predictions_are_names_or_numbers(predictions: list[Any], read: list[Any]) -> None:
    schema = Schema(features=())
    for n in (2, 40):
        rows = [row(i, prediction=predictions[i % 2], scores=None) for i in range(n)]
        predicted: list[Any] = []
        for block in blocks(gather(rows)[0], schema):
            p = block.prediction
            predicted += p.tolist() if isinstance(p, np.ndarray) else p.strings()
        assert [str(f).removesuffix(".0") for f in predicted[:2]] == [
            str(r).removesuffix(".0") for r in read
        ]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"model": None}, "missing"),
        ({"model": "No Name"}, "no name"),
        ({"version": None}, "missing"),
        ({"version": ""}, "missing"),
        ({"id": ""}, "id ''"),
        ({"id": "x" * 201}, "1 to 200"),
        ({"id": "a\0"}, "NUL"),
        ({"id": "\ud800"}, "surrogate"),
        ({"prediction": None}, "missing"),
        ({"prediction": float("nan")}, "NaN"),
        ({"prediction": np.float64("nan")}, "NaN"),
        ({"prediction": [1, 2]}, "list"),
        ({"prediction": np.ones(3)}, "ndarray"),
        ({"latency_ms": "fast"}, "latency_ms"),
        ({"sample_rate": "all"}, "sample_rate"),
        ({"features": {1: 2.0}}, "no string"),
        ({"features": {"text": "x" * (MAX_EVENT_BYTES + 1)}}, "larger than"),
    ],
)
def test_what_nobody_could_read_is_refused_and_the_rest_is_sent(
    change: dict[str, Any], why: str
) -> None:
    records, refused = gather([row(0), row(1, **change), row(2)])
    assert [n for _, n in refused] == [1]
    assert why in refused[0][0]
    assert [json.loads(r.value)["id"] for r in records] == ["r0", "r2"]


class Hostile:
    """A value whose every use raises."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def test_values_that_raise_cost_their_own_row_only() -> None:
    rows = [row(i, features={"age": Hostile() if i == 3 else 1.0}) for i in range(50)]
    records, refused = gather(rows)
    assert sum(r.rows for r in records) == 49
    assert [n for _, n in refused] == [1]


def test_events_that_break_their_contract_are_refused() -> None:
    refused = Refusals()
    batcher = Batcher("/t", refused)
    good = LabelObserved(id="a", model="m", label="x", observed_at=datetime(2026, 1, 1, tzinfo=UTC))
    (record,) = batcher.event(good)
    assert (record.topic, record.key, record.rows) == ("labels", b"m", 1)
    assert batcher.event(LabelObserved(id="", model="m", observed_at=good.observed_at)) == []
    assert batcher.event(LabelObserved(id="a", model="m", observed_at="now")) == []  # type: ignore[arg-type]
    assert [n for _, n in refused] == [1, 1]


@pytest.mark.parametrize("label", [None, "", math.nan, math.inf])
def test_label_that_is_none_is_counted_as_invalid(label: Any) -> None:
    refused = Refusals()
    at = datetime(2026, 1, 1, tzinfo=UTC)
    event = LabelObserved(id="a", model="m", label=label, observed_at=at)
    assert Batcher("/t", refused).event(event) == []
    ((why, rows),) = refused
    assert (rows, "the label is" in why) == (1, True)


@pytest.mark.parametrize("n", [1, 30])
def test_prediction_that_names_no_class_for_its_length_is_counted_as_invalid(n: int) -> None:
    records, refused = gather([row(i, prediction="x" * (256 + i % 2)) for i in range(2 * n)])
    assert sum(r.rows for r in records) == n
    assert sum(rows for _, rows in refused) == n
    assert "more than 256 characters" in refused[0][0]


def test_label_goes_to_the_topic_of_its_source_where_that_can_be_one() -> None:
    faults = Refusals()
    made = Batcher("/test", faults)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    event = LabelObserved(id="a", model="m", label="x", observed_at=at, source="ledger")
    (record,) = made.event(event, bound=True)
    assert (record.topic, record.key) == ("labels.ledger", b"m")
    for source in ("a.b", "", "a" * 81, "\u00e9", "a\n"):
        assert made.event(dataclasses.replace(event, source=source), bound=True) == []
    assert len(faults) == 5
    assert "cannot be part of a topic's name" in faults[0][0]


@pytest.mark.parametrize("n", [1, 2 * MIN_BATCH_ROWS])
def test_rows_that_failed_say_so_in_both_encodings(n: int) -> None:
    rows = [row(i) for i in range(n)]
    rows += [row(n + i, failed="error", prediction="", scores=None) for i in range(n)]
    records, refused = gather(rows)
    assert refused == []
    assert all(is_arrow(r) == (n > 1) for r in records)
    got = blocks(records)
    said = [f for b in got for f in (b.failed.strings() if b.failed else [None] * len(b))]
    assert said == [None] * n + ["error"] * n
    assert [p for b in got for p in b.prediction.strings()] == ["no"] * n + [None] * n  # type: ignore[union-attr]


@pytest.mark.parametrize("n", [1, MIN_BATCH_ROWS])
def test_intervals_are_read_back_as_they_were_logged(n: int) -> None:
    rows = [
        row(i, prediction=0.5, prediction_interval=(0.25, i + 0.75) if i % 2 == 0 else None)
        for i in range(n)
    ]
    records, refused = gather(rows)
    assert refused == []
    (block,) = blocks(records, Schema(features=SCHEMA.features))
    wanted = [[0.25, i + 0.75] if i % 2 == 0 else [np.nan] * 2 for i in range(n)]
    np.testing.assert_array_equal(block.prediction_interval, wanted)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"failed": "timeout"}, "failed is 'timeout': error or fallback, or None"),
        ({"prediction_interval": (2.0, 1.0)}, "prediction_interval is 2 to 1: finite"),
        ({"prediction_interval": (1.0, math.inf)}, "prediction_interval is 1 to inf: finite"),
        ({"prediction_interval": (0, 10**400)}, "prediction_interval: a whole number that no"),
        ({"prediction_interval": (1.0,)}, "prediction_interval: two numbers"),
        ({"prediction_interval": ("a", 1.0)}, "prediction_interval: two numbers"),
    ],
)
def test_what_no_reader_would_take_is_refused_with_its_reason(
    change: dict[str, Any], why: str
) -> None:
    records, refused = gather([row(1, **change), row(2)])
    assert [r.rows for r in records] == [1]
    assert refused[0][0].startswith(why)
