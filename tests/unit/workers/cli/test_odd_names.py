"""What people and services named oddly is shown as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from processes import environment
from rich.console import Console

from redistill.workers.cli import common
from redistill.workers.cli.main import main
from redistill.workers.exit_codes import ExitCode


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


EVIL = "\x1b]0;mine\x07\x9b31m\u202e\ufeff\x7f\r:smile:[red]"
SHOWN = r"\x1b]0;mine\x07\x9b31m\u202e\ufeff\x7f\r:smile:[red]"


def test_nothing_that_is_shown_steers_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Console, "is_terminal", True)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "200")
    common.echo(EVIL)
    common.echo(EVIL, err=True)
    common.console().print(EVIL)
    table = common.table(EVIL)
    table.add_row(EVIL)
    common.console(stderr=True).print(table)
    said = capsys.readouterr()
    assert said.out.split() == [SHOWN, SHOWN]
    assert said.err.split() == [SHOWN] * 3
    common.echo_text("two\nlines of\tone")
    assert capsys.readouterr().out == "two\nlines of\tone\n"
    assert common.one_line("a\n\tb\x1b") == r"a\n\tb\x1b"


def test_nothing_that_is_shown_looks_like_a_line_of_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reason with a line break forged the next line of what it stood in."""
    monkeypatch.setenv("COLUMNS", "200")
    name = "ledger\n12 of 12 invariants hold\tok"
    common.echo(name)
    table = common.table("SOURCE")
    table.add_row(name)
    common.console().print(table)
    common.console().print(name)
    shown = r"ledger\n12 of 12 invariants hold\tok"
    assert [x.strip() for x in capsys.readouterr().out.splitlines()] == [
        shown, "SOURCE", shown, shown,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "command",
    [
        ["jobs", "cancel", "1"],
        ["incidents", "resolve", "abc"],
        ["unbar", "credit", "0" * 64],
        ["keys", "accept-restore"],
        ["publish", "credit", "v1"],
        ["rollback", "credit"],
    ],
)
@pytest.mark.parametrize(
    "reason", ["", "  ", "mended\nrelease v2 is fine", "red\x1b[31m", "x" * 1_001]
)
def test_reason_is_one_line_that_says_something(
    command: list[str],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("REDISTILL_HOME", str(tmp_path / "home"))
    optional = command[0] in ("publish", "rollback") and not reason.strip()
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--reason", reason])
    if not optional:
        assert stopped.value.code == 2
        assert "--reason" in capsys.readouterr().err
        assert not (tmp_path / "home").exists(), "nothing was looked at"


def test_source_is_a_name_that_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["label", "import", "f.csv", "--model", "m", "--source", "a\nb"])
    assert stopped.value.code == 2
    assert r"cannot be printed: a\nb" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has such a device")
@pytest.mark.parametrize("words", [["models"], ["doctor", "--json"], ["--help"], ["jobs", "list"]])
def test_output_that_cannot_be_written_is_told_in_a_sentence(
    words: list[str], tmp_path: Path
) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "redistill", *words],
            env=environment(home=str(tmp_path / "home")),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == ExitCode.FAILED
    assert done.stderr.splitlines()[-1:] == [
        "redistill: standard output cannot be written: No space left on device; what was asked for"
        " may be done"
    ]
    assert "Traceback" not in done.stderr


def test_home_that_is_not_utf8_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    Path(odd).mkdir()
    monkeypatch.setenv("REDISTILL_HOME", odd)
    for words in (["models"], ["doctor"], ["db", "upgrade"]):
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 2
        told = capsys.readouterr().err
        assert "REDISTILL_HOME: the folder" in told
        assert "not UTF-8: choose" in told
    assert list(Path(odd).iterdir()) == []


def test_an_error_about_an_odd_name_is_shown_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = 'name = "m"\n[schema]\nfeatures = { "p\\u001b[31m" = "float" }\nclasses = ["a", "b"]\n'
    (tmp_path / "model.toml").write_text(text)
    with pytest.raises(SystemExit):
        main(["register", str(tmp_path / "model.toml")])
    said = capsys.readouterr().err
    assert r"features.p\x1b[31m" in said
    assert "\x1b" not in said


def test_every_command_prints_through_the_one_door() -> None:
    folder = Path(common.__file__).parent
    others = [p.name for p in folder.glob("*.py") if "typer.echo(" in p.read_text()]
    assert others == ["common.py"]


def test_columns_with_commas_can_be_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    n = 1_000
    half = np.full(n, 0.5)
    rows = dict.fromkeys(("p, no", "p[0-1]", "x"), half)
    rows |= {"age_(20, 30]": np.array(["a", "b"] * (n // 2))}
    rows |= {"label": np.array([0, 1] * (n // 2)), "prediction": np.array([0, 1] * (n // 2))}
    pq.write_table(pa.table(rows), tmp_path / "s.parquet")
    file = str(tmp_path / "s.parquet")
    options = ["--scores", '"p, no",p[0-1]', "--slices", '"age_(20, 30]"']
    with pytest.raises(SystemExit) as stopped:
        main(["replay", file, "--reference", file, *options])
    assert stopped.value.code == 0
    assert "age_(20, 30] = a: accuracy 100.0%" in capsys.readouterr().out
