"""The folder that becomes a release: what it holds, and that it is there whole or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from compress_rows import GRAPH, context_of, rows_of, tiny_job

from redistill.compress import candidate
from redistill.compress.errors import BadModel
from redistill.compress.judge.graph import Graph
from redistill.compress.plan import ERROR_ROWS, column_of


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return context_of(tmp_path, tiny_job(tmp_path)).graph("incumbent")


def test_golden_rows_are_clear_ones_from_every_pool(graph: Graph) -> None:
    pools = [rows_of(300).x, np.empty((0, 3), np.float32), rows_of(300, seed=1).x]
    rows, outputs = candidate.golden_rows(graph, pools)
    assert rows.shape == (candidate.GOLDEN_ROWS, 3)
    assert (outputs == graph.raw(rows)).all()
    for pool in (pools[0], pools[2]):
        here = [row for row in rows.tolist() if row in pool.tolist()]
        assert len(here) == candidate.GOLDEN_ROWS // 2
    margins = np.abs(outputs[:, 0] - outputs[:, 1])
    every = np.abs(np.diff(graph.outputs(pools[0]), axis=1))
    assert margins.min() >= np.median(every) * 0.9


def test_golden_rows_repeat_a_small_pool(graph: Graph) -> None:
    rows, _ = candidate.golden_rows(graph, [rows_of(3).x])
    assert rows.shape == (candidate.GOLDEN_ROWS, 3)


def test_golden_rows_are_answered_ones(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    answered, pool = graph.outputs, rows_of(100).x

    def silent(x: np.ndarray) -> np.ndarray:
        return np.where(x[:, :1] > 0, answered(x), np.float32(np.nan))

    monkeypatch.setattr(graph, "outputs", silent)
    rows, outputs = candidate.golden_rows(graph, [pool])
    assert (rows[:, 0] > 0).all()
    assert np.isfinite(outputs).all()
    with pytest.raises(BadModel, match="NaN for every row"):
        candidate.golden_rows(graph, [pool[pool[:, 0] < 0]])


def test_reference_table_shows_no_label_that_was_trained_on(graph: Graph) -> None:
    rows = rows_of(20)
    table = candidate.reference_table(graph, rows, GRAPH, labels=rows.gate)
    shown = [label is not None for label in table["label"].to_pylist()]
    assert shown == rows.gate.tolist()
    expected = [GRAPH.classes[c] for c in graph.classes(rows.x)]
    assert table["prediction"].to_pylist() == expected
    scores = np.array(table["scores"].to_pylist())
    assert scores.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert table["split"].to_pylist()[:2] == ["train", "gate"]


def test_reference_table_has_features_called_as_its_own_columns(graph: Graph) -> None:
    rows = rows_of(20)
    spec = replace(GRAPH, features=("label", "scores", "x"))
    table = candidate.reference_table(graph, rows, spec, labels=rows.gate)
    named = [table[column_of(name)].to_pylist() for name in spec.features]
    np.testing.assert_array_equal(np.array(named, np.float32).T, rows.x)
    assert table["label"].type == pa.string()


def test_reference_table_of_no_rows_has_its_columns(graph: Graph) -> None:
    none = rows_of(4).take(np.zeros(4, np.bool_))
    table = candidate.reference_table(graph, none, GRAPH, labels=none.gate)
    assert table.num_rows == 0
    assert {*GRAPH.features, "prediction", "scores", "label"} <= set(table.column_names)


def test_error_rows_are_the_labelled_ones_with_answers_and_segments(graph: Graph) -> None:
    rows = rows_of(20)
    rows.y[::2] = -1
    table = candidate.error_rows(graph.scores(rows), rows, GRAPH)
    mine = rows.take(rows.labelled)
    assert table["label"].to_pylist() == [GRAPH.classes[c] for c in mine.y]
    assert table["prediction"].to_pylist() == [GRAPH.classes[c] for c in graph.classes(mine.x)]
    assert table["region"].to_pylist() == mine.segments["region"]
    assert table["a"].to_pylist() == mine.x[:, 0].tolist()
    assert np.array(table["scores"].to_pylist()).sum(axis=1) == pytest.approx(1.0, abs=1e-5)


def write(folder: Path, graph: Graph, *, exact: bool, scale: float = 1.0) -> Path:
    rows, outputs = candidate.golden_rows(graph, [rows_of(50).x])
    return candidate.write(
        folder,
        model=folder / "incumbent" / "model.onnx",
        training=folder / "incumbent" / "training",
        golden=(rows, scale * outputs),
        exact=exact,
        table=pa.table({"a": [1.0]}),
        errors=pa.table({"b": [2.0]}),
        report=b"{}",
        documents={"documents/card.md": b"# card"},
    )


def test_write_puts_all_files_into_place_and_replaces_what_was_there(
    tmp_path: Path, graph: Graph
) -> None:
    (tmp_path / "candidate").mkdir()
    (tmp_path / "candidate" / "old").write_text("old")
    final = write(tmp_path, graph, exact=True)
    assert final == tmp_path / "candidate"
    assert sorted(p.name for p in final.iterdir()) == [
        "documents", "golden.npz", "model.onnx", "reference_rows.parquet", "report.json", "training",
    ]  # fmt: skip
    assert (final / "documents" / "card.md").read_bytes() == b"# card"
    assert pq.read_table(final / "reference_rows.parquet").num_rows == 1
    assert pq.read_table(tmp_path / ERROR_ROWS).column_names == ["b"]  # no part of a release
    assert not (tmp_path / "work" / ".candidate").exists()


@pytest.mark.parametrize(
    ("exact", "share"),
    [(True, candidate.EXACT_TOLERANCE), (False, candidate.INTEGER_TOLERANCE)],
)
def test_tolerance_is_a_share_of_the_largest_golden_output(
    tmp_path: Path, graph: Graph, exact: bool, share: float
) -> None:
    with np.load(write(tmp_path, graph, exact=exact) / "golden.npz") as golden:
        largest = float(np.abs(golden["outputs"]).max())
        assert float(golden["tolerance"]) == pytest.approx(share * largest)
    with np.load(write(tmp_path, graph, exact=exact, scale=1e-3) / "golden.npz") as golden:
        assert float(golden["tolerance"]) == pytest.approx(share)  # never below that of 1


def test_a_row_without_an_answer_has_no_class(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = np.array([[np.nan, 1.0], [-1.0, 1.0]], np.float32)
    monkeypatch.setattr(graph, "logits", lambda x: answered)
    rows = rows_of(2)
    table = candidate.reference_table(graph, rows, GRAPH, labels=rows.gate)
    assert table["prediction"].to_pylist() == [None, "yes"]
