"""Columns of slices: declared and by default."""

from __future__ import annotations

import dataclasses

import numpy as np

from redistill.streams.monitor.slice_columns import slice_columns, slices_of
from redistill.streams.wire.block import Codes, Feature, PredictionBlock, Schema


def category(name: str, values: int) -> Feature:
    return Feature(name=name, kind="category", values=tuple(map(str, range(values))))


SCHEMA = Schema(
    features=(
        category("one", 1),
        category("two", 2),
        Feature(name="x"),
        category("fifty", 50),
        category("more", 51),
        category("hidden", 3),
    ),
    slices=("channel", "x"),
    groups=("two",),
)


def test_categories_of_two_to_fifty_values_are_slices_beside_the_declared_ones() -> None:
    assert slice_columns(SCHEMA) == ("channel", "x", "two", "fifty", "hidden")
    out = dataclasses.replace(SCHEMA, no_slices=("fifty",))
    assert slice_columns(out) == ("channel", "x", "two", "hidden")


def test_what_may_not_be_stored_is_no_slice() -> None:
    assert slice_columns(SCHEMA, stored=["fifty", "x"]) == ("channel", "x", "two", "fifty")
    assert slice_columns(Schema(features=SCHEMA.features), stored=()) == ()


def test_there_are_twenty_by_default_at_most() -> None:
    wide = Schema(features=tuple(category(f"c{i}", 3) for i in range(30)), slices=("channel",))
    assert len(slice_columns(wide)) == 21


def test_slices_of_a_block_come_from_its_segments_else_from_its_categories() -> None:
    region = Feature(name="region", kind="category", values=("EU", "US"))
    schema = Schema(features=(Feature(name="x"), region))
    block = PredictionBlock(
        model="credit",
        version="7",
        ids=["a", "b", "c", "d"],
        served_at=np.arange(4),
        feature_names=schema.names,
        features=np.array([[0, 0], [0, 1], [0, -1], [0, np.nan]], np.float32),
        prediction=np.zeros(4),
        scores=None,
        segments={"channel": Codes.of(["web", "app", None, "web"])},
    )
    found = slices_of(block, schema, ("channel", "region", "x", "absent"))
    assert list(found) == ["channel", "region"]
    assert found["channel"].strings() == ["web", "app", None, "web"]
    assert found["region"].strings() == ["EU", "US", None, None]
