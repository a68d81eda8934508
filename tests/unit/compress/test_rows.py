from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from redistill.compress import data, rows
from redistill.compress.errors import BadData, BadJob
from redistill.compress.plan import GraphSpec, JobSpec, Training

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
    assert r.weight.tolist() == [2.0, 1.0, 4.0]
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
        ({"p_include": [0.5, 0.0, 1.0]}, r"outside \(0, 1\]"),
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


def make(n: int, *, seed: int = 0, labelled: bool = True, **over: Any) -> rows.Rows:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    x[:, 2] = rng.integers(0, 2, n)
    fields: dict[str, Any] = {
        "x": x,
        "y": rng.integers(0, 2, n) if labelled else np.full(n, -1),
        "weight": np.ones(n, np.float32),
        "gate": np.arange(n) % 2 == 1,
        "id_hash": np.arange(1, n + 1) + 1_000 * seed,
        "served_at": np.arange(n),
        "source": ["ledger"] * n,
        "prediction": np.full(n, -1),
    }
    return rows.Rows(**fields | over)


def job(**training: Any) -> JobSpec:
    return JobSpec(job_id="j", model="m", graph=SPEC, training=Training(**training))


def test_prepare_gives_each_row_one_role() -> None:
    fresh = make(400)
    few = job(max_fresh_rows=150, min_replay_rows=0)
    p = data.prepare(few, fresh, make(500, seed=1), make(100, seed=2))
    assert len(p.train) == 150
    assert p.train.served_at.min() >= 100  # the latest
    assert not p.train.gate.any()
    assert p.gate.gate.all()
    assert len(p.replay) == 150
    assert not set(p.train.id_hash) & set(p.gate.id_hash)
    assert p.counts["gate_labelled"] == 200
    again = data.prepare(few, fresh, make(500, seed=1), make(100, seed=2))
    assert (again.train_x == p.train_x).all()


def test_few_fresh_rows_bring_more_replay_and_are_seen_more_often() -> None:
    p = data.prepare(job(min_replay_rows=400), make(100), make(500, seed=1), make(100, seed=2))
    fresh, replay = len(p.train), len(p.replay)
    assert (fresh, replay) == (50, 400)
    epoch = p.schedule(1.0, 8)
    assert np.bincount(epoch).tolist() == [8] * fresh + [1] * replay
    assert len(p.schedule(1.0, 3)) == 3 * fresh + replay
    assert p.schedule(0.0, 8).tolist() == list(range(fresh + replay))


def test_prepare_never_trains_on_trusted_rows_nor_judges_on_trained_ones() -> None:
    trusted = make(100, seed=2)
    fresh = make(400)
    x = fresh.x.copy()
    x[1] = x[0]  # a gate row that repeats a training row under another id
    x[2] = trusted.x[0]  # a training row that equals a trusted one
    reference = make(500, seed=1)
    reference.x[3] = trusted.x[1]
    p = data.prepare(job(), replace(fresh, x=x), reference, trusted)
    known = data.digests(trusted.x)
    assert not np.isin(data.digests(p.train_x), known).any()
    assert not np.isin(data.digests(p.gate.x), data.digests(p.train_x)).any()
    assert p.counts["dropped_gate"] == 1
    assert p.counts["dropped_trusted"] == 1


def test_unique_rows_keep_the_labelled_one_of_two_equal_rows() -> None:
    r = make(60)
    x, y, ids = r.x.copy(), r.y.copy(), r.id_hash.copy()
    x[1], y[0], y[1] = x[0], -1, 1
    ids[5] = ids[4]
    kept, dropped, compared = data.unique_rows(replace(r, x=x, y=y, id_hash=ids))
    assert (dropped, compared) == (2, True)
    assert int(ids[1]) in kept.id_hash
    assert int(ids[0]) not in kept.id_hash


def test_unique_rows_compare_ids_only_where_rows_repeat_by_nature() -> None:
    r = make(200)
    few = replace(r, x=np.tile(r.x[:4], (50, 1)))
    kept, dropped, compared = data.unique_rows(few)
    assert (len(kept), dropped, compared) == (200, 0, False)
    p = data.prepare(job(), few, make(100, seed=1), make(60, seed=2))
    assert len(p.gate) == 100
    assert any("rows of few values" in w for w in p.warnings)


def test_digests_tell_rows_apart_and_nan_from_zero() -> None:
    x = np.array([[0, np.nan], [0, np.nan], [0, 0], [1, 0]], np.float32)
    d = data.digests(x)
    assert d[0] == d[1]
    assert len(set(d.tolist())) == 3


def test_slice_groups_hold_declared_values_others_and_classes() -> None:
    r = make(100, segments={"channel": ["web"] * 60 + ["app"] * 39 + [None]})
    r.x[0, 2] = -1.0
    groups = data.slice_groups(r, SPEC)
    assert groups["channel=web"].sum() == 60
    assert groups["channel=other"].sum() == 1
    assert groups["r=other"].tolist() == [True] + [False] * 99
    assert groups["class=yes"].sum() == (r.y == 1).sum()


def test_encode_leaves_no_nan_and_marks_where_there_was_one() -> None:
    x = np.array([[np.nan, 1.0, 1.0], [2.0, 3.0, -1.0]], np.float32)
    out = data.encode(x, SPEC, np.array([9.0, 9.0, 9.0], np.float32))
    assert out.tolist() == [[9, 1, 0, 1, 1, 0, 0], [2, 3, 0, 0, 0, 0, 0]]
