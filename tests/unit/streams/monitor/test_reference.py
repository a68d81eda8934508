"""Profiles: what is learned from reference rows, and that it can be stored."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from monitor_blocks import REGION, SCHEMA, SHARE, block, features

from redistill.streams.monitor.counts import columns, count
from redistill.streams.monitor.drifted_features import drifted_features
from redistill.streams.monitor.input_profile import Profile
from redistill.streams.monitor.reference import build_profile
from redistill.streams.wire.block import Codes

REFERENCE = block(features(20_000, 0))
PROFILE = build_profile(REFERENCE, SCHEMA)


def counted(x: np.ndarray):  # type: ignore[no-untyped-def]
    values = columns(block(x, 1), SCHEMA.names, PROFILE.classes)
    return count(values, PROFILE.layout)


def test_roles_are_told_apart() -> None:
    x = features(5_000, 2)
    x[:, 0] = np.arange(5_000)
    found = build_profile(block(x), SCHEMA)
    assert [c.role for c in found.columns[:2]] == ["clock", "number"]
    assert found.columns[REGION].role == "category"
    assert found.columns[SHARE].bounded
    assert [c.name for c in found.columns[-2:]] == ["prediction", "score"]


def test_variability_holds_the_worst_stretch_of_the_reference() -> None:
    x = features(5_000, 2)
    x[1_000:1_500, 0] = np.where(np.arange(500) % 2 == 0, np.nan, x[1_000:1_500, 0])
    x[2_000:2_500, 1] += 4
    found = build_profile(block(x), SCHEMA)
    assert found.columns[0].variability.missing == 0.5
    assert found.columns[1].variability.shift > 2
    assert found.columns[2].variability.shift < 0.5


def test_classes_are_those_of_the_predictions_when_none_are_declared() -> None:
    schema = dataclasses.replace(SCHEMA, classes=())
    found = build_profile(REFERENCE, schema)
    assert found.classes == ("no", "yes")
    numbers = dataclasses.replace(REFERENCE, prediction=np.linspace(0, 1, 20_000))
    assert build_profile(numbers, schema).columns[-2].role == "clock"


@pytest.mark.parametrize("rows", [0, 1, 10])
def test_hardly_any_rows_make_a_profile_all_the_same(rows: int) -> None:
    found = build_profile(block(features(rows, 0)), SCHEMA)
    assert found.rows == rows
    assert Profile.from_bytes(found.to_bytes()).digest == found.digest
    assert drifted_features(counted(features(500, 1)), PROFILE)


def test_a_reference_without_predictions_and_scores_compares_neither() -> None:
    bare = dataclasses.replace(
        REFERENCE, prediction=Codes(np.full(20_000, -1, np.int32), ()), scores=None
    )
    found = build_profile(bare, SCHEMA)
    assert [c.valid for c in found.columns[-2:]] == [0, 0]
    assert not found.bins.compared[-2:].any()
