"""Blocks of a replay: rows as the live decoder would have them, with times in order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from replay_columns import N, columns, csv_of, learned

from redistill.streams.errors import FileError


def test_infinity_is_a_wrong_type_as_the_live_decoder_counts_it() -> None:
    x = np.arange(float(N))
    x[[3, 5]] = np.inf, 1e39
    table, blocks = learned(pa.table(columns(x=x)), pa.table(columns(x=x)))
    assert [b.block.wrong_type for b in blocks] == [{"x": 2}, {}, {}, {}]
    assert not np.isinf(table.reference.features).any()


def test_a_time_that_is_none_is_said_with_its_row(tmp_path: Path) -> None:
    at = ["2026-03-01T10:00:00"] * N
    at[250] = "soon"
    with pytest.raises(
        FileError, match=r"'at' .option --time. holds 'soon', .*\(row 251 of table\)"
    ):
        learned(pa.table(columns(at=at)), pa.table(columns()), time="at")


def test_a_stream_with_a_header_only_has_no_blocks(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("x,label,prediction\n")
    _, blocks = learned(tmp_path / "s.csv", csv_of(tmp_path, columns(), "r.csv"))
    assert blocks == []


def test_blocks_have_the_asked_size_and_every_row_in_order() -> None:
    _, blocks = learned(pa.table(columns()).slice(0, 250), pa.table(columns()))
    assert [len(b.block) for b in blocks] == [100, 100, 50]
    assert np.concatenate([b.block.features[:, 0] for b in blocks]).tolist() == list(range(250))
    assert blocks[1].block.served_at[:2].tolist() == [100_000_000, 101_000_000]


def test_a_row_without_a_time_has_that_of_the_row_before_and_the_first_of_the_next() -> None:
    at = pa.array([None, -5.0, 7.0, None, 9.0, *([None] * (N - 5))])
    _, blocks = learned(pa.table(columns(at=at)), pa.table(columns()), time="at")
    assert blocks[0].block.served_at[:6].tolist() == [s * 1_000_000 for s in (7, 7, 7, 7, 9, 9)]
    assert blocks[-1].block.served_at[-1] == 9_000_000


def test_a_column_of_times_without_any_is_said() -> None:
    stream = pa.table(columns(at=pa.nulls(N, pa.float64())))
    with pytest.raises(
        FileError, match=r"'at' \(option --time\) has no time, from 1970 on, in the first 400 rows"
    ):
        learned(stream, pa.table(columns()), time="at")


def test_undeclared_values_of_a_category_are_unseen() -> None:
    reference = pa.table(columns(c=["EU", "US"] * (N // 2)))
    _, blocks = learned(pa.table(columns(c=["US", "JP"] * (N // 2))), reference)
    assert blocks[0].block.features[:2, 1].tolist() == [1, -1]
    assert list(blocks[0].block.unseen["c"]) == ["JP"]


def test_one_column_of_scores_of_two_classes_is_the_probability_of_the_second() -> None:
    p = np.linspace(0, 1, N)
    table, blocks = learned(
        pa.table(columns(p=p)), pa.table(columns(p=p)), scores=("p",), classes=("no", "yes")
    )
    scores = np.concatenate([b.block.scores for b in blocks if b.block.scores is not None])
    np.testing.assert_allclose(scores, np.stack([1 - p, p], 1), atol=1e-6)
    assert table.reference.scores is not None
    assert table.reference.scores.shape == (N, 2)


def test_one_column_of_scores_that_are_no_probabilities_is_refused() -> None:
    p = np.full(N, 0.5)
    odd = p.copy()
    odd[250] = 3.25
    said = r"'p' \(option --scores\) holds 3\.25 in row 251: .* the second's probability, 0 to 1"
    good = pa.table(columns(p=p))
    with pytest.raises(FileError, match=said):
        learned(pa.table(columns(p=odd)), good, scores=("p",), classes=("no", "yes"))
    with pytest.raises(FileError, match=said):
        learned(good, pa.table(columns(p=odd)), scores=("p",), classes=("no", "yes"))


def test_one_column_of_scores_needs_classes() -> None:
    table = pa.table(columns(p=np.full(N, 0.5)))
    with pytest.raises(FileError, match="--scores p: whose score is it"):
        learned(table, table.drop_columns(["prediction"]), scores=("p",))
