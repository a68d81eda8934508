from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from redistill.compress.judge.breakage import BrokenRows, mended, try_breaks
from redistill.compress.plan import ColumnCheck

FEATURES = ("a", "b")


def above(x: np.ndarray) -> np.ndarray:
    """A model that looks at ``a`` only; a missing value is answered with 0."""
    return (np.nan_to_num(x[:, 0], nan=-9.0) > 5.0).astype(np.int64)


def check(column: str, rule: Any, value: float = 1.0, **over: Any) -> ColumnCheck:
    return ColumnCheck(column=column, rule=rule, value=value, **over)


def world(change: Any = None, **over: Any) -> BrokenRows:
    rng = np.random.default_rng(0)
    x, trusted = (rng.normal(5.0, 1.0, (n, 2)).astype(np.float32) for n in (300, 600))
    truth = above(x)
    given: dict[str, Any] = {
        "student": above, "teacher": above, "fresh": x if change is None else change(x.copy()),
        "truth": truth, "trusted": trusted, "trusted_truth": above(trusted),
    }  # fmt: skip
    return BrokenRows(**given | over)


def in_thousands(x: np.ndarray) -> np.ndarray:
    x[:, 0] *= 1000.0
    return x


def test_undone_change_of_unit_gives_back_what_it_cost() -> None:
    found = check("a", "unit_change", slope=1000.0, intercept=0.0)
    (broken,) = try_breaks(world(in_thousands), FEATURES, [found], seed=0)
    assert broken.columns == ("a",)
    for tried in (broken.student, broken.teacher):
        assert tried is not None
        assert tried.costs is not None
        assert tried.regained is not None
        assert tried.costs.value == pytest.approx(50.0, abs=8.0)
        assert tried.regained.low is not None
        assert tried.regained.low > 35.0


def test_only_the_rows_that_are_in_another_unit_are_mended_and_broken() -> None:
    def some(x: np.ndarray) -> np.ndarray:
        x[::2, 0] *= 1000.0
        return x

    given: dict[str, Any] = {"slope": 1000.0, "intercept": 0.0, "share": 0.5, "beyond": (0.0, 10.0)}
    (broken,) = try_breaks(world(some), FEATURES, [check("a", "unit_change", **given)], seed=0)
    assert broken.student.costs is not None
    assert broken.student.regained is not None
    assert broken.student.costs.value == pytest.approx(25.0, abs=6.0)
    assert broken.student.regained.value == pytest.approx(25.0, abs=6.0)
    x = np.array([[5.0, 0.0], [5_000.0, 0.0]], np.float32)
    assert mended(x, FEATURES, broken.checks)[:, 0].tolist() == [5.0, 5.0]


def test_undoing_what_is_no_mistake_costs() -> None:
    found = check("a", "rescaled", slope=1.0, intercept=3.0)

    def risen(x: np.ndarray) -> np.ndarray:
        x[:, 0] += 3.0
        return x

    rows = world(risen, truth=np.ones(300, np.int64))
    (broken,) = try_breaks(rows, FEATURES, [found], seed=0)
    assert broken.student.regained is not None
    assert broken.student.regained.high is not None
    assert broken.student.regained.high < 0.0


@pytest.mark.parametrize(
    ("found", "costs"),
    [
        (check("a", "missing", 1.0), 50.0),
        (check("a", "missing", 0.2), 10.0),
        (check("b", "missing", 1.0), 0.0),
        (check("a", "unseen_category", 0.5), 25.0),
        (check("a", "constant"), 50.0),
        (check("a", "repeated", 0.4, slope=0.0, intercept=0.0), 20.0),
    ],
)
def test_break_is_tried_on_clean_rows(found: ColumnCheck, costs: float) -> None:
    (broken,) = try_breaks(world(), FEATURES, [found], seed=0)
    assert broken.student.regained is None
    assert broken.student.costs is not None
    assert broken.student.costs.value == pytest.approx(costs, abs=6.0)


def test_values_out_of_range_are_those_of_the_fresh_rows() -> None:
    def wild(x: np.ndarray) -> np.ndarray:
        x[::2, 0] = -500.0
        return x

    (broken,) = try_breaks(world(wild), FEATURES, [check("a", "out_of_range", 0.5)], seed=0)
    assert broken.student.costs is not None
    assert broken.student.costs.value == pytest.approx(25.0, abs=6.0)


def test_what_it_was_cannot_be_tried_where_no_value_is_out_of_range() -> None:
    usual = np.full((300, 2), 5.0, np.float32)
    found = check("a", "out_of_range", 0.5)
    (broken,) = try_breaks(world(fresh=usual), FEATURES, [found], seed=0)
    assert broken.student.costs is None


def test_columns_that_help_alone_are_mended_together() -> None:
    def both(x: np.ndarray) -> np.ndarray:
        return x * 1000.0

    def sum_above(x: np.ndarray) -> np.ndarray:
        return (x.sum(axis=1) > 10.0).astype(np.int64)

    rows = world()
    truth = sum_above(rows.fresh)
    rows = BrokenRows(student=sum_above, teacher=None, fresh=both(rows.fresh), truth=truth, trusted=rows.trusted, trusted_truth=sum_above(rows.trusted))  # fmt: skip
    checks = [check(c, "unit_change", slope=1000.0, intercept=0.0) for c in FEATURES]
    alone = try_breaks(rows, FEATURES, checks[:1], seed=0)
    assert len(alone) == 1
    assert alone[0].teacher is None
    several = try_breaks(rows, FEATURES, checks, seed=0)
    assert [b.columns for b in several[:2]] == [("a",), ("b",)]
    for b in several[2:]:
        assert b.columns == FEATURES


def test_drifted_unknown_and_merely_found_columns_are_not_tried() -> None:
    checks = [check("a", "drifted"), check("z", "missing"), check("b", "finding", open=True)]
    assert try_breaks(world(), FEATURES, checks, seed=0) == ()


def test_mending_leaves_other_columns_and_missing_values_alone() -> None:
    x = np.array([[np.nan, 7.0], [34.0, 8.0]], np.float32)
    fahrenheit = check("a", "unit_change", slope=1.8, intercept=32.0)
    out = mended(x, FEATURES, [fahrenheit, check("b", "missing")])
    assert np.isnan(out[0, 0])
    assert out[1, 0] == pytest.approx(2 / 1.8)
    assert out[:, 1].tolist() == [7.0, 8.0]
