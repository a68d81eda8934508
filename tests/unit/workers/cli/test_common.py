"""What the commands share: a bare group lists, tables fold, JSON is one document."""

from __future__ import annotations

import json

import pytest
import typer
from rich.cells import cell_len
from typer.testing import CliRunner

from redistill.workers.cli import common

app = typer.Typer(cls=common.Listing)


@app.command("list")
def listing(all_: bool = typer.Option(False, "--all")) -> None:
    typer.echo(f"listed {all_}")


@app.command()
def show(name: str) -> None:
    typer.echo(f"shown {name}")


@pytest.mark.parametrize(
    ("words", "expected"),
    [([], "listed False"), (["--all"], "listed True"), (["show", "x"], "shown x")],
)
def test_a_bare_group_lists(words: list[str], expected: str) -> None:
    assert CliRunner().invoke(app, words).output.strip() == expected


def test_help_of_a_group_is_still_its_help() -> None:
    assert "show" in CliRunner().invoke(app, ["--help"]).stdout


def test_say_is_a_sentence_or_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    common.say({"version": "2"}, "version 2 serves", as_json=False)
    common.say({"version": "2"}, "version 2 serves", as_json=True)
    first, _, rest = capsys.readouterr().out.partition("\n")
    assert first == "version 2 serves"
    assert json.loads(rest) == {"version": "2"}


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(59.9, "59.9 s"), (60, "1.0 min"), (3_600, "1.0 h"), (86_400, "1.0 days"), (-90, "-1.5 min")],
)
def test_durations_take_the_unit_that_suits_them(seconds: float, expected: str) -> None:
    assert common.duration(seconds) == expected


def test_the_actor_is_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common.getpass, "getuser", lambda: "ada")
    assert common.actor() == "cli:ada"


def test_tables_fold_long_cells_and_never_cut() -> None:
    table = common.table("name", "why")
    table.add_row("credit", "x" * 300)
    console = common.console()
    with console.capture() as shown:
        console.print(table)
    assert shown.get().count("x") == 300


def test_wide_characters_take_two_cells_of_a_line() -> None:
    said = common.paragraph("region=" + "日本 " * 20 + "`do 日本`", width=40)
    lines = said.splitlines()
    assert len(lines) > 2
    assert all(cell_len(line) <= 40 for line in lines)
    assert said.split() == ["region=日本", *["日本"] * 19, "`do", "日本`"]
