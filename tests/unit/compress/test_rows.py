from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from compress_rows import rows_of

from redistill.compress import rows
from redistill.compress.errors import BadData, BadJob
from redistill.compress.plan import GraphSpec

SPEC = GraphSpec(
    features=("a", "b", "r"),
    classes=("no", "yes"),
    slices={"r": ("EU", "US"), "channel": ()},
    categories={"r": ("EU", "US")},
)


def write(path: Path, **columns: Any) -> Path:
    n = len(next(iter(columns.values()))) if columns else 3
    given: dict[str, Any] = {
        "a": np.arange(n, dtype=np.float32),
        "b": np.zeros(n),
        "r": np.zeros(n, np.int32),
    }
    pq.write_table(pa.table(given | columns), path)
    return path


def test_read_rows_reads_every_column_in_the_order_of_the_graph(tmp_path: Path) -> None:
    when = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    path = write(
        tmp_path / "fresh.parquet",
        b=pa.array([1, None, 3]),
        label=pa.array(["yes", None, "no"]),
        split=["train", "gate", "gate"],
        source=["x", None, "y"],
        p_include=[0.5, None, 0.25],
        id_hash=pa.array([7, -8, 9], pa.int64()),
        served_at=pa.array([when] * 3, pa.timestamp("ms", tz="UTC")),
        prediction=["yes", "yes", "maybe"],
        channel=["web", "app", None],
        extra=["not", "a", "feature"],
    )
    r, warnings = rows.read_rows(path, SPEC)
    assert warnings == []
    assert r.x[:, :1].ravel().tolist() == [0.0, 1.0, 2.0]
    assert np.isnan(r.x[1, 1])
    assert r.y.tolist() == [1, -1, 0]
    assert r.gate.tolist() == [False, True, True]
    assert r.id_hash.tolist() == [7, -8, 9]
    assert r.served_at.tolist() == [int(when.timestamp() * 1e6)] * 3
    assert r.prediction.tolist() == [1, 1, -1]
    assert r.segments == {"channel": ["web", "app", None]}


def test_read_rows_takes_infinite_and_overflowing_values_for_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "f.parquet", a=[np.inf, 1e300, -0.0])
    r, _ = rows.read_rows(path, SPEC)
    assert np.isnan(r.x[:2, 0]).all()
    assert not np.signbit(r.x[2, 0])


def test_read_rows_counts_a_few_foreign_labels_as_none(tmp_path: Path) -> None:
    path = write(tmp_path / "f.parquet", label=["no", "yes", "perhaps"])
    r, warnings = rows.read_rows(path, SPEC)
    assert r.y.tolist() == [0, 1, -1]
    assert "'perhaps'" in warnings[0]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": ["cat", "dog", "no"]}, "2 of 3 labels are none of the classes"),
        ({"split": ["train", "test", "gate"]}, "'split' holds 'test'"),
        ({"a": ["x", "y", "z"]}, "column 'a' is string"),
        ({"id_hash": ["x", "y", "z"]}, "column 'id_hash' cannot be read"),
    ],
)
def test_read_rows_names_what_is_wrong(
    tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadData, match=message):
        rows.read_rows(write(tmp_path / "f.parquet", **columns), SPEC)


def test_read_trusted_leaves_unlabelled_rows_out(tmp_path: Path) -> None:
    label = ["no", "yes"] * 30 + [None]
    r, warnings = rows.read_trusted(write(tmp_path / "t.parquet", label=label), SPEC)
    assert len(r) == 60
    assert "1 of 61 rows have no label" in warnings[0]


def test_read_table_tells_a_missing_file_from_a_broken_one(tmp_path: Path) -> None:
    with pytest.raises(BadJob, match="missing"):
        rows.read_table(tmp_path / "fresh.parquet")
    (tmp_path / "fresh.parquet").write_text("no")
    with pytest.raises(BadData, match="not a readable Parquet"):
        rows.read_table(tmp_path / "fresh.parquet")


def test_strides_give_out_every_row_once_and_no_more_than_asked_for() -> None:
    r = rows_of(7)
    parts = list(r.strides(3))
    assert [len(p) for p in parts] == [3, 3, 1]
    assert np.array_equal(np.concatenate(parts), r.x)
    assert list(r.take(np.zeros(7, np.bool_)).strides(3)) == []
