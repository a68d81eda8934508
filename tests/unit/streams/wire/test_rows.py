"""One JSON row: by the type of its schema where it fits, tolerantly where it does not."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec.structs import astuple

from redistill.streams.errors import WireError
from redistill.streams.wire.block import Feature, Schema
from redistill.streams.wire.faults import Faults
from redistill.streams.wire.rows import ANY, Plan, lenient, plan_of

NUMBERS = Schema(features=(Feature(name="a"), Feature(name="b")))
MIXED = Schema(features=(Feature(name="c", kind="category", values=("x",)), Feature(name="n")))
ROW: dict[str, Any] = {
    "id": "1", "model": "m", "version": "7", "served_at": "2026-01-01T00:00:00Z",
    "prediction": "yes",
}  # fmt: skip


def data(**changes: Any) -> bytes:
    body = {k: v for k, v in (ROW | changes).items() if v is not ...}
    return json.dumps(body).encode()


def test_row_that_fits_its_schema_is_read_in_one_step() -> None:
    row = plan_of(NUMBERS).decode(data(features={"b": 2, "a": 1.5}, scores=[0.5], sample_rate=0.25))
    assert (row.id, row.model, row.version, row.prediction) == ("1", "m", "7", "yes")
    assert astuple(row.features) == (1.5, 2.0)
    assert (row.scores, row.sample_rate, row.latency_ms, row.segment) == ([0.5], 0.25, None, None)


def test_numbers_come_before_categories_in_a_rows_features() -> None:
    plan = plan_of(MIXED)
    row = plan.decode(data(features={"c": "x", "n": True}))
    assert astuple(row.features) == (True, "x")
    assert (plan.names, plan.numeric_at, plan.category_at) == (("c", "n"), [1], [0])
    assert not plan.packs


@pytest.mark.parametrize(
    "change",
    [
        {"features": {"a": "1"}},
        {"features": {"a": 1, "stray": 2}},
        {"features": [1, 2]},
        {"id": ""},
        {"id": ...},
        {"prediction": None},
        {"inputs": {"t": 1}},
    ],
)
def test_row_that_does_not_fit_is_left_to_the_tolerant_way(change: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        plan_of(NUMBERS).decode(data(**change))


def test_names_that_are_expected_are_no_reason_to_be_tolerant() -> None:
    plan = plan_of(NUMBERS, ("stray",))
    row = plan.decode(data(features={"a": 1, "stray": {"any": "thing"}}))
    assert row.features.f0 == 1
    assert not plan.packs
    assert plan_of(NUMBERS, ("stray",)) is plan, "it is made once"


def test_features_are_packed_while_all_are_numbers() -> None:
    plan = plan_of(NUMBERS)
    given = [plan.features_type(1.0, 2.0), plan.features_type(3.0, True)]
    packed = plan.settled(given)
    assert np.frombuffer(b"".join(packed)).tolist() == [1, 2, 3, 1]
    missing = [plan.features_type(1.0, None), None]
    assert plan.settled(missing) is missing
    np.testing.assert_array_equal(np.frombuffer(plan.packed(missing[0])), [1, np.nan])
    np.testing.assert_array_equal(np.frombuffer(plan.packed(None)), [np.nan, np.nan])
    mixed = plan_of(MIXED)
    words = [mixed.features_type(1.0, "x")]
    assert mixed.settled(words) is words


def tolerant(plan: Any, **changes: Any) -> tuple[Any, Faults]:
    faults = Faults()
    return plan.tolerant(lenient(data(**changes)), faults), faults


def test_tolerant_row_keeps_what_is_right_and_counts_the_rest() -> None:
    features = {"a": "1", "b": 10**400, "stray": 1}
    row, faults = tolerant(
        plan_of(NUMBERS), features=features, scores="high", segment=[1], latency_ms="slow",
        sample_rate="all",
    )  # fmt: skip
    assert astuple(row.features) == (None, float("inf"))
    assert (row.scores, row.segment, row.latency_ms, row.sample_rate) == (None, None, None, 1.0)
    assert faults.wrong == {"a": 1}
    assert faults.unknown_features == {"stray": 1}
    assert faults.invalid == {"scores": 1, "segment": 1, "latency_ms": 1, "sample_rate": 1}


def test_flags_are_values_of_numbers_and_of_categories() -> None:
    row, faults = tolerant(plan_of(MIXED), features={"c": True, "n": False, "x": 1})
    assert astuple(row.features) == (False, True)
    assert faults.wrong == {}


def test_features_of_a_model_that_nobody_knows_stay_as_they_are() -> None:
    row, faults = tolerant(ANY, features={"odd": [1], "b": 2})
    assert row.features == {"odd": [1], "b": 2}
    assert faults.wrong == {}
    assert ANY.decode(data(features={"odd": [1]})).features == {"odd": [1]}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"features": [1]}, "invalid_field"),
        ({"inputs": {"t": [1]}, "features": None}, "invalid_field"),
        ({"prediction": float("nan")}, "invalid_field"),
        ({"prediction": None}, "invalid_field"),
        ({"id": ...}, "missing_field"),
        ({"version": "v" * 81}, "invalid_field"),
        ({"served_at": 3}, "invalid_field"),
    ],
)
def test_row_whose_own_fields_are_broken_is_dead(change: dict[str, Any], code: str) -> None:
    with pytest.raises(WireError) as caught:
        tolerant(plan_of(NUMBERS), **change)
    assert caught.value.code == code


def test_tensors_beside_features_are_left_out() -> None:
    row, _ = tolerant(plan_of(NUMBERS), inputs={"t": 1}, features={"a": 1})
    assert row.features.f0 == 1


def test_lenient_reads_what_python_writes() -> None:
    assert lenient(b'{"a": NaN, "b": -Infinity}')["b"] == float("-inf")
    for bad in (b"", b"{", b"[1]", b"3", b"\xff", b'{"a": "\\ud800"}', b'{"x":' * 100_000):
        with pytest.raises(WireError) as caught:
            lenient(bad)
        assert caught.value.code == "malformed"


def test_plans_of_equal_schemas_are_one() -> None:
    again = Schema(features=(Feature(name="a"), Feature(name="b")))
    assert plan_of(again) is plan_of(NUMBERS)
    assert isinstance(plan_of(again), Plan)
