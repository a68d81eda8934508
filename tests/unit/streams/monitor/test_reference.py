"""Profiles: what is learned from reference rows, and that it can be stored."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest
from monitor_blocks import REGION, SCHEMA, SHARE, block, features
from msgspec import structs

from redistill.streams.errors import StateError
from redistill.streams.monitor.counts import columns, count
from redistill.streams.monitor.distance import distances
from redistill.streams.monitor.drifted_features import drifted_features
from redistill.streams.monitor.input_profile import Profile
from redistill.streams.monitor.reference import build_profile
from redistill.streams.wire.block import Codes

REFERENCE = block(features(20_000, 0))
PROFILE = build_profile(REFERENCE, SCHEMA)


def counted(x: np.ndarray):  # type: ignore[no-untyped-def]
    values = columns(block(x, 1), SCHEMA.names, PROFILE.classes)
    return count(values, PROFILE.layout)


def test_profile_survives_its_bytes() -> None:
    again = Profile.from_bytes(PROFILE.to_bytes())
    assert again.columns == PROFILE.columns
    assert again.schema == SCHEMA
    assert again.digest == PROFILE.digest
    assert len(PROFILE.to_bytes()) < 20_000


def test_profile_refuses_newer_and_broken_bytes() -> None:
    import zlib

    plain = msgspec.msgpack.decode(zlib.decompress(PROFILE.to_bytes()))
    newer = zlib.compress(msgspec.msgpack.encode({**plain, "format": 99}))
    with pytest.raises(StateError, match="format 99"):
        Profile.from_bytes(newer)
    with pytest.raises(StateError, match="cannot be read"):
        Profile.from_bytes(b"nothing")


def test_profile_too_large_for_sql_is_refused_with_what_to_do() -> None:
    rng = np.random.default_rng(0)
    big = structs.replace(
        PROFILE.columns[0], edges=tuple(rng.random(200_000).tolist()), below=tuple(range(200_000))
    )
    wide = Profile(schema=SCHEMA, classes=("no", "yes"), rows=1, columns=(big, *PROFILE.columns))
    with pytest.raises(StateError, match="declare fewer features"):
        wide.to_bytes()


def test_counts_below_edges_are_those_of_a_plain_comparison() -> None:
    x = features(700, 4)
    x[::7, 0] = np.nan
    mine = counted(x)
    for j in (0, 3, REGION, SHARE):
        own = slice(PROFILE.layout.offsets[j], PROFILE.layout.offsets[j + 1])
        direct = [(x[:, j] < e).sum() for e in PROFILE.layout.edges[j]]
        assert mine.below[own].tolist() == direct
    assert mine.valid[0] == 600
    assert mine.total[1] == pytest.approx(x[:, 1].astype(float).sum(), rel=1e-12)


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


def test_distances_agree_with_their_definitions() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(1, 100, 7).astype(float), rng.integers(1, 100, 7).astype(float)
    c = rng.integers(1, 100, 3).astype(float)
    d = distances(
        np.concatenate([c, a]), np.concatenate([c, b]), np.array([0, 3]), np.array([3, 7])
    )
    p, q = (a + 0.5) / (a.sum() + 3.5), (b + 0.5) / (b.sum() + 3.5)
    assert d.psi[1] == pytest.approx(((p - q) * np.log(p / q)).sum())
    middle = (p + q) / 2
    js = (p * np.log(p / middle)).sum() / 2 + (q * np.log(q / middle)).sum() / 2
    assert d.js[1] == pytest.approx(js)
    assert d.ks[1] == pytest.approx(np.abs(np.cumsum(p) - np.cumsum(q)).max())
    assert (d.psi[0], d.ks[0]) == (0, 0)


def test_noise_floor_is_exceeded_by_about_five_percent_of_unchanged_windows() -> None:
    above = [
        [m.psi > m.floor for m in drifted_features(counted(features(1_000, 100 + i)), PROFILE)]
        for i in range(40)
    ]
    assert 0.01 < np.mean(above) < 0.09


def test_features_that_drifted_come_first_with_their_direction() -> None:
    x = features(2_000, 3)
    x[:, 4] += 1
    x[:, 6] -= 0.5
    ranked = [m.contributor for m in drifted_features(counted(x), PROFILE)]
    assert [(c.column, c.direction) for c in ranked[:2]] == [("x4", "up"), ("x6", "down")]
    assert ranked[0].value > 10 * ranked[0].noise_floor
