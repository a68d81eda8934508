"""``redistill replay`` on columns of all kinds: what it makes of those that are odd."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from replay_tables import OPTIONS, REFERENCE, STREAM, lines_of, opened, with_column, words

from redistill.streams.errors import FileError


def test_one_class_only() -> None:
    def one(table: pa.Table) -> pa.Table:
        same = pa.array(["yes"] * len(table))
        return table.set_column(4, "label", same).set_column(5, "prediction", same)

    lines = lines_of(one(STREAM), one(REFERENCE))
    assert opened(lines) == []
    assert lines[-1]["summary"]["base_error"]["rate"] == 0.0


def test_columns_of_every_type_are_read() -> None:
    def odd(table: pa.Table) -> pa.Table:
        n = len(table)
        rng = np.random.default_rng(n)
        more = {
            "flag": pa.array(rng.random(n) < 0.5),
            "cents": pa.array([Decimal(int(v)) / 100 for v in rng.integers(0, 10**6, n)]),
            "when": pa.array(np.arange(n) * 10**6, pa.timestamp("us", "UTC")),
            "day": pa.array((np.arange(n) // 500).astype(np.int32)).cast(pa.date32()),
            "small": pa.array(rng.integers(0, 200, n).astype(np.uint8)),
            "large": pa.array(rng.integers(0, 2**62, n)),
            "half": pa.array(rng.normal(size=n).astype(np.float16)),
            "coded": pa.array(rng.choice(["a", "b"], n)).dictionary_encode(),
            "empty": pa.nulls(n),
            "constant": pa.array([3.5] * n),
            "list": pa.array([[1, 2]] * n),
            "raw": pa.array([b"x"] * n),
            "holes": pa.array(rng.normal(size=n), mask=rng.random(n) < 0.3),
        }
        for name, column in more.items():
            table = table.append_column(name, column)
        return table

    lines = lines_of(odd(STREAM), odd(REFERENCE))
    notes = " ".join(lines[-1]["summary"]["notes"])
    assert all(f"'{name}'" in notes for name in ("when", "day", "list", "raw"))
    assert opened(lines, "quality") == []
    assert len(opened(lines, "accuracy")) == 1


def test_a_column_that_is_gone_is_missing_and_one_too_many_is_ignored() -> None:
    stream = STREAM.drop_columns(["x1"]).append_column("new", pa.array(np.zeros(12_000)))
    lines = lines_of(stream)
    (gone,) = opened(lines, "quality")
    assert (gone["scope"], gone["row"]) == ("x1", 499)
    assert "missing in all" in gone["reason"]
    notes = lines[-1]["summary"]["notes"]
    assert any("'x1'" in note for note in notes)
    assert any("'new'" in note for note in notes)


def test_text_where_numbers_were_is_a_wrong_type() -> None:
    x = STREAM["x0"].to_pylist()
    mixed = pa.array([str(v) if i < 6_000 or i % 2 else "n/a" for i, v in enumerate(x)])
    lines = lines_of(STREAM.set_column(0, "x0", mixed))
    (found,) = opened(lines, "quality")
    assert found["impact"]["metric"] == "wrong_type_rate"
    assert found["impact"]["current"] == pytest.approx(0.5, abs=0.01)


def test_lists_where_values_were_are_a_wrong_type() -> None:
    lists = pa.array([None if i < 6_000 else [1] for i in range(len(STREAM))])
    lines = lines_of(STREAM.set_column(3, "region", lists))
    metrics = {x["impact"]["metric"] for x in opened(lines, "quality") if x["scope"] == "region"}
    assert metrics == {"missing_rate", "wrong_type_rate"}


def test_largest_numbers_of_float32_are_numbers_like_others() -> None:
    def ends(table: pa.Table) -> pa.Table:
        n = len(table)
        sentinel = np.where(np.arange(n) % 2, 1, -1) * np.finfo(np.float32).max
        return table.append_column("s", pa.array(sentinel))

    assert opened(lines_of(ends(STREAM), ends(REFERENCE)), "quality") == []


def test_many_values_of_a_slice_are_told_in_sum() -> None:
    lines = lines_of(options=dataclasses.replace(OPTIONS, slices=("x0", "region")))
    slices = lines[-1]["summary"]["slices"]
    other = [s for s in slices if s["value"] == "other"]
    assert [s["key"] for s in other] == ["x0"]
    assert len(slices) == 50 + 1 + 3
    assert other[0]["n"] == len(STREAM) - 50


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.float64(), pa.bool_(), pa.dictionary(pa.int32(), pa.string())]
)
def test_labels_and_predictions_of_different_types_are_compared_by_value(kind: pa.DataType) -> None:
    def cast(table: pa.Table) -> pa.Table:
        labels = table["label"]
        as_text = kind not in (pa.float64(), pa.bool_())
        labels = labels.cast(pa.string()).cast(kind) if as_text else labels.cast(kind)
        return table.set_column(4, "label", labels)

    def events(lines: list[dict[str, Any]]) -> list[Any]:
        return [(x["row"], x["status"], x["impact"]) for x in lines if "status" in x]

    assert events(lines_of(cast(STREAM), cast(REFERENCE))) == events(lines_of())


@pytest.mark.parametrize(
    ("stream", "reference", "message"),
    [
        (
            words(STREAM, "label"),
            REFERENCE,
            r"labels of the stream \('no', 'yes'\) are none of the predictions \('0', '1'\)",
        ),
        (
            words(STREAM, "label"),
            words(REFERENCE, "label"),
            r"labels \('no', 'yes'\) and predictions .* of the reference differ in 100.0%",
        ),
        (
            with_column(STREAM, "prediction", STREAM["score_a"].to_numpy()),
            with_column(REFERENCE, "prediction", REFERENCE["score_a"].to_numpy()),
            "of the reference differ in 100.0% of the rows: accuracy is the share",
        ),
    ],
)
def test_labels_that_are_no_predictions_are_refused_before_they_look_like_harm(
    stream: pa.Table, reference: pa.Table, message: str
) -> None:
    with pytest.raises(FileError, match=message):
        lines_of(stream, reference)


def test_a_model_that_is_always_wrong_is_harm_and_no_mistake_of_the_files() -> None:
    lines = lines_of(with_column(STREAM, "label", 1 - STREAM["prediction"].to_numpy()))
    assert opened(lines, "accuracy")[0]["impact"]["harmful"] is True


def test_labels_that_are_never_predicted_are_noted() -> None:
    labels = words(STREAM, "label")["label"].to_pylist()
    padded = with_column(
        words(STREAM, "prediction"), "label", [x.replace("yes", "Yes ") for x in labels]
    )
    notes = lines_of(padded, words(REFERENCE, "label", "prediction"))[-1]["summary"]["notes"]
    assert [n.partition(" are never")[0] for n in notes] == ["labels 'Yes '"]
    assert lines_of()[-1]["summary"]["notes"] == []


def test_a_reference_without_errors_is_noted() -> None:
    perfect = with_column(REFERENCE, "prediction", REFERENCE["label"].to_numpy())
    (note,) = lines_of(reference=perfect)[-1]["summary"]["notes"]
    assert "agree in every row" in note


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_blank_labels_are_missing_ones(tmp_path: Path, suffix: str) -> None:
    def gaps(table: pa.Table, blank: str | None) -> pa.Table:
        texts = words(table, "label", "prediction")
        labels = texts["label"].to_pylist()
        return with_column(texts, "label", [blank if i % 2 else x for i, x in enumerate(labels)])

    def read(blank: str | None) -> list[dict[str, Any]]:
        write = pq.write_table if suffix == "parquet" else pyarrow.csv.write_csv
        for name, table in (("stream", STREAM), ("reference", REFERENCE)):
            write(gaps(table, blank), tmp_path / f"{name}.{suffix}")
        lines = lines_of(tmp_path / f"stream.{suffix}", tmp_path / f"reference.{suffix}")
        lines[-1]["summary"] |= {"seconds": 0, "rows_per_second": 0}
        return lines

    lines = read("")
    assert lines[-1]["summary"]["labels"] == len(STREAM) // 2
    assert lines == read(None)


def test_an_empty_cell_of_a_csv_file_is_missing_in_a_category_too(tmp_path: Path) -> None:
    regions = [None if i >= 6_000 else x for i, x in enumerate(STREAM["region"].to_pylist())]
    pyarrow.csv.write_csv(with_column(STREAM, "region", regions), tmp_path / "stream.csv")
    (found,) = opened(lines_of(tmp_path / "stream.csv"), "quality")
    assert (found["scope"], found["impact"]["metric"]) == ("region", "missing_rate")


def test_types_of_a_csv_file_hold_where_its_beginning_misleads(tmp_path: Path) -> None:
    long = pa.concat_tables([STREAM] * 2)  # longer than what types are guessed from
    late = [None if i < 20_000 else x for i, x in enumerate(long["label"].to_pylist())]
    whole = [round(x) if i < 20_000 else x for i, x in enumerate(long["x1"].to_pylist())]
    path = tmp_path / "stream.csv"
    pyarrow.csv.write_csv(with_column(long, "label", late), path)
    summary = lines_of(path)[-1]["summary"]
    assert (summary["rows"], summary["labels"]) == (24_000, 4_000)
    pyarrow.csv.write_csv(with_column(long, "x1", [f"{x:g}" for x in whole]), path)
    path.write_text(path.read_text().replace('"', ""))
    assert lines_of(path)[-1]["summary"]["labels"] == 24_000


def test_values_that_are_frequent_by_luck_are_not_expected_again() -> None:
    def codes(table: pa.Table, seed: int) -> pa.Table:
        drawn = np.random.default_rng(seed).integers(0, 20_000, len(table))
        return table.append_column("code", pa.array([f"c{i}" for i in drawn]))

    assert opened(lines_of(codes(STREAM, 1), codes(REFERENCE, 2)), "quality") == []
