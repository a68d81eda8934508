"""Rows for the monitor's tests: eight numbers, a category, two classes, and what a healthy day
looks like."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from redistill.streams.monitor.config import WatchConfig
from redistill.streams.wire.block import Codes, Feature, PredictionBlock, Schema

NUMBERS = 8
SCHEMA = Schema(
    features=(
        *(Feature(name=f"x{i}") for i in range(NUMBERS)),
        Feature(name="region", kind="category", values=("EU", "US", "APAC")),
        Feature(name="share", minimum=0.0, maximum=1.0),
    ),
    classes=("no", "yes"),
)
REGION, SHARE = NUMBERS, NUMBERS + 1
CONFIG = WatchConfig(model="credit", schema=SCHEMA)


def features(n: int, seed: int) -> NDArray[np.float32]:
    """``(n, 10)`` healthy rows."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, NUMBERS + 2))
    x[:, REGION] = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    x[:, SHARE] = rng.random(n)
    return x.astype(np.float32)


def block(
    x: NDArray[np.float32], seed: int = 0, *, confidence: NDArray[np.float64] | None = None
) -> PredictionBlock:
    """A block of these rows, a row a second."""
    rng = np.random.default_rng([seed, 1])
    n = len(x)
    c = rng.uniform(0.7, 1.0, n) if confidence is None else confidence
    return PredictionBlock(
        model="credit",
        version="7",
        ids=[f"{seed}-{i}" for i in range(n)],
        served_at=np.arange(n, dtype=np.int64) * 1_000_000,
        feature_names=SCHEMA.names,
        features=x,
        prediction=Codes(rng.integers(0, 2, n).astype(np.int32), ("no", "yes")),
        scores=np.stack([c, 1 - c], axis=1).astype(np.float32),
    )


def cut(whole: PredictionBlock, start: int, end: int) -> PredictionBlock:
    """Rows ``start:end``."""
    p = whole.prediction
    assert isinstance(p, Codes)
    return dataclasses.replace(
        whole,
        ids=whole.ids[start:end],
        served_at=whole.served_at[start:end],
        features=whole.features[start:end],
        prediction=Codes(p.codes[start:end], p.values),
        scores=None if whole.scores is None else whole.scores[start:end],
    )
