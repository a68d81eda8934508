"""A small stream that gets worse at row 6,000, its reference, and what a replay says of them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

from redistill.streams.replay.options import ReplayOptions
from redistill.streams.replay.run import run_replay

OPTIONS = ReplayOptions(scores=("score_a", "score_b"), tolerance_points=2.0)


def columns(n: int, seed: int, drift: int | None = None) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    region = np.array(["EU", "US", "APAC"])[rng.integers(0, 3, n)]
    prediction = (x[:, 0] > 0).astype(int)
    wrong = rng.random(n) < 0.08
    if drift is not None:
        wrong |= (np.arange(n) >= drift) & (rng.random(n) < 0.25)
    score = rng.uniform(0.6, 1, n)
    return {
        "x0": x[:, 0],
        "x1": x[:, 1],
        "x2": x[:, 2].astype(np.float32),
        "region": region,
        "label": np.where(wrong, 1 - prediction, prediction),
        "prediction": prediction,
        "score_a": score,
        "score_b": 1 - score,
    }


REFERENCE = pa.table(columns(6_000, 0))
STREAM = pa.table(columns(12_000, 1, 6_000))


def lines_of(
    stream: Any = STREAM, reference: Any = REFERENCE, options: ReplayOptions = OPTIONS
) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    run_replay(
        stream, reference, options, write=lambda line: lines.append(json.loads(json.dumps(line)))
    )
    return lines


def opened(lines: list[dict[str, Any]], kind: str | None = None) -> list[dict[str, Any]]:
    return [x for x in lines if x.get("status") == "open" and kind in (None, x["kind"])]


def with_column(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.schema.names.index(name), name, pa.array(values))


def words(table: pa.Table, *columns: str) -> pa.Table:
    for name in columns:
        answers = np.array(["no", "yes"])[table[name].to_numpy()]
        table = with_column(table, name, answers)
    return table
