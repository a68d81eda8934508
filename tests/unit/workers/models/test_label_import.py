from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from redistill.workers.errors import UsageError
from redistill.workers.models import label_import
from redistill.workers.models.label_import import Columns, LabelBatch, RejectedRow

NOW = datetime(2026, 11, 25, tzinfo=UTC)


def read(path: Path, columns: Columns | None = None, **more: object) -> LabelBatch:
    options = {"model": "credit", "source": "ledger", "classes": ("yes", "no"), "now": NOW} | more
    batches = list(label_import.read(path, columns or Columns(), **options))  # type: ignore[arg-type]
    return LabelBatch(
        sum(b.rows for b in batches),
        [x for b in batches for x in b.labels],
        [x for b in batches for x in b.rejects],
    )


def test_a_csv_becomes_labels_and_ids_stay_texts(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text(
        "id,label,at,sure,p\n007,yes,2026-03-01T10:00:00+02:00,0.9,0.1\nb,no,2026-03-01 08:00,,\n"
    )
    found = read(path, Columns(time="at", confidence="sure", inclusion="p"))
    first, second = found.labels
    assert found.rejects == []
    assert (first.id, first.label, first.source, first.op) == ("007", "yes", "ledger", "upsert")
    assert first.observed_at == second.observed_at == datetime(2026, 3, 1, 8, tzinfo=UTC)
    assert (first.confidence, first.inclusion_probability) == (0.9, 0.1)
    assert (second.confidence, second.inclusion_probability) == (None, None)


def test_bad_rows_are_rejected_with_their_number_and_reason(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    long = "x" * 201
    path.write_text(
        f"id,label,at\na,yes,2026-03-01\n,yes,2026-03-01\nb,,2026-03-01\nc,maybe,2026-03-01\nd,no,soon\n{long},no,2026-03-01\n"
    )
    found = read(path, Columns(time="at"))
    assert [x.id for x in found.labels] == ["a"]
    assert found.rows == 6
    assert [(r.row, r.reason) for r in found.rejects] == [
        (2, "the id is missing"),
        (3, "the label is missing"),
        (4, "'maybe' is no class of the model"),
        (
            5,
            "the time is 'soon', which is not a time: ISO 8601, or seconds since 1970, were expected",
        ),
        (6, "the id has 201 characters, 200 are allowed"),
    ]
    assert found.rejects[2] == RejectedRow(4, "c", "maybe", "'maybe' is no class of the model")


def test_a_time_in_the_future_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text(
        "id,label,at\na,yes,2026-11-25T20:00\nb,yes,9999-01-01\nc,yes,2026-11-26T00:01\n"
    )
    found = read(path, Columns(time="at"))
    assert [x.id for x in found.labels] == ["a"], "zones and clocks may be ahead, a day is none"
    assert [(r.id, r.reason) for r in found.rejects] == [
        ("b", "the time 9999-01-01T00:00:00+00:00 lies in the future"),
        ("c", "the time 2026-11-26T00:01:00+00:00 lies in the future"),
    ]


def test_a_row_whose_share_is_no_number_is_rejected_alone(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("id,label,sure\na,yes,0.5\nb,no,very\nc,no,7\nd,no,\ne\0,no,1\n")
    found = read(path, Columns(confidence="sure"))
    assert [(x.id, x.confidence) for x in found.labels] == [("a", 0.5), ("d", None)]
    assert [(r.row, r.reason) for r in found.rejects] == [
        (2, "the confidence 'very' is no number"),
        (3, "the confidence 7.0 is not between 0 and 1"),
        (5, "a text contains NUL, which no database stores"),
    ]


def test_a_file_in_another_encoding_is_said(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_bytes("größe,id,label\n1,a,yes\n".encode("latin-1"))
    with pytest.raises(UsageError, match="cannot be read as CSV: 'utf-8' codec"):
        read(path)


def test_parquet_of_any_types_is_read(tmp_path: Path) -> None:
    path = tmp_path / "l.parquet"
    table = pa.table(
        {
            "key": pa.array([1, 2]),
            "truth": pa.array([1.0, None]),
            "at": pa.array([1_000, 2_000], pa.timestamp("ms")),
        }
    )
    pq.write_table(table, path)
    found = read(path, Columns(id="key", label="truth", time="at"), classes=("0", "1"))
    assert [(x.id, x.label) for x in found.labels] == [("1", "1")]
    assert found.labels[0].observed_at == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert [r.reason for r in found.rejects] == ["the label is missing"]


@pytest.mark.parametrize("classes", [None, ("0", "1")], ids=["unregistered", "registered"])
@pytest.mark.parametrize("label", [None, float("nan"), float("inf"), float("-inf")])
def test_a_label_that_is_none_is_rejected(
    tmp_path: Path, label: float | None, classes: tuple[str, ...] | None
) -> None:
    path = tmp_path / "l.parquet"
    table = pa.table({"id": ["a", "b"], "label": pa.array([1.0, label], pa.float64())})
    pq.write_table(table, path)
    found = read(path, classes=classes)
    assert [(x.id, x.label) for x in found.labels] == [("a", "1")]
    assert [r.id for r in found.rejects] == ["b"]


def test_without_times_labels_have_the_time_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("id,label\na,yes\n")
    os.utime(path, (1_000, 1_000))
    assert read(path).labels == read(path).labels
    assert read(path).labels[0].observed_at == datetime.fromtimestamp(1_000, UTC)


def test_retracting_needs_no_label(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    for text in ("id,label\na,yes\n", "id\na\n"):
        path.write_text(text)
        (label,) = read(path, retract=True).labels
        assert (label.op, label.label) == ("retract", None)


def test_long_files_come_in_batches_that_number_on(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text(
        "id,label\n" + "".join(f"r{i},{'yes' if i else 'bad'}\n" for i in range(12_000)) + ",yes\n"
    )
    batches = list(
        label_import.read(path, Columns(), model="m", source="s", now=NOW, classes=("yes",))
    )
    assert max(b.rows for b in batches) <= label_import.BATCH
    assert [r.row for b in batches for r in b.rejects] == [1, 12_001]


@pytest.mark.parametrize("name", ["l.csv", "l.parquet"])
def test_a_missing_column_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("csv"):
        path.write_text("key,label\na,yes\n")
    else:
        pq.write_table(pa.table({"key": ["a"], "label": ["yes"]}), path)
    with pytest.raises(UsageError, match="has no column 'id'; it has key, label"):
        read(path)


@pytest.mark.parametrize("name", ["l.csv", "l.parquet"])
def test_an_unreadable_file_is_said(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"" if name.endswith("csv") else b"PAR1garbage")
    with pytest.raises(UsageError, match="cannot be read as"):
        read(path)


def test_words_and_numbers_are_ids_and_classes(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("id,label\nNULL,NA\n007,EU\nc,\nd,nan\n")
    found = read(path, classes=("EU", "NA"))
    assert [(x.id, x.label) for x in found.labels] == [("NULL", "NA"), ("007", "EU")]
    assert [r.reason for r in found.rejects] == [
        "the label is missing",
        "'nan' is no class of the model",
    ]
    numeric = read(path, classes=("0", "1"))
    assert [r.reason for r in numeric.rejects] == [
        "the label is missing",
        "'EU' is no class of the model",
        "the label is missing",
        "the label is missing",
    ]
    assert [x.label for x in read(path, classes=None).labels] == ["NA", "EU", "nan"]


def test_ids_that_pandas_made_floats_are_whole_numbers_again(tmp_path: Path) -> None:
    path = tmp_path / "l.parquet"
    ids = [1001.0, 143349558619.0, None, 2.0**53 + 2]
    pq.write_table(pa.table({"id": ids, "label": [1.0, 0.0, 1.0, None]}), path)
    found = read(path, classes=("0", "1"))
    assert [(x.id, x.label) for x in found.labels] == [("1001", "1"), ("143349558619", "0")]
    assert [r.reason.partition(":")[0] for r in found.rejects] == [
        "the id is missing",
        "the id is the number 9007199254740994, beyond 2^53, where float64 is no longer exact",
    ]
    path.with_suffix(".csv").write_text("id,label\n1001.0,1.0\n143349558619.0,\n")
    (label,) = read(path.with_suffix(".csv"), classes=None).labels
    assert (label.id, label.label) == ("1001", "1")


def test_times_in_milliseconds_are_rejected_with_what_was_expected(tmp_path: Path) -> None:
    path = tmp_path / "l.parquet"
    at = [1767225600000, 1767225600]
    pq.write_table(pa.table({"id": ["a", "b"], "label": ["yes", "no"], "at": at}), path)
    found = read(path, Columns(time="at"))
    assert [x.id for x in found.labels] == ["b"]
    (reject,) = found.rejects
    assert reject.reason.startswith("the time is 1767225600000: seconds since 1970 were expected")


def test_a_folder_of_part_files_is_imported_and_growing_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    folder.mkdir()
    for i, rows in enumerate(("a,yes\n,no", "b,no")):
        (folder / f"part-{i}.csv").write_text(f"id,label\n{rows}\n")
        os.utime(folder / f"part-{i}.csv", (1_000 + i, 1_000 + i))
    found = read(folder)
    assert [(x.id, x.observed_at.timestamp()) for x in found.labels] == [("a", 1_000), ("b", 1_001)]
    assert found.rejects == [RejectedRow(2, "", "no", "the id is missing (row 2 of part-0.csv)")]
    assert label_import.count(folder) is None


@pytest.mark.parametrize("column", ["id", "label", "at"])
def test_a_list_is_no_value(tmp_path: Path, column: str) -> None:
    path = tmp_path / "l.parquet"
    columns = {"id": ["a"], "label": ["yes"], "at": [1], column: [[1]]}
    pq.write_table(pa.table(columns), path)
    with pytest.raises(UsageError, match=f"column '{column}' of .*: one value per row"):
        read(path, Columns(time="at"))


@pytest.mark.parametrize(
    ("cells", "ids"),
    [
        (["1.0", "2", ""], ["1", "2"]),
        (["1.43349558619E11", "7.0"], ["143349558619", "7"]),
        (['="007"', "8"], ["007", "8"]),
        (["1.0", "007"], ["1.0", "007"]),
        (["1.0", "9007199254740993"], ["1.0", "9007199254740993"]),
    ],
    ids=["floats in some parts", "Java", "formulas of text", "leading zeros", "no float holds it"],
)
def test_ids_of_a_csv_are_those_that_were_logged(
    tmp_path: Path, cells: list[str], ids: list[str]
) -> None:
    path = tmp_path / "l.csv"
    path.write_text("id,label\n" + "".join(f"{cell},yes\n" for cell in cells))
    assert [x.id for x in read(path).labels] == ids


def test_ids_that_a_spreadsheet_shortened_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("id,label\n1.43E+11,yes\n12,no\n")
    found = read(path)
    assert [x.id for x in found.labels] == ["12"]
    assert found.rejects[0].reason.startswith("the id was shortened by a spreadsheet")


@pytest.mark.parametrize("cell", [46082, 46082.5, "46082", "2026", "202603"])
def test_days_of_a_spreadsheet_are_no_seconds(tmp_path: Path, cell: Any) -> None:
    path = tmp_path / "l.parquet"
    pq.write_table(pa.table({"id": ["a"], "label": ["yes"], "at": [cell]}), path)
    found = read(path, Columns(time="at"))
    assert found.labels == []
    assert "write ISO 8601" in found.rejects[0].reason


def test_ids_of_parts_of_other_types_are_the_same_ids(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    for i, ids in enumerate(([1.0, None], ["2.0", "3"], [4])):
        table = pa.table({"id": ids, "label": ["yes"] * len(ids)})
        pq.write_table(table, tmp_path / "s" / f"p{i}.parquet")
    assert [x.id for x in read(tmp_path / "s").labels] == ["1", "2", "3", "4"]
