"""TOML text of what commands write: read again it is the same."""

from __future__ import annotations

import tomllib

import pytest
from odd_names import ODD

from redistill.streams.wire.block import Feature
from redistill.workers.models import toml_text
from redistill.workers.models.spec_schema import read_schema


@pytest.mark.parametrize("name", [*ODD, "a b", "", "p[0-3]", "x\x7f"])
def test_names_are_read_as_they_were_written(name: str) -> None:
    text = f"{toml_text.key(name)} = {toml_text.names([name, 'b'])}"
    assert tomllib.loads(text) == {name: [name, "b"]}


@pytest.mark.parametrize(
    "feature",
    [
        Feature(name="age", kind="int"),
        Feature(name="p[0-3]"),
        Feature(name="region", kind="category", values=("EU", 'U"S')),
        Feature(name="r[0-1]", kind="category", values=("a",)),
    ],
)
def test_features_are_read_as_they_were_written(feature: Feature) -> None:
    text = f"{toml_text.key(feature.name)} = {toml_text.feature(feature)}"
    problems: list[str] = []
    table = {"features": tomllib.loads(text), "classes": ["a", "b"]}
    schema = read_schema(table, problems)
    assert problems == []
    assert schema is not None
    assert schema.features == (feature,)
