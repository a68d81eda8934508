"""Decoding predictions with 20 features into columns: microseconds of CPU a row, and rows a second.

Baselines: the same JSON through ``json.loads`` or untyped msgspec and a list per column.

    python tests/benchmarks/bench_codec.py [--rows 512] [--rounds 40]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from redistill.streams.wire.block import Feature, Schema
from redistill.streams.wire.codec import (
    ARROW,
    Record,
    decode_predictions,
    encode_batch,
    headers_of,
    id_hashes,
)
from redistill.streams.wire.events import PredictionMade

NAMES = [f"feature_{j:02d}" for j in range(20)]
SCHEMA = Schema(features=tuple(Feature(name=n) for n in NAMES), classes=("repay", "default"))


def cost(call: Callable[[], Any], rows: int, rounds: int) -> float:
    """Median CPU microseconds a row."""
    spent = []
    for _ in range(rounds):
        before = time.process_time()
        call()
        spent.append(time.process_time() - before)
    return median(spent) / rows * 1e6


def columns(decode: Callable[[bytes], Any], values: list[bytes]) -> dict[str, Any]:
    """What a plain reader does: rows to lists to numpy."""
    rows = [decode(v) for v in values]
    return {
        "ids": [r["id"] for r in rows],
        "served_at": np.array([r["served_at"].rstrip("Z") for r in rows], "datetime64[us]"),
        "features": np.array([[r["features"][n] for n in NAMES] for r in rows], np.float32),
        "scores": np.array([r["scores"] for r in rows], np.float32),
        "prediction": [r["prediction"] for r in rows],
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=40)
    args = parser.parse_args()
    n = args.rows
    x = np.random.default_rng(0).normal(size=(n, 20)).astype(np.float32)
    ids = [f"request-{i:08d}" for i in range(n)]
    records = []
    for i in range(n):
        body = {
            "id": ids[i], "model": "credit", "version": "7",
            "served_at": f"2026-01-02T03:04:05.{i % 10**6:06d}Z",
            "features": {name: round(float(v), 2) for name, v in zip(NAMES, x[i], strict=True)},
            "prediction": "repay", "scores": [0.9, 0.1],
        }  # fmt: skip
        value = json.dumps(body, separators=(",", ":")).encode()
        headers = tuple(headers_of(PredictionMade, source="/svc", event_id=str(i)))
        records.append(Record("predictions", 0, i, 0, b"credit", value, headers))
    values = [r.value or b"" for r in records]
    raw = encode_batch(
        model="credit", version="7", ids=ids, served_at=np.arange(n), feature_names=NAMES,
        features=x, prediction=["repay"] * n, scores=np.ones((n, 2), np.float32),
    )  # fmt: skip
    headers = headers_of(PredictionMade, source="/svc", event_id="b", content_type=ARROW)
    batch = [Record("predictions", 0, 0, 0, b"credit", raw, headers)]

    def known(model: str) -> Schema:
        return SCHEMA

    table = Table("", "µs/row", "rows/s/core", "bytes/row", title=f"{n} rows, 20 features")
    size = float(np.mean([len(v) for v in values]))
    for name, call, width in (
        ("json.loads to columns", lambda: columns(json.loads, values), size),
        ("msgspec, untyped, to columns", lambda: columns(msgspec.json.decode, values), size),
        ("decode_predictions, JSON", lambda: decode_predictions(records, known), size),
        ("decode_predictions, Arrow", lambda: decode_predictions(batch, known), len(raw) / n),
        ("id_hashes", lambda: id_hashes(ids, b"0123456789abcdef"), float(len(ids[0]))),
    ):
        call()
        spent = cost(call, n, args.rounds)
        table.add_row(name, f"{spent:.2f}", f"{1e6 / spent:,.0f}", f"{width:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
