"""What people and services named oddly is shown as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from redistill.workers.cli import common
from redistill.workers.cli.main import main


def test_brackets_in_names_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    from redistill.workers.cli.models import _print_versions

    version: dict[str, Any] = {
        "version": "[/v1]",
        "status": "rejected",
        "kind": "added",
        "sha256": "0" * 64,
        "published_at": "2026-03-01T10:00:00+00:00",
        "failed_gates": ["[red]"],
        "gate_passed": False,
        "bytes": 1,
        "serves": False,
    }
    _print_versions([version])
    said = capsys.readouterr().out
    assert "[/v1]" in said
    assert "[red]" in said
    assert "2026-03-01 10:00:00" in said
    common.console().print("[/x]")
    assert capsys.readouterr().out == "[/x]\n"


def test_replay_shows_odd_values_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    n = 1_000
    usual = pa.table({"[/x]": ["a"] * n, "label": np.zeros(n), "prediction": np.zeros(n)})
    pq.write_table(usual, tmp_path / "r.parquet")
    pq.write_table(usual.set_column(0, "[/x]", pa.array(["[/b]"] * n)), tmp_path / "s.parquet")
    monkeypatch.setattr(Console, "is_terminal", True)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    arguments = [str(tmp_path / "s.parquet"), "--reference", str(tmp_path / "r.parquet")]
    with pytest.raises(SystemExit) as stopped:
        main(["replay", *arguments, "--json", str(tmp_path / "o.jsonl")])
    assert stopped.value.code == 0
    assert "'[/b]'" in capsys.readouterr().out
    assert json.loads((tmp_path / "o.jsonl").read_text().splitlines()[0])["scope"] == "[/x]"
