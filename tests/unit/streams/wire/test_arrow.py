"""Arrow batches from anywhere: bad rows are left out, bad batches are dead letters, nothing
crashes."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from redistill.streams.errors import WireError
from redistill.streams.wire import arrow, arrow_open
from redistill.streams.wire.arrow import decode_batches
from redistill.streams.wire.arrow_encode import encode_batch
from redistill.streams.wire.arrow_open import open_batch
from redistill.streams.wire.block import Codes, Feature, PredictionBlock, Schema

SCHEMA = Schema(
    features=(
        Feature(name="x"),
        Feature(name="c", kind="category", values=("a", "b", "2")),
        Feature(name="y"),
    ),
    classes=("no", "yes"),
)
TIME = pa.timestamp("us", "UTC")
METADATA = {
    "redistill.format": "1",
    "redistill.model": "m",
    "redistill.version": "1",
    "redistill.features": '["x", "y"]',
}


def lists(values: list[Any], width: int) -> Any:
    return pa.array(values, pa.list_(pa.float32(), width))


def columns() -> dict[str, Any]:
    return {
        "id": pa.array(["r0", "r1", "r2"]),
        "served_at": pa.array([0, 1, 2], pa.int64()).cast(TIME),
        "prediction": pa.array(["no", "yes", "no"]).dictionary_encode(),
        "features": lists([[1, 2], [3, 4], [5, 6]], 2),
        "feature.c": pa.array(["a", "b", None]).dictionary_encode(),
        "scores": lists([[0.75, 0.25]] * 3, 2),
    }


def write(
    changes: dict[str, Any],
    metadata: dict[str, Any] | None = None,
    batches: int = 1,
    **options: Any,
) -> bytes:
    all_columns = {k: v for k, v in (columns() | changes).items() if v is not None}
    meta = {k: v for k, v in (METADATA | (metadata or {})).items() if v is not None}
    batch = pa.record_batch(list(all_columns.values()), names=list(all_columns))
    batch = batch.replace_schema_metadata(meta)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, **options) as writer:
        for _ in range(batches):
            writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def read(raw: bytes, schema: Schema | None = SCHEMA) -> PredictionBlock:
    return decode_batches([open_batch(raw)], lambda model: schema)


def test_batch_becomes_columns_in_the_schemas_order() -> None:
    block = read(write({}))
    np.testing.assert_array_equal(
        block.features, np.array([[1, 0, 2], [3, 1, 4], [5, np.nan, 6]], np.float32)
    )
    assert block.features.flags.writeable
    assert block.ids == ["r0", "r1", "r2"]


@pytest.mark.parametrize(
    ("changes", "left", "invalid"),
    [
        ({"id": pa.array([None, "r1", "r2"])}, [1, 2], {"id": 1}),
        ({"id": pa.array(["r0", "", "x" * 201])}, [0], {"id": 2}),
        ({"id": pa.array(["r0", "a\0b", "é" * 150])}, [0, 2], {"id": 1}),
        ({"served_at": pa.array([None, 1, 2], pa.int64()).cast(TIME)}, [1, 2], {"served_at": 1}),
        ({"prediction": pa.array(["no", None, "no"])}, [0, 2], {"prediction": 1}),
        ({"prediction": pa.array([0.5, float("nan"), 1.0])}, [0, 2], {"prediction": 1}),
        (
            {"prediction": pa.DictionaryArray.from_arrays([0, 1, 0], ["no", None])},
            [0, 2],
            {"prediction": 1},
        ),
        (
            {"id": pa.array([None, "b", "c"]), "prediction": pa.array([None, "no", None])},
            [1],
            {"id": 1, "prediction": 2},
        ),
    ],
)
def test_rows_without_an_identity_are_left_out_and_counted(
    changes: dict[str, Any], left: list[int], invalid: dict[str, int]
) -> None:
    block = read(write(changes))
    assert block.invalid == invalid
    assert len(block) == len(left)
    assert block.features[:, 0].tolist() == [[1.0, 3.0, 5.0][i] for i in left]
    assert block.served_at.tolist() == left


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"feature.x": pa.array(["1", None, "b"]), "features": lists([[2], [4], [6]], 1)}, {"x": 2}),
        ({"feature.c": pa.array([[1], None, [2]])}, {"c": 2}),
        ({"features": lists([[np.inf, 2], [3, 4], [-np.inf, 6]], 2)}, {"x": 2}),
    ],
)  # fmt: skip
def test_feature_of_another_type_is_missing_and_counted(
    changes: dict[str, Any], wrong: dict[str, int]
) -> None:
    one_list = changes.get("features", columns()["features"]).type.list_size == 1
    block = read(write(changes, {"redistill.features": '["y"]'} if one_list else None))
    assert block.wrong_type == wrong
    assert block.features[:, 2].tolist() == [2, 4, 6]
    (name,) = wrong
    assert np.isnan(block.features[:, SCHEMA.names.index(name)]).sum() >= wrong[name]


def test_booleans_are_one_and_zero_of_a_number() -> None:
    changes = {
        "feature.x": pa.array([True, None, False]),
        "features": lists([[2], [4], [6]], 1),
    }
    block = read(write(changes, {"redistill.features": '["y"]'}))
    np.testing.assert_array_equal(block.features[:, 0], [1, np.nan, 0])
    assert block.wrong_type == {}


def test_category_among_the_numbers_is_read_as_text() -> None:
    changes = {"features": lists([[2, 1], [2.5, 1], [np.nan, 1]], 2), "feature.c": None}
    block = read(write(changes, {"redistill.features": '["c", "y"]'}))
    np.testing.assert_array_equal(block.features[:, 1], [2, -1, np.nan])
    assert block.unseen == {"c": {"2.5": 1}}
    assert np.isnan(block.features[:, 0]).all()


def test_nulls_at_any_depth_are_missing() -> None:
    block = read(write({"features": lists([None, [3, None], [5, 6]], 2), "scores": None}))
    np.testing.assert_array_equal(
        block.features[:, [0, 2]], np.array([[np.nan] * 2, [3, np.nan], [5, 6]], np.float32)
    )
    assert block.scores is None
    assert block.wrong_type == {}


def test_scores_of_another_length_are_missing_and_counted() -> None:
    block = read(write({"scores": lists([[1, 0, 0]] * 3, 3)}))
    assert block.scores is None
    assert block.invalid == {"scores": 3}


def test_one_score_of_two_classes_is_the_probability_of_the_second() -> None:
    block = read(write({"scores": lists([[0.25], [None], [7]], 1)}))
    np.testing.assert_array_equal(block.scores, [[0.75, 0.25], *[[np.nan] * 2] * 2])
    assert block.invalid == {"scores": 1}


def test_times_of_other_units_and_zones_are_the_same_instant() -> None:
    for kind in (
        pa.timestamp("s", "UTC"),
        pa.timestamp("ms", "+01:00"),
        pa.timestamp("ns", "Asia/Kolkata"),
    ):
        moments = pa.array([1, 2, 3], pa.int64()).cast(pa.timestamp("s", "UTC")).cast(kind)
        assert read(write({"served_at": moments})).served_at.tolist() == [
            10**6,
            2 * 10**6,
            3 * 10**6,
        ]


def test_large_and_sliced_columns_are_read() -> None:
    wide = {name: pa.concat_arrays([c, c]).slice(3) for name, c in columns().items()}
    wide["id"] = wide["id"].cast(pa.large_string())
    wide["prediction"] = wide["prediction"].cast(pa.string())
    raw = write(wide)
    np.testing.assert_array_equal(read(raw).features, read(write({})).features)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (lambda: write({k: c.slice(0, 0) for k, c in columns().items()}), "invalid_field"),
        (lambda: write({"id": pa.array([None, None, ""])}), "invalid_field"),
        (lambda: write({"id": None}), "missing_field"),
        (lambda: write({"id": pa.array([[1], [2], [3]])}), "invalid_field"),
        (lambda: write({"served_at": pa.array([1, 2, 3])}), "invalid_field"),
        (lambda: write({"served_at": pa.array([1, 2, 3]).cast(pa.timestamp("us"))}), "invalid_field"),
        (lambda: write({"served_at": pa.array([2**62] * 3).cast(pa.timestamp("s", "UTC"))}), "invalid_field"),
        (lambda: write({"prediction": pa.array([[1]] * 3)}), "invalid_field"),
        (lambda: write({"features": None}), "missing_field"),
        (lambda: write({"features": lists([[1]] * 3, 1)}), "invalid_field"),
        (lambda: write({"features": pa.array([[1.0, 2.0], [1.0], [1.0]])}), "invalid_field"),
        (lambda: write({"features": pa.array([["a", "b"]] * 3)}), "invalid_field"),
        (lambda: write({"features": pa.array([1.0] * 3)}), "invalid_field"),
        (lambda: write({"feature.x": pa.array(["a"] * 3)}), "invalid_field"),
        (lambda: write({}, {"redistill.format": "2"}), "unknown_version"),
        (lambda: write({}, {"redistill.model": None}), "missing_field"),
        (lambda: write({}, {"redistill.model": "No Name"}), "invalid_field"),
        (lambda: write({}, {"redistill.version": ""}), "missing_field"),
        (lambda: write({}, {"redistill.features": "x, y"}), "invalid_field"),
        (lambda: write({}, {"redistill.features": '["x", "x"]'}), "invalid_field"),
        (lambda: write({}, {"redistill.features": '["x"]'}), "invalid_field"),
    ],
)  # fmt: skip
def test_broken_batch_is_named(raw: Callable[[], bytes], code: str) -> None:
    with pytest.raises(WireError) as caught:
        read(raw())
    assert caught.value.code == code


def test_of_a_model_that_nobody_registered_only_its_rows_are_read() -> None:
    block = read(write({"segment.s": pa.array([1, 2, 3]), "scores": pa.array([1, 2, 3])}), None)
    assert (block.ids, block.served_at.tolist()) == (["r0", "r1", "r2"], [0, 1, 2])
    assert (block.features.shape, block.feature_names, block.scores) == ((3, 0), (), None)
    assert (block.segments, block.flawless) == ({}, True)


FUZZ = """
import random, sys
sys.path.insert(0, sys.argv[1])
from redistill.streams.errors import WireError
from redistill.streams.wire.arrow import decode_batches
from redistill.streams.wire.arrow_open import open_batch
from redistill.streams.wire.block import Feature, Schema
SCHEMA = Schema(
    features=(Feature(name="x"), Feature(name="c", kind="category", values=("a",))),
    classes=("no", "yes"),
)
raw = open(sys.argv[2], "rb").read()
rng = random.Random(int(sys.argv[3]))
read = dead = 0
for _ in range(int(sys.argv[4])):
    data = bytearray(raw)
    for _ in range(rng.choice([1, 1, 2, 8])):
        data[rng.randrange(len(data))] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
    try:
        block = decode_batches([open_batch(bytes(data))], lambda model: SCHEMA)
        assert block.features.shape[0] == len(block.ids) == len(block.served_at)
        "".join(block.ids).encode()
        read += 1
    except WireError:
        dead += 1
print(read, dead)
"""


def test_damaged_batches_never_end_the_process(tmp_path: Any) -> None:
    raw = encode_batch(
        model="m", version="1", ids=[f"id-{i}" for i in range(20)],
        served_at=np.arange(20), feature_names=["x", "y"],
        features=np.ones((20, 2), np.float32), categories={"c": ["a", None] * 10},
        prediction=["no", "yes"] * 10, scores=np.ones((20, 2), np.float32),
        segments={"s": ["u"] * 20}, latency_ms=np.ones(20, np.float32),
    )  # fmt: skip
    (path := tmp_path / "batch").write_bytes(raw)
    root = str(Path(__file__).parents[4])
    seed = random.SystemRandom().randrange(10**6)
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, root, str(path), str(seed), "3000"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (seed, done.stderr[-2000:])
    read_, dead = map(int, done.stdout.split())
    assert read_ > 200
    assert dead > 200


# ---------------------------------------------------------------- much said in few bytes


def nulls(rows: int, width: int) -> Any:
    """Lists of nulls: no byte a row, whatever their width."""
    return pa.FixedSizeListArray.from_arrays(pa.nulls(rows * width), width)


def nested(depth: int) -> Any:
    out = pa.array([1, None, 3])
    for _ in range(depth):
        out = pa.StructArray.from_arrays([out], ["a"], mask=pa.array([False, True, False]))
    return out


HUGE: dict[str, Callable[[], Any]] = {
    "lists of nulls": lambda: nulls(3, 2_000_000),
    "runs": lambda: pa.RunEndEncodedArray.from_arrays(pa.array([3], pa.int32()), pa.array([1])),
    "views": lambda: pa.array(["a" * 20, None, "b"], pa.string_view()),
    "structs": lambda: nested(30),
    "nulls": lambda: pa.nulls(3),
}


@pytest.mark.parametrize("schema", [SCHEMA, None], ids=["registered", "unregistered"])
@pytest.mark.parametrize("name", HUGE)
def test_columns_that_nobody_reads_are_left_where_they_are(name: str, schema: Any) -> None:
    block = read(write({"debug": HUGE[name]()}), schema)
    assert (len(block), block.flawless) == (3, True)
    assert "debug" not in open_batch(write({"debug": HUGE[name]()})).schema.names


@pytest.mark.parametrize(("name", "wrong"), [
    ("lists of nulls", 3), ("runs", 3), ("views", 2), ("structs", 2), ("nulls", 0),
])  # fmt: skip
def test_nested_features_are_of_a_wrong_type_and_never_looked_into(name: str, wrong: int) -> None:
    changes = {"feature.x": HUGE[name](), "features": lists([[2], [4], [6]], 1)}
    meta = {"redistill.features": '["y"]'}
    block = read(write(changes, meta))
    assert block.wrong_type == ({"x": wrong} if wrong else {})
    assert block.features[:, 2].tolist() == [2, 4, 6]
    left = read(write(changes | {"id": pa.array([None, "b", "c"])}, meta))
    assert (len(left), left.features[:, 2].tolist()) == (2, [4, 6])
    joined = decode_batches([open_batch(write(changes, meta))] * 3, lambda model: SCHEMA)
    assert len(joined) == 9


@pytest.mark.parametrize("name", ["id", "served_at", "prediction", "features"])
def test_nested_columns_that_rows_need_are_refused(name: str) -> None:
    with pytest.raises(WireError) as caught:
        read(write({name: nulls(3, 2_000_000)}))
    assert (caught.value.code, f"column {name} is of type" in caught.value.reason) == (
        "invalid_field", True,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["lists of nulls", "runs", "structs"])
@pytest.mark.parametrize(
    ("column", "field"),
    [("scores", "scores"), ("latency_ms", "latency_ms"), ("segment.s", "segment")],
)
def test_what_rows_do_not_need_is_counted_and_they_count(
    column: str, field: str, name: str
) -> None:
    values = HUGE[name]()
    block = read(write({column: values}))
    assert (len(block), block.features[:, 2].tolist()) == (3, [2, 4, 6])
    assert block.invalid == {field: 3 - values.null_count}


@pytest.mark.parametrize(("column", "field"), [
    ("scores", "scores"), ("latency_ms", "latency_ms"), ("sample_rate", "sample_rate"),
])  # fmt: skip
def test_a_column_of_texts_in_place_of_numbers_is_counted_as_in_json(
    column: str, field: str
) -> None:
    block = read(write({column: pa.array(["a", None, "b"])}))
    assert (len(block), block.invalid) == (3, {field: 2})


@pytest.mark.parametrize(
    "column", ["scores", "latency_ms", "sample_rate", "segment.s", "feature.c"]
)
def test_a_column_of_nulls_is_missing(column: str) -> None:
    block = read(write({column: pa.nulls(3)}))
    assert (len(block), block.flawless) == (3, True)


@pytest.mark.parametrize(
    "numbers",
    [
        pa.array([3, 5, None]),
        pa.array([3, 5, None], pa.uint8()),
        pa.array([Decimal("3.00"), Decimal("5.00"), None]),
        pa.array([3.0, 5.0, None], pa.float32()),
        pa.array([3, 5, None]).dictionary_encode(),
    ],
    ids=["int64", "uint8", "decimal", "float", "dictionary"],
)
def test_numbers_are_predicted_as_numbers_and_name_classes_as_in_json(numbers: Any) -> None:
    raw = write({"prediction": numbers})
    block = read(raw, None)
    assert not isinstance(block.prediction, Codes)
    assert block.prediction.tolist() == [3, 5]
    block = read(raw, Schema(features=SCHEMA.features, classes=("5", "3")))
    assert isinstance(block.prediction, Codes)
    assert (block.prediction.strings(), block.invalid) == (["3", "5"], {"prediction": 1})


def test_whole_numbers_that_no_float_holds_name_classes_exactly() -> None:
    found = read(write({"prediction": pa.array([2**53 + 1, 1, 1])}), None).prediction
    assert isinstance(found, Codes)
    assert found.strings() == [str(2**53 + 1), "1", "1"]


def test_word_of_many_rows_is_judged_once_and_never_written_out() -> None:
    words = pa.array(["yes", "n" * 300_000, None])
    given = pa.DictionaryArray.from_arrays(pa.array([1] * 4_000 + [2, 0], pa.int16()), words)
    n = len(given)
    block = read(
        write({
            "id": pa.array([f"r{i}" for i in range(n)]),
            "served_at": pa.array(range(n), pa.int64()).cast(TIME),
            "prediction": given, "features": None, "feature.c": None, "scores": None,
            "segment.s": given,
        }, {"redistill.features": "[]"})
    )  # fmt: skip
    assert (block.ids, block.invalid) == ([f"r{n - 1}"], {"prediction": 4_001})


def test_long_id_of_many_rows_is_never_written_out() -> None:
    ids = pa.DictionaryArray.from_arrays(pa.array([0, 0, 1], pa.int8()), ["i" * 300_000, "r"])
    block = read(write({"id": ids}))
    assert (block.ids, block.invalid) == (["r"], {"id": 2})


def test_long_texts_are_no_classes_and_no_segments() -> None:
    fits, long = "s" * 256, "s" * 257
    block = read(write({
        "prediction": pa.array(["yes", fits, long]),
        "segment.s": pa.array([fits, long, "a"]),
        f"segment.{'k' * 257}": pa.array(["a"] * 3),
    }))  # fmt: skip
    assert (block.ids, block.invalid) == (["r0", "r1"], {"prediction": 1, "segment": 3})
    assert np.asarray(block.prediction.values).tolist() == ["no", "yes", fits]  # type: ignore[union-attr]
    assert block.segments["s"].strings() == [fits, None]


def test_columns_may_share_their_bytes_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = write({})
    size = sum(c.nbytes for c in open_batch(raw).columns)
    assert size < len(raw)
    monkeypatch.setattr(arrow_open, "MAX_REFERRED", size)
    assert len(read(raw)) == 3
    monkeypatch.setattr(arrow_open, "MAX_REFERRED", size - 1)
    with pytest.raises(WireError) as caught:
        read(raw)
    assert caught.value.code == "oversized"


def test_rows_times_registered_features_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = write({})
    monkeypatch.setattr(arrow, "MAX_CELLS", 3 * len(SCHEMA.features))
    assert len(read(raw)) == 3
    monkeypatch.setattr(arrow, "MAX_CELLS", 3 * len(SCHEMA.features) - 1)
    with pytest.raises(WireError) as caught:
        read(raw)
    assert caught.value.code == "oversized"
    assert len(read(raw, None)) == 3


def test_thousands_of_columns_cost_in_proportion_to_their_bytes() -> None:
    wide = {f"feature.n{i}": pa.nulls(3) for i in range(2_000)}
    block = read(write(wide | {"feature.c": None}))
    assert len(block) == 3
    assert len(block.unknown_features) == 50
