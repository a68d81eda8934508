"""Trusted rows: counted once, and set aside to rank without hurting the gates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from compress_rows import context_of, job_of, rows_of, write_table

from redistill.compress import data, trusted_rows
from redistill.compress.rows import Rows


def repeated(rows: Rows, times: int) -> Rows:
    return rows.take(np.tile(np.arange(len(rows)), times))


def of_few_values(n: int, *, seed: int = 0) -> Rows:
    """Ten kinds of rows, one of them half of all; equal rows have either label."""
    rng = np.random.default_rng(seed)
    x = np.zeros((n, 3), np.float32)
    x[:, 0] = rng.choice(10, size=n, p=[0.5, *[0.5 / 9] * 9])
    return rows_of(n, x=x, y=rng.integers(0, 2, n))


@pytest.mark.parametrize("times", [2, 3, 7])
def test_a_table_that_stands_there_several_times_is_counted_once(times: int) -> None:
    rows = rows_of(60)
    found, left_out = trusted_rows.distinct(repeated(rows, times))
    assert left_out == 60 * (times - 1)
    np.testing.assert_array_equal(found.x, rows.x)


def test_a_few_rows_that_stand_there_again_are_counted_once() -> None:
    rows = rows_of(60)
    twice = rows.take(np.append(np.arange(60), [3, 3, 5]))
    found, left_out = trusted_rows.distinct(twice)
    assert (len(found), left_out) == (60, 3)


def test_a_row_with_another_label_is_another_row() -> None:
    rows = rows_of(60)
    both = rows.take(np.append(np.arange(60), [3]))
    both.y[60] = 1 - both.y[3]
    assert trusted_rows.distinct(both)[1] == 0


def test_rows_that_repeat_by_nature_stay_unless_the_table_repeats() -> None:
    rows = of_few_values(500)
    assert trusted_rows.distinct(rows)[1] == 0
    assert trusted_rows.distinct(repeated(rows, 2))[1] == 500


def test_rows_that_are_all_equal_stay_and_judge() -> None:
    rows = rows_of(400, x=np.zeros((400, 3), np.float32), y=np.zeros(400, np.int64))
    assert trusted_rows.distinct(rows)[1] == 0
    ranks = trusted_rows.ranking(rows)
    assert 40 < ranks.sum() < 130


def test_two_kinds_of_rows_in_even_numbers_are_no_table_that_repeats() -> None:
    rows = rows_of(400, x=np.zeros((400, 3), np.float32), y=np.arange(400) % 2)
    assert trusted_rows.distinct(rows)[1] == 0


def test_a_reader_is_told_what_was_left_out(tmp_path: Path) -> None:
    write_table(tmp_path / "trusted.parquet", repeated(rows_of(80), 3), threshold=0.0)
    context = context_of(tmp_path, job_of())
    assert len(context.read("trusted")) == 80
    (told,) = context.warnings
    assert "160 rows repeat others" in told


def test_one_row_in_five_ranks_whatever_its_place() -> None:
    rows = rows_of(1_000)
    ranks = trusted_rows.ranking(rows)
    assert 150 < ranks.sum() < 250
    shuffled = np.random.default_rng(1).permutation(1_000)
    np.testing.assert_array_equal(trusted_rows.ranking(rows.take(shuffled)), ranks[shuffled])


def test_a_row_ranks_for_ever() -> None:
    rows = rows_of(1_000)
    more = rows_of(1_500, x=np.concatenate([rows.x, rows_of(500, seed=9).x]))
    np.testing.assert_array_equal(trusted_rows.ranking(more)[:1_000], trusted_rows.ranking(rows))


@pytest.mark.parametrize("seed", range(5))
def test_no_frequent_row_is_judged_by_all_or_by_none(seed: int) -> None:
    rows = of_few_values(1_000, seed=seed)
    ranks = trusted_rows.ranking(rows)
    for value in range(10):
        assert 0.02 < ranks[rows.x[:, 0] == value].mean() < 0.5


def test_few_rows_all_judge() -> None:
    """Thirty rank something; ten would be missed by the gates, and rank nothing."""
    assert trusted_rows.ranking(rows_of(50)).sum() == 0
    assert trusted_rows.ranking(rows_of(0)).sum() == 0


def test_a_rare_class_only_judges() -> None:
    y = np.zeros(1_000, np.int64)
    y[::120] = 1
    ranks = trusted_rows.ranking(rows_of(1_000, y=y))
    assert ranks.sum() > 100
    assert ranks[y == 1].sum() == 0


def test_rows_that_were_trained_on_judge_nothing_but_where_rows_repeat_by_nature() -> None:
    rows = rows_of(100)
    trained = data.digests(rows.x[:30])
    kept, dropped = trusted_rows.untrained(rows, trained)
    assert (len(kept), dropped) == (70, 30)
    assert not np.isin(data.digests(kept.x), trained).any()
    few = rows.take(np.arange(100) % 4)
    assert trusted_rows.untrained(few, trained) == (few, 0)
