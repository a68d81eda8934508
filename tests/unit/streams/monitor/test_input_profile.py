"""Input profiles: what is stored under which name, and what is worked out from it."""

from __future__ import annotations

import dataclasses
import zlib

import msgspec
import numpy as np
import pytest
from monitor_blocks import REGION, SCHEMA, SHARE, block, features
from msgspec import structs

from redistill.streams.errors import StateError
from redistill.streams.monitor.input_profile import Column, Profile, between
from redistill.streams.monitor.reference import build_profile
from redistill.streams.wire.block import Schema

PROFILE = build_profile(block(features(20_000, 0)), SCHEMA)


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


def test_a_profile_is_stored_under_the_names_that_it_always_had() -> None:
    plain = msgspec.msgpack.decode(zlib.decompress(PROFILE.to_bytes()))
    assert list(plain) == ["format", "schema", "classes", "rows", "columns", "provisional"]
    assert plain["format"] == 1
    assert list(plain["columns"][0])[-3:] == ["minimum", "maximum", "habits"]
    assert list(plain["columns"][0]["habits"]) == [
        "missing",
        "unseen",
        "scale_low",
        "scale_high",
        "shift",
        "jump",
        "outside",
        "constant",
        "distance",
    ]


def test_counts_go_on_where_groups_of_people_are_declared() -> None:
    told = dataclasses.replace(PROFILE, schema=dataclasses.replace(SCHEMA, groups=("region",)))
    assert told.digest == PROFILE.digest


def test_the_digest_names_all_that_a_profile_holds() -> None:
    changed = (structs.replace(PROFILE.columns[0], top=0.5), *PROFILE.columns[1:])
    again = dataclasses.replace(PROFILE, columns=changed)
    assert len(PROFILE.digest) == 16
    assert again.digest != PROFILE.digest


def column(**changes: object) -> Column:
    plain: dict[str, object] = {
        "name": "x",
        "role": "number",
        "edges": (0.0, 1.0, 2.0, 3.0),
        "below": (1, 4, 6, 9),
        "coarse": (1, 3),
        "valid": 10,
        "missing": 0,
        "distinct": 10,
        "top": 0.1,
        **changes,
    }
    return Column(**plain)  # type: ignore[arg-type]


def test_intervals_between_edges_are_counted_per_column() -> None:
    below, valid = np.array([1, 4, 2]), np.array([9, 5])
    assert between(below, valid, np.array([0, 2, 3])).tolist() == [1, 3, 5, 2, 3]


def test_bins_of_a_number_lie_between_its_coarse_edges_and_those_of_a_category_are_its_groups() -> (
    None
):
    category = column(role="category", edges=(-0.5, 0.5, 1.5), below=(0, 5, 8), groups=(0, 1, 0, 0))
    profile = Profile(schema=Schema(features=()), classes=(), rows=10, columns=(column(), category))
    bins = profile.bins
    assert bins.source.tolist() == [0, 0, 1, 1, 2, 3, 4, 3, 3]
    assert (bins.starts.tolist(), bins.sizes.tolist()) == ([0, 3], [3, 2])
    assert bins.reference.tolist() == [4, 5, 1, 5, 5]
    assert bins.compared.tolist() == [True, True]


@pytest.mark.parametrize(
    "changes", [{"role": "clock"}, {"role": "identifier"}, {"valid": 0}, {"coarse": ()}]
)
def test_columns_without_a_distribution_are_not_compared(changes: dict[str, object]) -> None:
    profile = Profile(
        schema=Schema(features=()), classes=(), rows=10, columns=(column(**changes), column())
    )
    assert profile.bins.compared.tolist() == [False, True]


def test_a_column_is_bounded_where_both_bounds_are_declared() -> None:
    assert PROFILE.columns[SHARE].bounded
    assert not column(minimum=0.0).bounded
    assert PROFILE.number_columns == (*range(8), SHARE, 11)
    assert REGION not in PROFILE.number_columns
