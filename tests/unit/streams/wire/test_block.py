"""Blocks: small ones of a version become one with the same rows in the same order."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from redistill.streams.wire.block import (
    Codes,
    Feature,
    PredictionBlock,
    Schema,
    alike,
    joined,
)


def block(first: int, n: int, **over: object) -> PredictionBlock:
    made: dict[str, object] = {
        "model": "m",
        "version": "1",
        "ids": [f"r{i}" for i in range(first, first + n)],
        "served_at": np.arange(first, first + n),
        "feature_names": ("a", "b"),
        "features": np.arange(2 * first, 2 * (first + n), dtype=np.float32).reshape(-1, 2),
        "prediction": Codes(np.arange(n, dtype=np.int32) % 2, ("yes", "no")),
        "scores": np.full((n, 2), first, np.float32),
    }
    return PredictionBlock(**(made | over))  # type: ignore[arg-type]


def test_rows_stand_in_order() -> None:
    whole = joined([block(0, 3), block(3, 2), block(5, 1)])
    assert whole.ids == [f"r{i}" for i in range(6)]
    assert whole.served_at.tolist() == list(range(6))
    assert whole.features.tolist() == [[2 * i, 2 * i + 1] for i in range(6)]
    assert whole.scores is not None
    assert whole.scores[:, 0].tolist() == [0, 0, 0, 3, 3, 5]
    assert whole.latency_ms is None
    assert whole.sample_rate is None
    assert isinstance(whole.prediction, Codes)
    assert whole.prediction.strings() == ["yes", "no", "yes", "yes", "no", "yes"]


def test_words_that_are_numbered_differently_stay_the_same_words() -> None:
    a = Codes(np.array([0, 2, -1], np.int32), ("x", "y", "z"))
    b = Codes(np.array([1, 0, -1], np.int32), ("z", "w"))
    twice = Codes(np.array([1, 2], np.int32), ("x", "x", "w"))
    blocks = [
        block(0, 3, prediction=a, segments={"s": b}),
        block(3, 3, prediction=b, segments={"s": a}),
        block(6, 2, prediction=twice, segments={"s": twice}),
    ]
    whole = joined(blocks)
    assert isinstance(whole.prediction, Codes)
    assert whole.prediction.strings() == ["x", "z", None, "w", "z", None, "x", "w"]
    assert whole.prediction.values[:3] == ("x", "y", "z")
    assert whole.segments["s"].strings() == ["w", "z", None, "x", "z", None, "x", "w"]


def test_numbers_stay_numbers() -> None:
    halves = [block(i, 1, prediction=np.array([i / 2])) for i in range(3)]
    assert np.asarray(joined(halves).prediction).tolist() == [0, 0.5, 1]


@pytest.mark.parametrize(
    "other",
    [
        {"version": "2"},
        {"model": "n"},
        {"feature_names": ("b", "a")},
        {"prediction": np.zeros(2)},
        {"scores": None},
        {"scores": np.zeros((2, 3), np.float32)},
        {"segments": {"s": Codes(np.zeros(2, np.int32), ("x",))}},
        {"latency_ms": np.zeros(2, np.float32)},
        {"sample_rate": np.ones(2, np.float32)},
        {"wrong_type": {"a": 1}},
        {"invalid": {"id": 1}},
        {"unseen": {"a": {"x": 1}}},
        {"unknown_features": {"c": 1}},
    ],
)
def test_blocks_that_differ_stay_apart(other: dict[str, object]) -> None:
    one, two = block(0, 2), dataclasses.replace(block(2, 2), **other)  # type: ignore[arg-type]
    assert alike(one, block(2, 2))
    assert not alike(one, two)
    assert not alike(two, one)


def test_one_block_is_joined_as_it_is() -> None:
    whole = block(0, 3)
    assert joined([whole]) is whole


def test_codes_number_words_as_they_come_and_give_them_back() -> None:
    words = ["b", None, "a", "b"]
    codes = Codes.of(words)
    assert (codes.codes.tolist(), codes.values) == ([0, -1, 1, 0], ("b", "a"))
    assert codes.strings() == words


def test_rows_are_packed_as_the_graph_takes_them() -> None:
    schema = Schema(
        features=(Feature(name="r", kind="category", values=("EU", "2")), Feature(name="x"))
    )
    rows = [
        {"x": "1.5", "r": "EU", "other": 1},
        {"x": True, "r": 2},
        {"x": "many", "r": "MARS"},
        {"x": [1], "r": None},
        {"x": 10**400},
    ]
    np.testing.assert_array_equal(
        schema.pack(rows),
        np.array([[0, 1.5], [1, 1], [-1, np.nan], [np.nan, np.nan], [np.nan, np.nan]], np.float32),
    )
    assert schema.pack([]).shape == (0, 2)
    assert schema.names == ("r", "x")


@pytest.mark.parametrize("name", ["wrong_type", "invalid", "unseen", "unknown_features"])
def test_block_with_any_fault_is_not_flawless(name: str) -> None:
    assert block(0, 1).flawless
    fault = {"a": {"x": 1}} if name == "unseen" else {"a": 1}
    assert not block(0, 1, **{name: fault}).flawless
