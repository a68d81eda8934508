"""Rows of one version become one block, whichever way each of them came."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from redistill.streams.wire.block import Codes, Feature, PredictionBlock, Schema
from redistill.streams.wire.grouped import Group, finish
from redistill.streams.wire.rows import ANY, Plan, Row, plan_of

NUMBERS = Schema(features=(Feature(name="a"), Feature(name="b")), classes=("no", "yes"))
MIXED = Schema(
    features=(Feature(name="c", kind="category", values=("x", "y")), Feature(name="n")),
    slices=("channel",),
)
NAN = np.nan


def row(i: int, **changes: Any) -> Row:
    values: dict[str, Any] = {
        "id": f"r{i}", "model": "m", "version": "7", "served_at": "2026-01-01T00:00:00Z",
        "prediction": "yes",
    }  # fmt: skip
    return Row(**(values | changes))


def group(plan: Plan, *rows: Row, first: int = 0) -> Group:
    made = Group("m", "7")
    made.add(rows, range(first, first + len(rows)), plan.settled([r.features for r in rows]))
    return made


def block(made: Group, schema: Schema) -> PredictionBlock:
    whole, index, dead = finish(made, schema, plan_of(schema))
    assert whole is not None
    assert (index, dead) == (made.index, [])
    return whole


def test_rows_stand_in_order_with_the_index_of_their_record() -> None:
    plan = plan_of(NUMBERS)
    t = plan.features_type
    made = group(plan, row(0, features=t(1, 2)), row(1, features=t(3, 4), prediction="no"), first=5)
    whole = block(made, NUMBERS)
    assert (whole.model, whole.version, list(whole.ids)) == ("m", "7", ["r0", "r1"])
    assert whole.features.tolist() == [[1, 2], [3, 4]]
    assert isinstance(whole.prediction, Codes)
    assert whole.prediction.codes.tolist() == [1, 0]
    assert made.index == [5, 6]
    assert (whole.scores, whole.latency_ms, whole.sample_rate, whole.segments) == (
        None, None, None, {},
    )  # fmt: skip


def test_packed_rows_missing_values_and_tolerant_rows_go_together() -> None:
    plan = plan_of(NUMBERS)
    t = plan.features_type
    made = group(plan, row(0, features=t(1, 2)))
    made.add([row(1)], [1], plan.settled([t(3, None)]))
    made.add([row(2)], [2], [None])
    np.testing.assert_array_equal(block(made, NUMBERS).features, [[1, 2], [3, NAN], [NAN, NAN]])


def test_categories_are_numbered_and_infinities_counted() -> None:
    plan = plan_of(MIXED)
    t = plan.features_type  # numbers first
    whole = block(
        group(plan, row(0, features=t(1e300, "y")), row(1, features=t(2, "MARS")), row(2)), MIXED
    )
    np.testing.assert_array_equal(whole.features, [[1, NAN], [-1, 2], [NAN, NAN]])
    assert whole.wrong_type == {"n": 1}
    assert whole.unseen == {"c": {"MARS": 1}}


def test_expected_extras_are_counted_where_they_came() -> None:
    plan = plan_of(NUMBERS, ("stray", "never"))
    t = plan.features_type
    made = group(plan, row(0, features=t(1, 2, b"3")), row(1, features=t(1, 2)))
    whole, _, _ = finish(made, NUMBERS, plan)
    assert whole is not None
    assert whole.unknown_features == {"stray": 1}
    assert whole.features.tolist() == [[1, 2], [1, 2]]


def test_scores_of_one_width_are_read_at_once() -> None:
    scores = [[0.25, 0.75], [0.5, float("inf")]]
    whole = block(
        group(plan_of(NUMBERS), *(row(i, scores=s) for i, s in enumerate(scores))), NUMBERS
    )
    np.testing.assert_array_equal(whole.scores, [[0.25, 0.75], [0.5, NAN]])
    assert whole.invalid == {"scores": 1}
    wider = [row(0, scores=[1.0] * 3), row(1, scores=[1.0] * 3)]
    wide = block(group(plan_of(NUMBERS), *wider), NUMBERS)
    assert wide.scores is None
    assert wide.invalid == {"scores": 2}


@pytest.mark.parametrize("mixed", [False, True], ids=["alone", "with others"])
def test_one_score_of_two_classes_is_the_probability_of_the_second(mixed: bool) -> None:
    scores = [[0.25], [1.0], [-0.5], [float("inf")]]
    rest: list[Any] = [[0.5, 0.5], None] if mixed else []
    rows = [row(i, scores=s) for i, s in enumerate([*scores, *rest])]
    read = block(group(plan_of(NUMBERS), *rows), NUMBERS)
    assert read.scores is not None
    np.testing.assert_array_equal(
        read.scores[:4], [[0.75, 0.25], [0.0, 1.0], [NAN, NAN], [NAN, NAN]]
    )
    assert read.invalid == {"scores": 2}


def test_scores_of_another_width_are_missing_and_counted() -> None:
    scores = [[0.25, 0.75], None, [1.0, 0.0, 0.0], [float("inf"), 0.5]]
    whole = block(
        group(plan_of(NUMBERS), *(row(i, scores=s) for i, s in enumerate(scores))), NUMBERS
    )
    np.testing.assert_array_equal(whole.scores, [[0.25, 0.75], [NAN, NAN], [NAN, NAN], [NAN, 0.5]])
    assert whole.invalid == {"scores": 2}


def test_width_of_scores_is_the_first_rows_where_no_classes_are_declared() -> None:
    scores = [None, [0.1, 0.2, 0.7], [0.5, 0.5]]
    whole = block(group(plan_of(MIXED), *(row(i, scores=s) for i, s in enumerate(scores))), MIXED)
    assert whole.scores is not None
    assert whole.scores.shape == (3, 3)
    assert whole.invalid == {"scores": 1}


def test_segments_are_those_of_the_slices_else_all() -> None:
    rows = [
        row(0, segment={"channel": "web", "x": "1"}),
        row(1),
        row(2, segment={"channel": "app"}),
    ]
    whole = block(group(plan_of(MIXED), *rows), MIXED)
    assert list(whole.segments) == ["channel"]
    assert whole.segments["channel"].strings() == ["web", None, "app"]
    assert set(block(group(plan_of(NUMBERS), *rows), NUMBERS).segments) == {"channel", "x"}


def test_numbers_are_predictions_where_there_are_no_classes() -> None:
    rows = [row(0, prediction=1.5), row(1, prediction=2)]
    assert np.asarray(block(group(plan_of(MIXED), *rows), MIXED).prediction).tolist() == [1.5, 2]
    rows = [row(0, prediction=1.5), row(1, prediction="a")]
    codes = block(group(plan_of(MIXED), *rows), MIXED).prediction
    assert isinstance(codes, Codes)
    assert codes.strings() == ["1.5", "a"]


def test_latency_and_rate_are_columns_where_any_row_has_one() -> None:
    rows = [row(0, latency_ms=1.5, sample_rate=0.5), row(1), row(2, sample_rate=7.0)]
    whole = block(group(plan_of(NUMBERS), *rows), NUMBERS)
    np.testing.assert_array_equal(whole.latency_ms, [1.5, NAN, NAN])
    np.testing.assert_array_equal(whole.sample_rate, [0.5, 1, 1])
    assert whole.invalid == {"sample_rate": 1}


def test_rows_without_a_time_or_with_nul_in_their_id_are_dead() -> None:
    plan = plan_of(NUMBERS)
    t = plan.features_type
    made = group(
        plan,
        row(0, features=t(1, 2)),
        row(1, served_at="yesterday", features=t(3, 4)),
        row(2, features=t(5, 6)),
        row(3, id="a\0b", features=t(7, 8)),
        first=10,
    )
    whole, index, dead = finish(made, NUMBERS, plan)
    assert whole is not None
    assert (list(whole.ids), index) == (["r0", "r2"], [10, 12])
    assert whole.features.tolist() == [[1, 2], [5, 6]]
    assert [(i, why.code) for i, why in dead] == [(11, "invalid_field"), (13, "invalid_field")]


def test_group_of_dead_rows_only_is_no_block() -> None:
    plan = plan_of(NUMBERS)
    whole, index, dead = finish(group(plan, row(0, served_at="?")), NUMBERS, plan)
    assert (whole, index, len(dead)) == (None, [], 1)


@pytest.mark.parametrize("n", [1, 3])
def test_faults_of_a_group_are_those_of_its_block(n: int) -> None:
    made = group(plan_of(NUMBERS), *(row(i) for i in range(n)))
    made.faults.unknown("x", 2)
    made.faults.wrong["a"] = 1
    whole = block(made, NUMBERS)
    assert (whole.unknown_features, whole.wrong_type) == ({"x": 2}, {"a": 1})


@pytest.mark.parametrize(
    "schema", [NUMBERS, MIXED, None], ids=["classes", "numbers", "unregistered"]
)
def test_whole_number_beyond_any_float_is_no_infinite_prediction(schema: Schema | None) -> None:
    plan = ANY if schema is None else plan_of(schema)
    made = Group("m", "7")
    rows = [row(0, prediction=3), row(1, prediction=10**400), row(2, prediction=2**70)]
    made.add(rows, range(3), [None] * 3)
    whole, index, dead = finish(made, schema, plan)
    assert whole is not None
    assert (list(whole.ids), index) == (["r0", "r2"], [0, 2])
    assert [(i, "beyond what float64 holds" in why.reason) for i, why in dead] == [(1, True)]
