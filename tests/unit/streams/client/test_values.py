"""The caller's values on their way to the wire: which column they fit, and what JSON makes of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pytest

from redistill.streams.client.values import (
    ENCODER,
    answer,
    answers,
    are_numbers,
    inexact,
    json_value,
    kind_of,
    minority,
    plain,
    unanswered,
)

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ([1, 2.5, None, np.float32(1), Decimal("1.5")], "number"),
        (["a", np.str_("b"), None], "words"),
        ([True, np.bool_(False), None], "flags"),
        ([1, "a"], None),
        ([1, True], None),
        ([b"a"], None),
        ([object()], None),
    ],
)
def test_a_column_holds_one_kind(column: Sequence[Any], kind: str | None) -> None:
    assert kind_of(column) == kind
    assert are_numbers(column) == (kind == "number")


def test_values_of_a_rarer_kind_stand_out() -> None:
    assert minority([1, 2, "a", None, True, [1]]) == [2, 4, 5]


@pytest.mark.parametrize(
    ("values", "odd"),
    [
        ([1, 2**24, 2.0**24 + 0.5, NAN, INF], False),
        ([2**24 + 2], True),
        ([143349558619.0, NAN], True),
        ([16777217.5], False),
        ([2**53 + 1], True),
        ([1e30], True),
    ],
)
def test_whole_numbers_that_float32_may_change_are_found(values: list[float], odd: bool) -> None:
    wide = np.array([np.ones(len(values)), values])
    assert inexact(wide) == ([1] if odd else [])


@pytest.mark.parametrize(
    ("value", "made"),
    [
        (Decimal("1.50"), 1.5),
        (Decimal("12345678901234567890"), 12345678901234567890),
        (Decimal("1e400"), INF),
        (Decimal("sNaN"), None),
        (np.float32(0.1), 0.1),
        (np.array([1.5, 2.0]), [1.5, 2.0]),
        ({"a": 1}, {"a": 1}),
        (object(), {}),
        (b"\xff", {}),
    ],
)
def test_json_has_one_form_of_each(value: Any, made: Any) -> None:
    read = msgspec.json.decode(ENCODER.encode(json_value(value)).replace(b"1e999", b'"inf"'))
    assert read == ("inf" if made == INF else made)


def test_infinity_is_no_number_to_any_reader_and_no_missing_value() -> None:
    assert ENCODER.encode([json_value(v) for v in (INF, -INF, NAN)]) == b"[1e999,-1e999,null]"


def test_predictions_are_numbers_until_one_is_not() -> None:
    assert answers([1.0, 2.0]).tolist() == [1.0, 2.0]
    assert answers([1, np.int64(2)]).tolist() == [1.0, 2.0]
    assert answers([True, 2, 2.5, "a"]) == ["true", "2", "2.5", "a"]
    assert answers([2**53 + 1, 1]) == ["9007199254740993", "1"]
    assert (answer(np.bool_(False)), answer(7), plain(np.array(7))) == ("false", 7, 7)


@pytest.mark.parametrize(
    ("prediction", "why"),
    [
        ("a", None),
        (1.5, None),
        (1e20, None),
        (NAN, "missing|NaN"),
        (INF, "infinite"),
        ([1], "is a list"),
    ],
)
def test_a_prediction_is_a_class_or_a_number(prediction: Any, why: str | None) -> None:
    found = unanswered(prediction)
    assert (found is None) == (why is None)
    assert why is None or any(word in (found or "") for word in why.split("|"))
