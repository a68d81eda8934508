"""Table of a replay: what the reference says about the columns of both files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from replay_columns import N, columns, csv_of, learned

from redistill.streams.wire.block import Codes


def test_the_reference_says_how_a_csv_is_read(tmp_path: Path) -> None:
    codes = ["01", "1", "NA", "02"] * (N // 4)
    reference = tmp_path / "r.parquet"
    pq.write_table(pa.table(columns(zip=codes, flag=[True, False] * (N // 2))), reference)
    stream = csv_of(tmp_path, columns(zip=codes, flag=["True", "FALSE"] * (N // 2)))
    table, blocks = learned(stream, reference)
    assert table.layout.schema.features[1].values == ("01", "1", "NA", "02")
    assert blocks[0].block.features[:4, 1].tolist() == [0, 1, 2, 3]
    assert blocks[0].block.features[:2, 2].tolist() == [1, 0]
    assert all(b.block.flawless for b in blocks)


def test_a_code_for_missing_in_the_reference_is_named() -> None:
    x = np.arange(N) / N
    x[::20] = -999.0
    table, _ = learned(pa.table(columns()), pa.table(columns(x=x)))
    said = "column x: the value -999 in 5% of the rows looks like a code for missing"
    assert any(note.startswith(said) for note in table.notes)


def test_a_late_cell_that_is_no_number_is_one_wrong_value(tmp_path: Path) -> None:
    path = csv_of(tmp_path, columns())
    lines = path.read_text().splitlines()
    lines[301] = "n/a?," + lines[301].split(",", 1)[1]
    path.write_text("\n".join(lines))
    _, blocks = learned(path, pa.table(columns()))
    assert [b.block.wrong_type for b in blocks] == [{}, {}, {}, {"x": 1}]
    table, blocks = learned(pa.table(columns()), path)
    assert table.layout.schema.features[0].kind == "float"
    stray = "'x' of the reference is one of numbers; 1 (the first, in row 301: 'n/a?') are none"
    assert any(stray in note for note in table.notes)
    assert all(b.block.flawless for b in blocks)


@pytest.mark.parametrize(
    ("classes", "labels", "known"),
    [
        ((), ["1", "NA", "nan", ""], [True, False, False, False]),
        (("1", "NA"), ["1", "NA", "nan", ""], [True, True, False, False]),
    ],
)
def test_words_for_missing_labels_are_classes_where_classes_are_words(
    tmp_path: Path, classes: tuple[str, ...], labels: list[str], known: list[bool]
) -> None:
    one = [1] * N
    stream = csv_of(tmp_path, columns(label=labels * (N // 4), prediction=one))
    _, blocks = learned(stream, pa.table(columns(label=one, prediction=one)), classes=classes)
    assert blocks[0].labelled[:4].tolist() == known
    assert blocks[0].error[:4].tolist() == [0, known[1], known[2], 0]


@pytest.mark.parametrize(
    "predictions", [[False, True], ["False", "True"], [0.0, 1.0], ["0", "1"], ["0.0", "1.0"]]
)
def test_a_prediction_counts_as_the_class_of_the_reference_that_it_equals(
    predictions: list[Any],
) -> None:
    stream = pa.table(columns(prediction=predictions * (N // 2)))
    _, blocks = learned(stream, pa.table(columns()))
    found = blocks[0].block.prediction
    assert isinstance(found, Codes)
    assert found.strings()[:4] == ["0", "1", "0", "1"]
    assert not blocks[0].error.any()


def test_an_index_and_names_of_folders_are_not_watched(tmp_path: Path) -> None:
    for i in (1, 2):
        folder = tmp_path / "r" / f"day=2026-03-0{i}" / f"land=l{i}" / f"n={i}"
        folder.mkdir(parents=True)
        index = {"__index_level_0__": np.arange(N), "Unnamed: 0": np.arange(N), "": np.arange(N)}
        pq.write_table(pa.table(columns(**index)), folder / "p.parquet")
    stream = pa.table(columns(land=["l1"] * N))
    table, _ = learned(stream, tmp_path / "r")
    assert table.layout.schema.names == ("x", "land")
    said = [n for n in table.notes if "is not watched" in n]
    assert len(said) == 5
    assert sum("(an index of pandas)" in n for n in said) == 3
    assert sum("(names of folders)" in n for n in said) == 2


def test_a_column_of_ids_is_told(tmp_path: Path) -> None:
    n = 3_000
    many = {"x": np.arange(float(n)), "label": [0, 1] * (n // 2), "prediction": [0, 1] * (n // 2)}
    ids = [f"u{i}" if i % 30 else "often" for i in range(n)]
    table, _ = learned(pa.table(columns(customer=["u1"] * N)), pa.table(many | {"customer": ids}))
    assert (
        "column 'customer' has 2,901 different values, as ids have: the 1 frequent ones can be told"
        " apart"
    ) in table.notes


def test_a_column_without_values_in_the_reference_has_no_type_to_be_wrong() -> None:
    n = 300
    blank, words = (
        pa.table({"x": range(n), "e": pa.nulls(n)}),
        pa.table({"x": range(n), "e": ["a"] * n}),
    )
    said = "column 'e' has no value in the reference and is not watched"
    table, _ = learned(with_answers(words), with_answers(blank))
    assert said in table.notes
    assert [f.name for f in table.layout.schema.features] == ["x"]
    table, _ = learned(with_answers(blank), with_answers(blank))
    assert said not in table.notes


def with_answers(table: pa.Table) -> pa.Table:
    one = pa.array([1] * table.num_rows)
    return table.append_column("label", one).append_column("prediction", one)
