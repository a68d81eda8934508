"""Predictions become blocks: JSON and Arrow alike, and nothing bad in one row touches another."""

from __future__ import annotations

import dataclasses
import gc
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redistill.streams.wire import predictions as module
from redistill.streams.wire.block import Codes, Feature, PredictionBlock, Schema
from redistill.streams.wire.codec import (
    ARROW,
    MAX_EVENT_BYTES,
    Decoded,
    Record,
    decode_predictions,
    encode_batch,
    headers_of,
)
from redistill.streams.wire.events import LabelObserved, PredictionMade
from redistill.streams.wire.recordset import RecordSet
from redistill.times import utc

SCHEMA = Schema(
    features=(
        Feature(name="age", kind="int"),
        Feature(name="region", kind="category", values=("EU", "US", "3")),
        Feature(name="income"),
    ),
    classes=("repay", "default"),
    slices=("channel", "region"),
)
NUMBERS = Schema(features=(Feature(name="x"), Feature(name="y")))
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
START_US = int(START.timestamp()) * 1_000_000


def known(model: str) -> Schema | None:
    return {"credit": SCHEMA, "numbers": NUMBERS}.get(model)


def row(i: int = 0, **changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": f"r{i}",
        "model": "credit",
        "version": "7",
        "served_at": (START + timedelta(microseconds=i)).isoformat().replace("+00:00", "Z"),
        "features": {"age": 41, "region": "EU", "income": 1250.5},
        "prediction": "repay",
        "scores": [0.75, 0.25],
    }
    return {k: v for k, v in (body | changes).items() if v is not ...}


def record(value: Any, *, key: bytes | None = b"credit", event: type = PredictionMade) -> Record:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Record("predictions", 0, 0, 0, key, raw, headers_of(event, source="/t", event_id="1"))


def batch(raw: bytes) -> Record:
    headers = headers_of(PredictionMade, source="/t", event_id="1", content_type=ARROW)
    return Record("predictions", 0, 0, 0, b"credit", raw, headers)


def read(*rows: Any) -> Decoded:
    return decode_predictions([record(r) for r in rows], known)


def one(decoded: Decoded) -> PredictionBlock:
    assert decoded.dead == []
    (block,) = decoded.blocks
    return block


def reasons(decoded: Decoded) -> list[tuple[int, str]]:
    return [(i, why.code) for i, why in decoded.dead]


def assert_same(a: PredictionBlock, b: PredictionBlock) -> None:
    assert (a.model, a.version, a.ids, a.feature_names) == (
        b.model, b.version, b.ids, b.feature_names)  # fmt: skip
    for name in ("served_at", "features", "scores", "latency_ms", "sample_rate"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert type(a.prediction) is type(b.prediction)
    if isinstance(a.prediction, Codes) and isinstance(b.prediction, Codes):
        assert a.prediction.strings() == b.prediction.strings()
    else:
        np.testing.assert_array_equal(a.prediction, b.prediction)  # type: ignore[arg-type]
    assert {k: c.strings() for k, c in a.segments.items()} == {
        k: c.strings() for k, c in b.segments.items()
    }
    for name in ("wrong_type", "unseen", "unknown_features", "invalid"):
        assert getattr(a, name) == getattr(b, name), name


# ---------------------------------------------------------------------------------------- JSON


def test_rows_become_columns_in_the_order_of_the_log_and_of_the_schema() -> None:
    more = row(1, features={"income": 3, "region": "US", "age": 18.5}, prediction="default")
    block = one(read(row(0), more))
    assert block.feature_names == ("age", "region", "income")
    np.testing.assert_array_equal(
        block.features, np.array([[41, 0, 1250.5], [18.5, 1, 3]], np.float32)
    )
    assert block.features.dtype == np.float32
    assert block.ids == ["r0", "r1"]
    assert block.served_at.tolist() == [START_US, START_US + 1]
    assert isinstance(block.prediction, Codes)
    assert block.prediction.values == SCHEMA.classes
    assert block.prediction.codes.tolist() == [0, 1]
    assert block.scores is not None
    assert block.scores.tolist() == [[0.75, 0.25]] * 2
    assert (block.latency_ms, block.sample_rate, block.segments) == (None, None, {})


def test_long_runs_are_read_as_single_records_are() -> None:
    rows = [row(i, latency_ms=i / 2, segment={"channel": "web"}) for i in range(1_000)]
    whole = one(read(*rows))
    pieces = [one(read(r)) for r in rows]
    assert whole.ids == [p.ids[0] for p in pieces]
    np.testing.assert_array_equal(whole.features, np.concatenate([p.features for p in pieces]))
    np.testing.assert_array_equal(whole.served_at, np.concatenate([p.served_at for p in pieces]))
    assert whole.latency_ms is not None
    assert whole.latency_ms.tolist() == [i / 2 for i in range(1_000)]


def test_missing_values_are_nan_and_no_error() -> None:
    odd = b'{"age": NaN, "region": null}'
    raw = json.dumps(row(features="?")).encode().replace(b'"?"', odd)
    for features in ({"age": None, "region": None}, {}, None, ...):
        block = one(read(row(0, features=features), row(1)))
        assert np.isnan(block.features[0]).all()
        assert not np.isnan(block.features[1]).any()
        assert (block.wrong_type, block.unseen) == ({}, {})
    block = one(read(raw))
    assert np.isnan(block.features).all()
    assert block.wrong_type == {}


@pytest.mark.parametrize("value", ["12", "abc", [1.0], {"a": 1}])
def test_wrong_type_in_a_numeric_feature_is_counted_and_the_rest_of_the_row_counts(
    value: Any,
) -> None:
    bad = row(1, features={"age": value, "region": "US", "income": 7})
    block = one(read(row(0), bad, row(2)))
    np.testing.assert_array_equal(block.features[1], np.array([np.nan, 1, 7], np.float32))
    np.testing.assert_array_equal(block.features[0], block.features[2])
    assert block.wrong_type == {"age": 1}


def test_booleans_are_one_and_zero_of_a_number() -> None:
    rows = [row(i, features={"age": i % 2 == 1, "region": "US", "income": 7}) for i in range(4)]
    odd = row(4, features={"age": True, "region": "US", "income": "7"})  # read tolerantly
    block = one(read(*rows, odd))
    assert block.features[:, 0].tolist() == [0, 1, 0, 1, 1]
    assert block.wrong_type == {"income": 1}


@pytest.mark.parametrize("text", ["1e39", "-1e39", "1e999", "Infinity", "9" * 400])
def test_number_that_float32_cannot_hold_is_of_a_wrong_type(text: str) -> None:
    raw = json.dumps(row(features={"age": "?", "income": 1})).encode()
    block = one(read(raw.replace(b'"?"', text.encode())))
    assert np.isnan(block.features[0, 0])
    assert block.features[0, 2] == 1
    assert block.wrong_type == {"age": 1}


def test_categories_count_what_is_unseen_and_read_numbers_as_text() -> None:
    values = ["EU", "MARS", 3, 3.0, None, "MARS", 4.5, True]
    block = one(read(*(row(i, features={"region": v}) for i, v in enumerate(values))))
    np.testing.assert_array_equal(block.features[:, 1], [0, -1, 2, 2, np.nan, -1, -1, -1])
    assert block.unseen == {"region": {"MARS": 2, "4.5": 1, "true": 1}}
    assert block.wrong_type == {}


def test_unseen_categories_are_named_up_to_a_limit() -> None:
    rows = [row(i, features={"region": f"{'x' * 90}" if i < 2 else f"v{i}"}) for i in range(40)]
    unseen = one(read(*rows)).unseen["region"]
    assert sum(unseen.values()) == 40
    assert len(unseen) == 21
    assert unseen["..."] == 20 - 1
    assert max(map(len, unseen)) == 80


def test_unknown_features_are_counted_and_do_not_disturb() -> None:
    extra = {"age": 1, "region": "EU", "income": 2, "zodiac": [1, 2], "shoe": 43}
    rows = [row(i, features=extra if i % 2 else row()["features"]) for i in range(300)]
    block = one(read(*rows))
    assert block.unknown_features == {"zodiac": 150, "shoe": 150}
    np.testing.assert_array_equal(block.features[1::2], [[1, 0, 2]] * 150)
    np.testing.assert_array_equal(block.features[::2], [[41, 0, 1250.5]] * 150)


def test_unknown_features_are_named_up_to_a_limit() -> None:
    block = one(read(*(row(i, features={f"x{i}": 1}) for i in range(120))))
    assert len(block.unknown_features) == 50


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"id": ...}, "missing_field"),
        ({"id": ""}, "invalid_field"),
        ({"id": 2.0**53 + 2}, "invalid_field"),
        ({"id": True}, "invalid_field"),
        ({"id": "x" * 201}, "invalid_field"),
        ({"id": "a\0b"}, "invalid_field"),
        ({"id": "\ud800"}, "malformed"),
        ({"model": ...}, "missing_field"),
        ({"model": "No Name"}, "invalid_field"),
        ({"model": 3}, "missing_field"),
        ({"version": ...}, "missing_field"),
        ({"version": ""}, "missing_field"),
        ({"version": "a\nb"}, "invalid_field"),
        ({"version": "v" * 81}, "invalid_field"),
        ({"served_at": ...}, "missing_field"),
        ({"served_at": "yesterday"}, "invalid_field"),
        ({"served_at": "2026-01-02T03:04:05"}, "invalid_field"),
        ({"served_at": "2026-02-30T03:04:05Z"}, "invalid_field"),
        ({"served_at": 1767323045}, "invalid_field"),
        ({"prediction": ...}, "missing_field"),
        ({"prediction": None}, "invalid_field"),
        ({"prediction": float("nan")}, "invalid_field"),
        ({"prediction": float("inf")}, "invalid_field"),
        ({"prediction": ["repay"]}, "invalid_field"),
        ({"features": [1, 2, 3]}, "invalid_field"),
        ({"features": None, "inputs": [{"name": "x"}]}, "invalid_field"),
    ],
)
def test_broken_row_is_a_dead_letter_and_its_neighbours_count(
    change: dict[str, Any], code: str
) -> None:
    decoded = read(row(0), row(1, **change), row(2))
    assert reasons(decoded) == [(1, code)]
    assert [b.ids for b in decoded.blocks] == [["r0", "r2"]]
    assert decoded.record_of[0].tolist() == [0, 2]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"", "malformed"),
        (b"not json", "malformed"),
        (b"[1]", "malformed"),
        (b"3", "malformed"),
        (b"\xff" * 10, "malformed"),
        (b'{"features":' * 50_000, "malformed"),
        (b'{"x": ' + b"9" * 5_000 + b"}", "malformed"),
        (b"{}", "missing_field"),
        (b" " * (MAX_EVENT_BYTES + 1), "oversized"),
    ],
)
def test_value_that_is_no_row_is_a_dead_letter(value: bytes, code: str) -> None:
    rows = [record(row(i)) for i in range(100)]
    decoded = decode_predictions([*rows, record(value), *rows], known)
    assert reasons(decoded) == [(100, code)]
    assert len(decoded.blocks[0]) == 200


def test_tombstones_and_other_events_are_dead_letters() -> None:
    tombstone = record(b"")._replace(value=None)
    decoded = decode_predictions(
        [record(row(0)), tombstone, record(row(1), event=LabelObserved)], known
    )
    assert reasons(decoded) == [(1, "malformed"), (2, "unknown_type")]


def test_missing_event_id_is_noticed_in_the_middle_of_a_run() -> None:
    records = [record(row(i)) for i in range(100)]
    headers = [*records[0].headers[:-1], ("traceparent", b"1")]
    records[70] = records[70]._replace(headers=headers)
    assert reasons(decode_predictions(records, known)) == [(70, "missing_field")]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"scores": "high"}, {"scores": 1}),
        ({"scores": [0.1, "x"]}, {"scores": 1}),
        ({"scores": [0.1, 0.2, 0.7]}, {"scores": 1}),
        ({"scores": [1.1]}, {"scores": 1}),
        ({"scores": [0.1, 1e300]}, {"scores": 1}),
        ({"latency_ms": "fast"}, {"latency_ms": 1}),
        ({"latency_ms": True}, {"latency_ms": 1}),
        ({"segment": ["web"]}, {"segment": 1}),
        ({"segment": {"channel": [1]}}, {"segment": 1}),
        ({"sample_rate": 0}, {"sample_rate": 1}),
        ({"sample_rate": 7}, {"sample_rate": 1}),
        ({"sample_rate": "all"}, {"sample_rate": 1}),
    ],
)
def test_what_is_wrong_outside_the_features_is_counted_and_missing(
    change: dict[str, Any], expected: dict[str, int]
) -> None:
    block = one(read(row(0), row(1, **change), row(2)))
    assert block.invalid == expected
    assert block.sample_rate is None
    assert block.scores is not None
    if "scores" in change:
        assert np.isnan(block.scores[1]).any()
    assert block.scores[0].tolist() == block.scores[2].tolist() == [0.75, 0.25]


def test_missing_scores_are_nan_and_no_error() -> None:
    block = one(read(row(0, scores=None), row(1, scores=[None, 0.5]), row(2, scores=...)))
    np.testing.assert_array_equal(
        block.scores, np.array([[np.nan] * 2, [np.nan, 0.5], [np.nan] * 2], np.float32)
    )
    assert block.invalid == {}


def test_segments_are_those_of_the_declared_slices() -> None:
    segments: list[Any] = [{"channel": "web", "other": "x"}, None, {"channel": 3}, {}]
    block = one(read(*(row(i, segment=s) for i, s in enumerate(segments))))
    assert {k: c.strings() for k, c in block.segments.items()} == {
        "channel": ["web", None, "3", None]
    }


def test_segments_of_declared_groups_are_read_beside_those_of_slices() -> None:
    schema = dataclasses.replace(SCHEMA, slices=("channel",), groups=("sex", "channel"))
    assert schema.divisions == ("channel", "sex")
    rows = [row(0, segment={"channel": "web", "sex": "f", "other": "x"})]
    block = one(decode_predictions([record(r) for r in rows], lambda _: schema))
    assert {k: c.strings() for k, c in block.segments.items()} == {
        "channel": ["web"], "sex": ["f"],
    }  # fmt: skip


def test_predictions_outside_the_classes_follow_the_declared_ones() -> None:
    values = ["repay", "maybe", 1, "maybe", "x\0y"]
    prediction = one(read(*(row(i, prediction=v) for i, v in enumerate(values)))).prediction
    assert isinstance(prediction, Codes)
    assert prediction.values == ("repay", "default", "maybe", "1", "x\ufffdy")
    assert prediction.codes.tolist() == [0, 2, 3, 2, 4]


def test_numbers_are_predictions_where_there_are_no_classes() -> None:
    rows = [row(i, model="numbers", features={"x": i}, prediction=i / 2) for i in range(3)]
    prediction = one(read(*rows)).prediction
    assert isinstance(prediction, np.ndarray)
    assert prediction.tolist() == [0, 0.5, 1]


def test_times_of_all_forms_are_the_same_instant() -> None:
    forms = [
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05.000Z",
        "2026-01-02T03:04:05.000000Z",
        "2026-01-02T03:04:05+00:00",
        "2026-01-02T08:34:05+05:30",
        "2026-01-01T23:04:05-04:00",
    ]
    assert one(read(*(row(i, served_at=t) for i, t in enumerate(forms)))).served_at.tolist() == [
        START_US
    ] * len(forms)
    for form in forms:
        assert (
            one(read(*(row(i, served_at=form) for i in range(5)))).served_at.tolist()
            == [START_US] * 5
        )


@settings(max_examples=50)
@given(
    st.lists(
        st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)),  # noqa: DTZ001
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(["seconds", "milliseconds", "microseconds"]),
)
def test_times_of_any_year_are_exact(moments: list[datetime], precision: str) -> None:
    texts = [m.isoformat(timespec=precision) + "Z" for m in moments]
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    want = [(datetime.fromisoformat(t) - epoch) // timedelta(microseconds=1) for t in texts]
    block = one(read(*(row(i, served_at=t) for i, t in enumerate(texts))))
    assert block.served_at.tolist() == want


def test_models_and_versions_are_told_apart_whatever_the_key() -> None:
    plan = [("credit", "7"), ("numbers", "1"), ("credit", "8"), ("new", "1")] * 40
    records = [
        record(
            row(i, model=m, version=v, features={"x": 1, "age": 2}),
            key=[b"credit", None, b"\xff", b"Not A Name", b"numbers"][i % 5],
        )
        for i, (m, v) in enumerate(plan)
    ]
    decoded = decode_predictions(records, known)
    assert decoded.dead == []
    pairs = zip(decoded.blocks, decoded.record_of, strict=True)
    records_of = {(b.model, b.version): index.tolist() for b, index in pairs}
    assert records_of == {p: [i for i, q in enumerate(plan) if q == p] for p in set(plan)}
    assert {b.model: b.feature_names for b in decoded.blocks} == {
        "credit": ("age", "region", "income"), "numbers": ("x", "y"), "new": (),
    }  # fmt: skip


def test_of_a_model_that_nobody_registered_only_its_rows_are_read() -> None:
    rows = [
        row(0, model="new", features={"x": 1, "c": "b", "n": None}, segment={"s": "a"}),
        row(1, model="new", features={"x": [], "late": 2}, scores=[1.0] * 9),
        row(2, model="new", features=None),
    ]
    decoded = read(*rows, row(3, model="new", features=[1]))
    assert [(i, why.code) for i, why in decoded.dead] == [(3, "invalid_field")]
    block = one(Decoded(decoded.blocks, decoded.record_of))
    assert (block.ids, block.features.shape, block.feature_names) == (
        ["r0", "r1", "r2"],
        (3, 0),
        (),
    )
    assert (block.scores, block.segments, block.flawless) == (None, {}, True)


def test_structured_events_are_read_among_others() -> None:
    body = {
        "specversion": "1.0", "type": "redistill.prediction.v1", "id": "1", "source": "/t",
        "data": row(1),
    }  # fmt: skip
    structured = Record(
        "predictions", 0, 1, 0, b"credit", json.dumps(body).encode(),
        [("content-type", b"application/cloudevents+json"), ("ce_id", b"1")],
    )  # fmt: skip
    decoded = decode_predictions([record(row(0)), structured, structured, record(row(2))], known)
    assert one(decoded).ids == ["r0", "r1", "r1", "r2"]


# ------------------------------------------------------------------------------- JSON = Arrow

_number = st.one_of(st.none(), st.floats(width=32), st.integers(-1000, 1000))
_word = st.sampled_from(["EU", "US", "3", "MARS", "", "é", None])
_floats32 = st.floats(width=32, allow_nan=False, allow_infinity=False)

_failed = st.sampled_from(["error", "fallback", "timeout", "", None])
_interval = st.one_of(
    st.none(), st.tuples(*[st.one_of(st.none(), st.floats(), st.integers(-9, 9))] * 2)
)


@st.composite
def _rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    n = draw(st.integers(1, 8))
    model = draw(st.sampled_from(["credit", "numbers", "new"]))
    names = draw(st.sets(st.sampled_from(["age", "income", "extra"])))
    words = draw(st.sets(st.sampled_from(["region", "sort"])))
    with_scores, with_segment, with_latency, with_rate = (draw(st.booleans()) for _ in range(4))
    with_failed, with_interval = draw(st.booleans()), draw(st.booleans())
    scores = draw(st.integers(1, 3))
    return [
        {
            "id": draw(st.text(min_size=1, max_size=5).filter(_storable)),
            "model": model,
            "version": "7",
            "served_at": START_US + draw(st.integers(-(10**9), 10**9)),
            "features": {k: draw(_number) for k in names} | {k: draw(_word) for k in words},
            "prediction": draw(st.sampled_from(["repay", "default", "maybe"])),
            "scores": [draw(_floats32) for _ in range(scores)] if with_scores else None,
            "segment": {"channel": draw(st.sampled_from(["web", "app"]))} if with_segment else {},
            "latency_ms": draw(st.one_of(st.none(), _floats32)) if with_latency else None,
            "sample_rate": 0.5 if with_rate else 1.0,
            "failed": draw(_failed) if with_failed else None,
            "prediction_interval": draw(_interval) if with_interval else None,
        }
        for _ in range(n)
    ]


def _storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def _as_json(rows: Sequence[dict[str, Any]]) -> list[Record]:
    return [record(r | {"served_at": utc(r["served_at"]).isoformat()}) for r in rows]


def _as_arrow(rows: Sequence[dict[str, Any]]) -> Record:
    first = rows[0]
    numbers = [k for k in first["features"] if k in ("age", "income", "extra")]
    words = [k for k in first["features"] if k in ("region", "sort")]
    values = [[r["features"][k] for k in numbers] for r in rows]
    return batch(
        encode_batch(
            model=first["model"],
            version=first["version"],
            ids=[r["id"] for r in rows],
            served_at=np.array([r["served_at"] for r in rows], np.int64),
            feature_names=numbers,
            features=np.array(values, np.float32).reshape(len(rows), len(numbers)),
            categories={k: [r["features"][k] for r in rows] for k in words},
            prediction=[r["prediction"] for r in rows],
            scores=np.array([r["scores"] for r in rows], np.float32) if first["scores"] else None,
            segments={k: [r["segment"][k] for r in rows] for k in first["segment"]},
            latency_ms=np.array([r["latency_ms"] for r in rows], np.float32),
            sample_rate=np.array([r["sample_rate"] for r in rows], np.float32),
            failed=[r.get("failed") for r in rows],
            prediction_interval=np.array(
                [r.get("prediction_interval") or (None, None) for r in rows], np.float64
            ),
        )
    )


@settings(max_examples=120)
@given(_rows())
def test_json_and_arrow_of_the_same_rows_give_the_same_block(rows: list[dict[str, Any]]) -> None:
    by_json = one(decode_predictions(_as_json(rows), known))
    by_arrow = one(decode_predictions([_as_arrow(rows)], known))
    assert_same(by_json, by_arrow)


@settings(max_examples=50)
@given(_rows(), st.data())
def test_blocks_do_not_depend_on_how_records_are_cut(
    rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    records = _as_json(rows)
    cut = data.draw(st.integers(0, len(rows)))
    whole = decode_predictions(records, known)
    parts = [decode_predictions(p, known) for p in (records[:cut], records[cut:]) if p]
    np.testing.assert_array_equal(
        np.concatenate([b.features for p in parts for b in p.blocks]), whole.blocks[0].features
    )
    assert [i for p in parts for b in p.blocks for i in b.ids] == whole.blocks[0].ids


def test_json_and_arrow_blocks_of_a_version_keep_the_order_of_the_log() -> None:
    plain = {"served_at": START_US, "segment": {}, "latency_ms": None, "sample_rate": 1.0}
    arrow = _as_arrow([row(1) | plain])
    decoded = decode_predictions([record(row(0)), arrow, record(row(2)), arrow], known)
    assert [b.ids for b in decoded.blocks] == [["r0"], ["r1"], ["r2"], ["r1"]]
    assert [r.tolist() for r in decoded.record_of] == [[0], [1], [2], [3]]


# -------------------------------------------------------------------------------- mixed traffic

_MADE = st.tuples(
    st.sampled_from(["credit", "numbers"]),
    st.sampled_from(["7", "8"]),
    st.sampled_from(["/a", "/b", "/c"]),
    st.sampled_from([b"credit", b"numbers", None]),
    st.sampled_from(["json"] * 8 + ["arrow", "wrong type", "broken", "bad time", "tombstone"]),
)


def _made(i: int, kind: tuple[str, str, str, bytes | None, str]) -> Record:
    """The row ``i`` as some service wrote it."""
    model, version, source, key, form = kind
    features = (
        {"age": float(i), "region": "EU", "income": 1.5}
        if model == "credit"
        else {"x": 1.0, "y": float(i)}
    )
    body = row(i, model=model, version=version, features=features)
    headers = headers_of(PredictionMade, source=source, event_id=f"e{i}")
    if form == "arrow":
        plain = {"served_at": START_US + i, "segment": {}, "latency_ms": None, "sample_rate": 1.0}
        return _as_arrow([body | plain])._replace(key=key)
    if form == "wrong type":
        body["features"] = dict.fromkeys(features, "word")
    if form == "bad time":
        body["served_at"] = "yesterday"
    raw = json.dumps(body).encode()
    value = {"broken": raw[:-5], "tombstone": None}.get(form, raw)
    return Record("predictions", 0, i, 0, key, value, headers)


@settings(max_examples=80)
@given(st.lists(_MADE, min_size=1, max_size=150))
def test_mixed_traffic_is_read_as_each_record_alone(
    kinds: list[tuple[str, str, str, bytes | None, str]],
) -> None:
    records = [_made(i, kind) for i, kind in enumerate(kinds)]
    whole = decode_predictions(records, known)
    alone = [decode_predictions([r], known) for r in records]
    assert reasons(whole) == [(i, d.dead[0][1].code) for i, d in enumerate(alone) if d.dead]
    for model, version in {(k[0], k[1]) for k in kinds}:

        def of(
            decoded: Decoded, model: str = model, version: str = version
        ) -> list[PredictionBlock]:
            return [b for b in decoded.blocks if (b.model, b.version) == (model, version)]

        got, want = of(whole), [b for d in alone for b in of(d)]
        assert [i for b in got for i in b.ids] == [i for b in want for i in b.ids]
        if not want:
            continue
        np.testing.assert_array_equal(
            np.concatenate([b.features for b in got]), np.concatenate([b.features for b in want])
        )
        np.testing.assert_array_equal(
            np.concatenate([b.served_at for b in got]), np.concatenate([b.served_at for b in want])
        )
        counted = [
            sum(b.wrong_type.get("x", 0) + b.wrong_type.get("age", 0) for b in bs)
            for bs in (got, want)
        ]
        assert counted[0] == counted[1]
    for block, of_record in zip(whole.blocks, whole.record_of, strict=True):
        assert [f"r{i}" for i in of_record.tolist()] == list(block.ids)


def test_neighbouring_batches_of_one_kind_become_one_block() -> None:
    def made(i: int, word: str) -> Record:
        return _as_arrow(
            [
                row(
                    2 * i + k, prediction=word, features={"age": 1.0, "region": "US", "income": 2.0}
                )
                | {
                    "served_at": START_US,
                    "segment": {"channel": word},
                    "latency_ms": 1.0,
                    "sample_rate": 1.0,
                }
                for k in range(2)
            ]
        )

    records = [made(0, "repay"), made(1, "default"), made(2, "other")]  # dictionaries differ
    decoded = decode_predictions(records, known)
    block = one(decoded)
    assert list(block.ids) == [f"r{i}" for i in range(6)]
    assert block.prediction.strings() == ["repay"] * 2 + ["default"] * 2 + ["other"] * 2  # type: ignore[union-attr]
    assert block.segments["channel"].strings() == block.prediction.strings()  # type: ignore[union-attr]
    assert decoded.record_of[0].tolist() == [0, 0, 1, 1, 2, 2]


def test_a_batch_with_bad_rows_is_judged_by_itself() -> None:
    plain = {"served_at": START_US, "segment": {}, "latency_ms": None, "sample_rate": 1.0}
    good = [_as_arrow([row(i) | plain]) for i in range(3)]
    strange = _as_arrow(
        [row(8) | plain | {"features": {"age": 1.0, "region": "MARS", "income": 2.0}}]
    )
    empty = _as_arrow([row(9, id="") | plain])
    decoded = decode_predictions([good[0], strange, empty, good[1], good[2]], known)
    assert reasons(decoded) == [(2, "invalid_field")]
    assert [i for b in decoded.blocks for i in b.ids] == ["r0", "r8", "r1", "r2"]
    assert sum(b.unseen != {} for b in decoded.blocks) == 1


def test_dead_records_keep_nothing_alive_until_the_collector_comes() -> None:
    arrow = record(b"no arrow")._replace(
        headers=headers_of(PredictionMade, source="/t", event_id="1", content_type=ARROW)
    )
    wrong = (b"{", b'{"model": "credit"}', b"[1]", b"\xff", json.dumps(row(id=[7])).encode())

    def alive() -> int:
        # by type: others' objects answer isinstance with whatever they like
        return sum(type(o) is RecordSet for o in gc.get_objects())

    gc.collect()
    before = alive()
    gc.disable()
    try:
        for bad in (*map(record, wrong), arrow):
            assert len(decode_predictions([bad, record(row())], known).dead) == 1
            assert alive() == before, bad.value
    finally:
        gc.enable()


# ------------------------------------------------------------------------- what strangers write


@pytest.mark.parametrize("model", ["credit", "new"])
def test_rows_of_many_own_names_cost_no_more_than_their_bytes(model: str) -> None:
    """No array is as wide as all the names of all rows."""
    rows = [row(j, model=model, features={f"a{j}_{i}": 1 for i in range(1_000)}) for j in range(30)]
    decoded = read(*rows)
    assert one(decoded).features.size <= 30 * 3
    assert len(one(decoded).unknown_features) <= 50


def test_long_text_is_a_dead_letter_as_a_prediction_and_counted_as_a_segment() -> None:
    fits, long = "s" * 256, "s" * 257
    decoded = read(
        row(0, prediction=fits, segment={"channel": fits}),
        row(1, prediction=long),
        row(2, segment={"channel": long}),
        row(3, segment={long: "a", "channel": "web"}),
    )
    assert [(i, why.code) for i, why in decoded.dead] == [(1, "invalid_field")]
    (block,) = decoded.blocks
    assert block.prediction.values[-1] == fits  # type: ignore[union-attr]
    assert block.segments["channel"].strings() == [fits, None, "web"]
    assert block.invalid == {"segment": 2}


def test_wide_batches_are_read_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CELLS", 5)
    plain = {"served_at": START_US, "segment": {}, "latency_ms": None, "sample_rate": 1.0}
    records = [_as_arrow([row(i, prediction=p) | plain]) for i, p in enumerate("abcdef")]
    monkeypatch.setattr(module, "JOINED_ROWS", 1)
    decoded = decode_predictions(records, known)
    assert 0 < decoded.records < 6
    assert sum(map(len, decoded.blocks)) == decoded.records
