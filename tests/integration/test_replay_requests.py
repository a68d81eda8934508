"""``redistill replay --label-requests``: labels asked for on suspicion, from files to the summary."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from replay_tables import OPTIONS, REFERENCE, STREAM, lines_of, opened
from typer.testing import CliRunner

from redistill.workers.cli.replay import app

ASKING = dataclasses.replace(OPTIONS, label_rate=0.08, label_delay=500, label_requests=0.07)
ROWS = len(STREAM)


def test_a_share_of_the_rows_is_asked_for_and_the_summary_says_what_came_of_it(
    tmp_path: Path,
) -> None:
    # CSV does not tell its number of rows before it was read
    pa.csv.write_csv(STREAM, tmp_path / "stream.csv")
    pa.csv.write_csv(REFERENCE, tmp_path / "reference.csv")
    out = tmp_path / "out.jsonl"
    result = CliRunner().invoke(
        app,
        [
            *(str(tmp_path / "stream.csv"), "--reference", str(tmp_path / "reference.csv")),
            *("--scores", "score_a,score_b", "--label-rate", ".08", "--label-delay", "500"),
            *("--label-requests", ".07", "--json", str(out)),
        ],
    )
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    used = lines[-1]["summary"]["label_requests"]
    assert used["budget_rows"] == int(0.07 * ROWS)
    assert 0 < used["answered"] <= used["asked"] <= used["budget_rows"]
    assert used["asked_share"] == used["asked"] / ROWS
    assert f"labels asked for: {used['asked_share']:.1%} of the rows" in result.output
    earned = used["earned_row_by_row"]
    assert earned["asked"] <= 0.07 * ROWS
    assert earned["harm"]["rows"]
    assert f"harm found in row {earned['harm']['rows'][0]:,}" in result.output
    assert len(opened(lines, "accuracy")) == 1
    share = lines[-1]["summary"]["label_share"]
    assert share == pytest.approx(0.08 + used["answered"] / ROWS, abs=0.01)


def test_nothing_changes_where_nothing_is_suspected() -> None:
    calm = STREAM.slice(0, 5_000)
    asking, silent = (
        lines_of(calm, options=dataclasses.replace(ASKING, label_requests=share))
        for share in (0.0001, 0.0)  # fewer rows than a burst needs
    )
    assert asking[:-1] == silent[:-1]
    assert silent[-1]["summary"]["label_requests"] is None
    assert asking[-1]["summary"]["label_requests"]["asked"] == 0


def test_intervals_of_windows_hold_where_a_part_was_asked_for() -> None:
    wrong = STREAM["label"].to_numpy() != STREAM["prediction"].to_numpy()
    held = []
    for seed in range(8):
        options = dataclasses.replace(ASKING, label_requests=0.15, seed=seed, window_rows=1_000)
        for w in (x for x in lines_of(options=options) if "from" in x):
            truth = 1 - wrong[w["from"] : w["to"] + 1].mean()
            held.append(w["accuracy"]["low"] - 1e-9 <= truth <= w["accuracy"]["high"] + 1e-9)
    assert np.mean(held) >= 0.95


def test_rows_without_a_label_are_spent() -> None:
    never = pa.array([None if i % 4 else v for i, v in enumerate(STREAM["label"].to_pylist())])
    options = dataclasses.replace(ASKING, label_rate=0.3)
    few = lines_of(STREAM.set_column(4, "label", never), options=options)
    used = few[-1]["summary"]["label_requests"]
    assert used["asked"] > 100
    assert used["answered"] < 0.4 * used["asked"]
