"""Records of strangers that say much in few bytes, by kind."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from stream_rows import CONFIG, START

from redistill.streams.wire.codec import ARROW, Record, headers_of
from redistill.streams.wire.events import PredictionMade
from redistill.times import microseconds

TIME = pa.timestamp("us", "UTC")


def records_of(kind: str) -> list[Record]:
    """The records of a kind, of a registered and of an unregistered model."""
    return _KINDS[kind]()


def row(i: int, **changes: Any) -> Record:
    body = {
        "id": f"bad-{i}", "model": "evil", "version": "7", "served_at": START.isoformat(),
        "prediction": "repay",
    }  # fmt: skip
    raw = json.dumps(body | changes).encode()
    return Record("predictions", 0, 0, 0, b"x", raw, headers_of(_EVENT, source="/t", event_id="1"))


def batch(model: str, columns: dict[str, Any], rows: int, **options: Any) -> Record:
    """A batch of the layout, with other columns."""
    whole = {
        "id": pa.array([f"bad-{i}" for i in range(rows)]),
        "served_at": pa.array(np.full(rows, microseconds(START)), pa.int64()).cast(TIME),
        "prediction": pa.array(["repay"] * rows).dictionary_encode(),
    } | columns
    made = pa.record_batch(list(whole.values()), names=list(whole)).replace_schema_metadata(
        {"redistill.model": model, "redistill.version": "7"}
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, made.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_batch(made)
    headers = headers_of(_EVENT, source="/t", event_id="1", content_type=ARROW)
    return Record("predictions", 0, 0, 0, b"x", sink.getvalue().to_pybytes(), headers)


def of_both(
    columns: Callable[[], dict[str, Any]], rows: int, times: int = 3, **options: Any
) -> list[Record]:
    return [batch(m, columns(), rows, **options) for m in (CONFIG.model, "evil")] * times


def nulls(rows: int) -> Any:
    return pa.FixedSizeListArray.from_arrays(pa.nulls(rows * 2_000_000), 2_000_000)


def words(rows: int, word: str) -> Any:
    codes = pa.array(np.zeros(rows, np.int16))
    return pa.DictionaryArray.from_arrays(codes, pa.array([word, None]))


def own_names(model: str) -> Sequence[Record]:
    return [row(j, model=model, features={f"a{j}_{i}": 1 for i in range(5_000)}) for j in range(40)]


def raw(features: str) -> list[Record]:
    return [
        r._replace(value=(r.value or b"").replace(b'"?"', features.encode()))
        for m in (CONFIG.model, "evil")
        for r in [row(0, model=m, features={"income": "?"})]
    ]


_EVENT = PredictionMade
_KINDS: dict[str, Callable[[], Any]] = {
    "unused lists of nulls": lambda: of_both(lambda: {"debug": nulls(1_000)}, 1_000),
    "nested features": lambda: of_both(
        lambda: {"feature.income": nulls(1_000), "segment.region": nulls(1_000)}, 1_000
    ),
    "shared dictionaries": lambda: of_both(
        lambda: {f"feature.c{i}": words(1, "w" * 400) for i in range(900)}, 1
    ),
    "long words": lambda: of_both(
        lambda: {
            "prediction": words(5_000, "w" * 300_000), "segment.region": words(5_000, "w" * 300_000),
            "feature.region": words(5_000, "w" * 200_000),
        }, 5_000,
    ),
    "long ids": lambda: of_both(lambda: {"id": words(5_000, "w" * 500_000)}, 5_000),
    "thousands of columns": lambda: of_both(
        lambda: {f"feature.c{i}": pa.nulls(1) for i in range(3_000)}, 1
    ),
    "rows without features": lambda: of_both(dict, 5_000, 30),
    "wide scores": lambda: of_both(
        lambda: {"scores": pa.FixedSizeListArray.from_arrays(pa.nulls(200_000, pa.float32()), 200_000)}, 1
    ) + [row(i) for i in range(2_000)] + [row(0, scores=[0.5] * 100_000)],
    "compressed": lambda: of_both(
        lambda: {"feature.income": pa.array(np.zeros(5_000))}, 5_000, compression="zstd"
    ),
    "own names": lambda: own_names("evil"),
    "own names of a registered model": lambda: own_names(CONFIG.model),
    "many segments": lambda: [
        row(j, model=m, segment={f"s{j}_{i}": "v" for i in range(20_000)})
        for j in range(10) for m in (CONFIG.model, "evil")
    ],
    "new models": lambda: [row(i, model=f"m{i}") for i in range(5_000)],
    "new versions": lambda: [row(i, version=f"v{i}") for i in range(5_000)],
    "new versions of a registered model": lambda: [
        row(i, model=CONFIG.model, version=f"v{i}") for i in range(5_000)
    ],
    "deep": lambda: raw("[" * 100_000 + "]" * 100_000),
    "digits": lambda: [*raw("9" * 900_000), *raw("1e999999999"), *raw("0." + "9" * 900_000)],
}  # fmt: skip
