"""Values from the wire as columns: one set of rules, whatever encoding they came in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from redistill.streams.wire.block import Feature
from redistill.streams.wire.columns import (
    MAX_UNSEEN,
    MAX_VALUES,
    REST,
    Category,
    answer_text,
    class_codes,
    clean,
    finite,
    infer_schema,
    printable,
    rates,
    times,
)

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (1, "1"),
        (1.0, "1"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (2**53 + 1, "9007199254740993"),
        (1e300, "1e+300"),
    ],
)
def test_a_prediction_that_is_no_string_has_one_name(value: Any, text: str) -> None:
    assert answer_text(value) == text
    assert class_codes([value], ()).values == (text,)


def test_classes_are_found_as_they_stand_then_by_value() -> None:
    assert class_codes(["true", True, "True", 0], ("False", "True")).codes.tolist() == [1, 1, 1, 0]
    assert class_codes(["01", 1, "1.0"], ("01", "1")).codes.tolist() == [0, 1, 2]


def test_infinite_features_become_missing_and_are_counted_by_name() -> None:
    features = np.array([[1, INF], [-INF, NAN], [2, -INF]], np.float32)
    wrong = {"b": 1}
    clean(features, ["a", "b"], wrong)
    np.testing.assert_array_equal(features, np.array([[1, NAN], [NAN, NAN], [2, NAN]], np.float32))
    assert wrong == {"a": 1, "b": 3}


def test_infinities_of_a_field_are_counted_once_a_row() -> None:
    invalid: dict[str, int] = {}
    values = finite(np.array([[INF, 1e300], [1, 2]]), "scores", invalid)
    np.testing.assert_array_equal(values, np.array([[NAN, NAN], [1, 2]], np.float32))
    assert invalid == {"scores": 1}
    assert finite(np.array([NAN, INF]), "latency_ms", invalid) is None
    assert invalid == {"scores": 1, "latency_ms": 1}


def test_rates_outside_of_a_share_are_taken_as_one() -> None:
    invalid: dict[str, int] = {}
    shares = rates(np.array([0.5, 0, 1.5, -1, NAN, 1]), invalid)
    assert shares is not None
    assert shares.tolist() == [0.5, 1, 1, 1, 1, 1]
    assert invalid == {"sample_rate": 3}, "a missing one is nothing wrong"
    assert rates(np.array([1.0, 2.0]), {}) is None
    assert rates(np.array([0.5, NAN]), nothing := {}) is not None
    assert nothing == {}


def test_names_are_cut_and_hold_no_nul() -> None:
    assert printable("a\0" * 60) == "a\ufffd" * 40


def test_category_numbers_declared_values_and_counts_others() -> None:
    unseen: dict[str, dict[str, int]] = {}
    category = Category(Feature(name="c", kind="category", values=("a", "2")))
    np.testing.assert_array_equal(category.encode(["2", "a", None], unseen), [1, 0, NAN])
    assert unseen == {}
    np.testing.assert_array_equal(
        category.encode(["a", 2, 2.0, "MARS", NAN, 7], unseen), [0, 1, 1, -1, NAN, -1]
    )
    assert unseen == {"c": {"MARS": 1, "7": 1}}
    assert category.encode_many("VENUS", 5, unseen) == -1
    assert category.encode_many("a", 5, unseen) == 0
    assert unseen["c"]["VENUS"] == 5


def test_unseen_values_are_named_up_to_a_limit() -> None:
    unseen: dict[str, dict[str, int]] = {}
    category = Category(Feature(name="c", kind="category"))
    for i in range(MAX_UNSEEN + 5):
        category.saw(f"v{i}", 1, unseen)
    category.saw("v0", 1, unseen)
    assert (len(unseen["c"]), unseen["c"][REST], unseen["c"]["v0"]) == (MAX_UNSEEN + 1, 5, 2)


def test_declared_classes_come_first_and_others_follow() -> None:
    codes = class_codes(["b", "a"], ("a", "b"))
    assert (codes.codes.tolist(), codes.values) == ([1, 0], ("a", "b"))
    codes = class_codes(["x\0", 1.0, "a", "x\0"], ("a", "b"))
    assert (codes.codes.tolist(), codes.values) == ([2, 3, 0, 2], ("a", "b", "x\ufffd", "1"))


AT = datetime(2026, 2, 28, 23, 59, 59, 123456, tzinfo=UTC)
AT_US = (AT - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@pytest.mark.parametrize("spec", ["seconds", "milliseconds", "microseconds"])
def test_times_of_one_form_are_read_together(spec: str) -> None:
    moments = [AT + timedelta(days=d) for d in range(-800, 800, 7)]
    texts = [m.isoformat(timespec=spec).replace("+00:00", "Z") for m in moments]
    read, wrong = times(texts)
    assert wrong == {}
    assert read.tolist() == [
        (datetime.fromisoformat(t) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        for t in texts
    ]


@pytest.mark.parametrize("n", [1, 3])
def test_times_of_one_day_are_read_together(n: int) -> None:
    read, wrong = times([AT.isoformat().replace("+00:00", "Z")] * n)
    assert (read.tolist(), wrong) == ([AT_US] * n, {})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2026-02-30T00:00:00Z", "no RFC 3339"),
        ("2026-02-28T24:00:01Z", "no RFC 3339"),
        ("2026-02-28T23:59:60Z", "no RFC 3339"),
        ("2026/02/28T00:00:00Z", "no RFC 3339"),
        ("2026-02-28T00:00:0:Z", "no RFC 3339"),
        ("", "no RFC 3339"),
        ("2026-02-28T00:00:00", "no time zone"),
    ],
)
def test_one_wrong_time_leaves_the_others_right(text: str, why: str) -> None:
    good = AT.isoformat().replace("+00:00", "Z")
    read, wrong = times([good, text, good])
    assert read.tolist() == [AT_US, 0, AT_US]
    assert set(wrong) == {1}
    assert why in wrong[1]


def test_no_times_are_no_times() -> None:
    read, wrong = times([])
    assert (read.shape, wrong) == ((0,), {})


def test_columns_are_inferred_by_what_most_values_are() -> None:
    rows = [{"n": 1, "mixed": "a"}, {"n": None, "mixed": "b", "c": "x"}, {"mixed": 3, "c": None}]
    schema = infer_schema(rows)
    assert [(f.name, f.kind, f.values) for f in schema.features] == [
        ("c", "category", ("x",)), ("mixed", "category", ("a", "b")), ("n", "float", ()),
    ]  # fmt: skip
    many = infer_schema([{"c": f"{i:03d}"} for i in range(MAX_VALUES + 9)])
    assert len(many.features[0].values) == MAX_VALUES
    assert infer_schema([]).features == ()
