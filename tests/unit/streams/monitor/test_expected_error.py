"""Expected errors: fitted to the reference, bounded per slice, stored."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sliced_errors import COLUMNS, World

from redistill.streams.errors import StateError
from redistill.streams.monitor.expected_error import ExpectedError
from redistill.streams.wire.block import Codes


def table_of(n: int = 20_000, seed: int = 0, spread: float = 0.3) -> ExpectedError:
    rng = np.random.default_rng(seed)
    rows = World.drawn(rng, 0.1, spread).rows(rng, n)
    return ExpectedError.fit(rows.wrong, rows.codes(np.arange(n)), rows.confidence)


def test_rows_of_the_same_world_have_the_errors_that_are_expected_of_them() -> None:
    rng = np.random.default_rng(0)
    world = World.drawn(rng, 0.1)
    before, now = world.rows(rng, 20_000), world.rows(rng, 200_000)
    every = np.arange(20_000)
    table = ExpectedError.fit(before.wrong, before.codes(every), before.confidence)
    mu = table.of(now.codes(np.arange(200_000)), now.confidence, rows=200_000)
    assert abs(mu.mean() - now.wrong.mean()) < 0.004
    for low, high in ((0, 0.05), (0.05, 0.1), (0.1, 0.2), (0.2, 0.5)):  # calibrated, band by band
        band = (mu >= low) & (mu < high)
        assert abs(mu[band].mean() - now.wrong[band].mean()) < 0.02


def test_confidence_shows_a_mix_that_moved_where_slices_do_not() -> None:
    rng = np.random.default_rng(1)
    rows = World.drawn(rng, 0.1).rows(rng, 40_000)
    every = np.arange(40_000)
    table = ExpectedError.fit(rows.wrong, rows.codes(every), rows.confidence)
    hard = rows.confidence < 0.75  # half of the rows, which err half again as often
    codes = rows.codes(np.flatnonzero(hard))
    seen = float(rows.wrong[hard].mean())
    assert abs(table.of(codes, rows.confidence[hard], rows=int(hard.sum())).mean() - seen) < 0.01
    assert abs(table.of(codes, None, rows=int(hard.sum())).mean() - seen) > 0.03


def test_values_that_the_reference_has_not_count_as_the_mean() -> None:
    table = table_of()
    none = {name: Codes.of([None, "never seen"]) for name in COLUMNS}
    mu = table.of(none, np.array([np.nan, np.nan], np.float32), rows=2)
    assert mu.tolist() == [table.mean, table.mean]
    assert (table.tested(none, rows=2) == -1).all()
    assert (table.tested({}, rows=2) == -1).all()


def test_slices_of_few_rows_have_no_test_and_the_fifty_largest_have() -> None:
    rng = np.random.default_rng(2)
    wrong = (rng.random(20_000) < 0.1).astype(int)
    some = Codes(
        np.r_[np.zeros(99), np.ones(100), np.full(19_801, 2)].astype(np.int32), ("a", "b", "c")
    )
    many = Codes(rng.integers(0, 60, 20_000).astype(np.int32), tuple(map(str, range(60))))
    table = ExpectedError.fit(wrong, {"some": some, "many": many})
    assert len(table.slices) == 50
    names = [s.name for s in table.slices]
    assert names[0] == "some=c"
    assert "some=a" not in names
    assert [s.n for s in table.slices] == sorted((s.n for s in table.slices), reverse=True)
    alone = ExpectedError.fit(wrong, {"some": some})
    assert [s.name for s in alone.slices] == ["some=c", "some=b"]
    one = ExpectedError.fit(wrong, {"one": Codes(np.zeros(20_000, np.int32), ("x",))})
    assert one.slices == ()


@pytest.mark.parametrize("rate", [0, 1])
def test_a_reference_of_right_or_of_wrong_answers_only_makes_a_table_that_can_be_read(
    rate: int,
) -> None:
    """All wrong: class names that were mixed up. A table that nobody can read stops the join."""
    region = Codes.of(["EU", "US", None, None] * 500)
    table = ExpectedError.fit(np.full(2_000, rate), {"region": region})
    assert ExpectedError.from_json(table.to_json()) == table
    for s in table.slices:
        assert 0 < s.expected <= s.upper < 1
        assert s.kappa >= 1
    assert len(table.slices) == 2
    part = np.where(region.codes >= 0, rate, 1 - rate)  # one column only
    table = ExpectedError.fit(part, {"region": region})
    assert ExpectedError.from_json(table.to_json()) == table


def test_a_confidence_that_is_no_finite_number_makes_no_edge() -> None:
    region = Codes.of(["EU", "US"] * 1_000)
    wrong = np.tile([0, 1, 0, 0], 500)
    confidence = np.linspace(0.5, 1, 2_000).astype(np.float32)
    confidence[::3], confidence[1::3] = np.inf, -np.inf
    table = ExpectedError.fit(wrong, {"region": region}, confidence)
    assert np.isfinite(table.edges).all()
    assert ExpectedError.from_json(table.to_json()) == table


def test_bounds_hold_and_the_prior_is_worth_fifty_rows_at_most() -> None:
    below = wide = total = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        world = World.drawn(rng, 0.1)
        rows = world.rows(rng, 20_000)
        table = ExpectedError.fit(rows.wrong, rows.codes(np.arange(20_000)), rows.confidence)
        more = world.rows(rng, 100_000)
        for s in table.slices:
            mine = more.slices[s.column] == int(s.value[1:])
            total += 1
            below += s.upper < more.wrong[mine].mean()
            wide += s.upper > s.errors / s.n + 4 * np.sqrt(0.2 / s.n)
    assert below / total < 0.03
    assert wide == 0
    # a column without any spread: 100 rows keep most of their own uncertainty
    small = Codes(np.repeat(np.arange(10), 100).astype(np.int32), tuple("abcdefghij"))
    flat = ExpectedError.fit(np.tile([0] * 9 + [1], 100), {"x": small})
    assert all(s.upper > 0.16 for s in flat.slices)


def test_slices_that_come_in_runs_have_their_own_inflation() -> None:
    rng = np.random.default_rng(3)
    rows = World.drawn(rng, 0.1, 0.0).rows(rng, 20_000, runs=30)
    every = np.arange(20_000)
    table = ExpectedError.fit(rows.wrong, rows.codes(every), rows.confidence)
    large = next(s for s in table.slices if s.column == "half")
    assert large.inflation is not None
    assert large.inflation[-1][1] > 5
    assert all((s.inflation is None) == (s.n < 400) for s in table.slices)
    loose = ExpectedError.fit(rows.wrong, rows.codes(every), rows.confidence, ordered=False)
    assert {s.inflation for s in loose.slices} == {((1.0, 1.0),)}


def test_a_table_is_the_same_after_it_was_stored() -> None:
    table = table_of()
    assert ExpectedError.from_json(table.to_json()) == table
    assert len(table.to_json()) < 20_000
    plain = json.loads(table.to_json())
    with pytest.raises(StateError, match="format 9, this program knows 1: upgrade"):
        ExpectedError.from_json(json.dumps({**plain, "format": 9}))
    with pytest.raises(StateError, match="cannot be read"):
        ExpectedError.from_json("{}")


@pytest.mark.parametrize(
    ("errors", "slices", "why"),
    [
        ([], {}, "at least one labelled"),
        ([0, 2], {}, "0 .right. or 1"),
        ([0, 1], {"r": Codes.of(["a"])}, "'r' is not of 2 rows"),
    ],
)
def test_rows_that_make_no_table_are_refused(
    errors: list[int], slices: dict[str, Codes], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        ExpectedError.fit(np.array(errors), slices)
