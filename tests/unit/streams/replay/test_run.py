"""A replay from files to lines: rows counted, labels drawn and late, windows closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from redistill.streams.errors import FileError
from redistill.streams.replay import run
from redistill.streams.replay.lines import Replay
from redistill.streams.replay.options import ReplayOptions

N = 1_200
"""Rows of the stream; windows have 400, blocks 500."""


def table(n: int = N, **more: Any) -> pa.Table:
    """One number that does not drift, and predictions of which every tenth is wrong."""
    prediction = np.arange(n) % 2
    label = np.where(np.arange(n) % 10 == 0, 1 - prediction, prediction)
    x = np.random.default_rng(0).normal(size=n)
    return pa.table({"x": x, "label": label, "prediction": prediction} | more)


def replayed(stream: pa.Table, **options: Any) -> tuple[list[dict[str, Any]], Replay]:
    lines: list[dict[str, Any]] = []
    asked = ReplayOptions(**({"window_rows": 400} | options))
    return lines, run.run_replay(stream, table(), asked, write=lines.append)


def windows_of(lines: list[dict[str, Any]]) -> list[tuple[int, int, int]]:
    return [(x["from"], x["to"], x["accuracy"]["n"]) for x in lines if "accuracy" in x]


def test_every_row_is_in_one_window_and_the_summary_is_last() -> None:
    lines, result = replayed(table())
    assert windows_of(lines) == [(0, 399, 400), (400, 799, 400), (800, 1_199, 400)]
    assert {x["accuracy"]["current"] for x in lines[:-1]} == {0.9}
    assert (result.rows, result.labels, result.wrong) == (N, N, N // 10)
    summary = lines[-1]["summary"]
    assert (summary["rows"], summary["windows"], summary["accuracy"]) == (N, 3, 0.9)


def test_the_last_window_closes_with_the_file() -> None:
    lines, _ = replayed(table(1_000))
    assert windows_of(lines)[-1] == (800, 999, 200)


def test_a_window_waits_for_its_labels() -> None:
    at_once = [x["row"] for x in replayed(table())[0][:-1]]
    late, result = replayed(table(), label_delay=300)
    assert [x["row"] - 300 for x in late[:2]] == at_once[:2]
    assert late[2]["row"] == N - 1  # the file ends before
    assert windows_of(late) == windows_of(replayed(table())[0])
    assert result.labels == N


def test_a_share_of_the_labels_is_drawn_by_the_seed() -> None:
    first, again, other = (
        windows_of(replayed(table(), label_rate=0.3, seed=seed)[0]) for seed in (1, 1, 2)
    )
    assert first == again != other
    assert 250 < sum(n for *_, n in first) < 470
    assert windows_of(replayed(table(), label_rate=0.0)[0])[0] == (0, 399, 0)


def test_accuracy_is_broken_down_by_slices() -> None:
    region = ["EU", "US"] * (N // 2)
    lines, _ = replayed(table(region=region), slices=("region",))
    found = {x["value"]: (x["n"], x["accuracy"]) for x in lines[-1]["summary"]["slices"]}
    assert found == {"EU": (600, 0.8), "US": (600, 1.0)}


def test_values_of_a_slice_beyond_the_first_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "SLICE_VALUES", 2)
    lines, _ = replayed(table(day=[f"d{i // 300}" for i in range(N)]), slices=("day",))
    found = {x["value"]: x["n"] for x in lines[-1]["summary"]["slices"]}
    assert found == {"d0": 300, "d1": 300, "other": 600}


def test_rows_whose_times_go_back_are_noted() -> None:
    at = np.arange(float(N)) + 1e9
    assert replayed(table(at=at), time="at")[0][-1]["summary"]["notes"] == []
    at[::20] -= 1_000
    (note,) = replayed(table(at=at), time="at")[0][-1]["summary"]["notes"]
    assert note.startswith("times go back in 59 rows")


def test_progress_is_told_after_every_block() -> None:
    rows: list[int] = []
    run.run_replay(
        table(), table(), ReplayOptions(), write=lambda _: None, progress=lambda r: rows.append(r.rows)
    )  # fmt: skip
    assert rows == [500, 1_000, N]


def test_a_stream_without_rows_has_a_summary_only() -> None:
    lines, result = replayed(table().slice(0, 0))
    assert [list(x) for x in lines] == [["summary"]]
    assert (result.rows, result.total) == (0, 0)


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"gone\.csv cannot be read: there is no file"):
        run.run_replay(tmp_path / "gone.csv", table(), ReplayOptions(), write=lambda _: None)


def test_categories_are_slices_with_tests_of_their_own() -> None:
    rng = np.random.default_rng(0)
    names = np.array(["a", "b", "c", "d"])

    def rows(n: int, flipped: int) -> pa.Table:
        """From row ``flipped`` on the model is mostly wrong in one region."""
        region, prediction = names[rng.integers(0, 4, n)], rng.integers(0, 2, n)
        late = (region == "c") & (np.arange(n) >= flipped)
        wrong = rng.random(n) < np.where(late, 0.8, 0.1)
        label = np.where(wrong, 1 - prediction, prediction)
        shop = [f"shop {i % 60}" for i in range(n)]  # too many values
        return pa.table({"region": region, "shop": shop, "label": label, "prediction": prediction})

    lines: list[dict[str, Any]] = []
    reference, stream = rows(20_000, 20_000), rows(6_000, 3_000)
    options = ReplayOptions(label_rate=0.3, label_delay=100, tolerance_points=40)
    run.run_replay(stream, reference, options, write=lines.append)
    found = [x for x in lines if x.get("kind") == "accuracy"]
    assert {x["scope"] for x in found} == {"slice:region=c"}
    assert 3_000 < found[0]["row"] < 4_000
    assert found[0]["detector"]["parameters"]["columns"] == 1
    assert "region=c: error 1" in found[0]["reason"]
    assert "since row " in found[0]["reason"]
