from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from redistill.streams.monitor.input_profile import Profile
from redistill.streams.monitor.reference import build_profile
from redistill.streams.monitor.row_checks import RowCheck, check_rows
from redistill.streams.wire.block import Codes, Feature, PredictionBlock, Schema

FEATURES = (
    Feature(name="income"),
    Feature(name="age", minimum=0.0),
    Feature(name="region", kind="category", values=("EU", "US", "APAC")),
    Feature(name="share", minimum=0.0, maximum=1.0),
)


def rows(n: int, *, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack(
        [
            rng.lognormal(3.0, 0.5, n), rng.normal(45.0, 9.0, n).clip(0),
            rng.choice(3, n, p=[0.6, 0.3, 0.1]), rng.uniform(0.0, 1.0, n),
        ]
    ).astype(np.float32)  # fmt: skip


@pytest.fixture(scope="module")
def profile() -> Profile:
    x = rows(3_000, seed=0)
    n = x.shape[1]
    block = PredictionBlock(
        model="m", version="1", ids=[str(i) for i in range(n)], served_at=np.arange(n),
        feature_names=tuple(f.name for f in FEATURES), features=x.T,
        prediction=Codes(np.zeros(n, np.int32), ("no",)), scores=None,
    )  # fmt: skip
    return build_profile(block, Schema(features=FEATURES, classes=("no", "yes")))


def test_unchanged_rows_have_a_contributor_no_more_often_than_promised(profile: Profile) -> None:
    odd = [check_rows(rows(600, seed=k), profile) for k in range(1, 201)]
    assert sum(bool(found) for found in odd) <= 20  # 5% are promised


def changed(column: int, how: Any) -> np.ndarray:
    x = rows(600, seed=2)
    x[column] = how(x[column])
    return x


@pytest.mark.parametrize(
    ("column", "how", "rule", "value"),
    [
        (0, lambda c: np.where(np.arange(600) % 2, np.nan, c), "missing", 0.5),
        (1, lambda c: np.where(np.arange(600) % 5 == 0, -1.0, c), "out_of_range", 0.2),
        (2, lambda c: np.where(np.arange(600) % 4 == 0, -1.0, c), "unseen_category", 0.25),
        (0, lambda c: np.full(600, 7.0), "constant", 1.0),
        (3, lambda c: c**3, "drifted", None),
    ],
)
def test_broken_rules_are_told_with_their_share(
    profile: Profile, column: int, how: Any, rule: str, value: float | None
) -> None:
    (found,) = check_rows(changed(column, how), profile)
    assert (found.column, found.rule) == (FEATURES[column].name, rule)
    assert found.contributes
    assert found.slope is None
    if value is not None:
        assert found.value == pytest.approx(value, abs=0.01)


@pytest.mark.parametrize(
    ("how", "rule", "slope", "intercept"),
    [
        (lambda c: c * 1000.0, "unit_change", 1000.0, 0.0),
        (lambda c: c * 2.54, "rescaled", 2.54, 0.0),
        (lambda c: c / 2.2, "rescaled", 1 / 2.2, 0.0),
        (lambda c: c * 1.8 + 32.0, "unit_change", 1.8, 32.0),
        (lambda c: c + 12.0, "rescaled", 1.0, 12.0),
    ],
)
def test_another_scale_or_offset_is_told_with_its_line(
    profile: Profile, how: Any, rule: str, slope: float, intercept: float
) -> None:
    (found,) = check_rows(changed(0, how), profile)
    assert (found.column, found.rule, found.contributes) == ("income", rule, True)
    assert found.slope == pytest.approx(slope, rel=0.12)
    assert found.intercept == pytest.approx(intercept, abs=0.15 * slope * 20)


def test_unit_of_some_writers_is_told_with_their_share(profile: Profile) -> None:
    some = np.arange(600) % 3 == 0
    x = changed(0, lambda c: np.where(some, c * 1000.0, c))
    (found,) = check_rows(x, profile)
    assert (found.rule, found.contributes) == ("unit_change", True)
    assert found.slope == pytest.approx(1000.0, rel=0.15)
    assert found.share == pytest.approx(1 / 3, abs=0.03)
    assert found.beyond is not None
    assert not ((x[0, some] >= found.beyond[0]) & (x[0, some] <= found.beyond[1])).any()
    # a tail is no unit, and what lies among the usual values cannot be told from them
    tail = changed(0, lambda c: np.where(np.arange(600) % 12 == 0, c * 1000.0, c))
    assert "unit_change" not in {c.rule for c in check_rows(tail, profile)}
    among = changed(0, lambda c: np.where(some, c * 1.5, c))
    assert all(c.beyond is None for c in check_rows(among, profile))


def test_value_that_is_filled_in_is_told_with_its_share(profile: Profile) -> None:
    x = changed(0, lambda c: np.where(np.arange(600) % 5 == 0, 0.0, c))
    (found,) = check_rows(x, profile)
    assert (found.column, found.rule, found.slope, found.intercept) == (
        "income",
        "repeated",
        0.0,
        0.0,
    )
    assert found.value == pytest.approx(0.2, abs=0.01)
    few = changed(0, lambda c: np.where(np.arange(600) % 30 == 0, 0.0, c))
    assert "repeated" not in {c.rule for c in check_rows(few, profile)}
    often = changed(2, lambda c: np.zeros(600))  # a category repeats its values
    assert {c.rule for c in check_rows(often, profile)} == {"drifted"}


def test_column_may_break_several_rules_and_rows_hold_infinities(profile: Profile) -> None:
    x = changed(1, lambda c: np.where(np.arange(600) % 2, np.inf, -5.0))
    assert [(c.column, c.rule) for c in check_rows(x, profile)] == [
        ("age", "missing"), ("age", "out_of_range"), ("age", "constant"),
    ]  # fmt: skip


def test_few_rows_are_not_checked(profile: Profile) -> None:
    assert check_rows(changed(0, lambda c: c * 1000.0)[:, :99], profile) == []
    found: list[RowCheck] = check_rows(changed(0, lambda c: c * 1000.0)[:, :100], profile)
    assert [c.column for c in found] == ["income"]
