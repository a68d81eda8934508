"""Help that teaches: every command is described in whole words."""

from __future__ import annotations

import re

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from redistill.workers.cli.main import COMMANDS, app


@pytest.mark.parametrize("command", COMMANDS)
def test_no_description_is_cut(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "80"})
    assert shown.exit_code == 0
    assert re.findall(r"\w\.\.\.\n", shown.output) == []


def test_what_lists_or_shows_answers_programs_too() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    context = typer.Context(group)
    found = {}
    for name in COMMANDS:
        command = group.get_command(context, name)
        parts = command.commands if isinstance(command, TyperGroup) else {}
        found |= {f"{name} {part}": each for part, each in parts.items()}
        found |= {} if parts else {name: command}
    asked = {
        name
        for name in found
        if name.split()[-1] in ("list", "show", "models", "doctor", "check-history")
    }
    assert len(asked) >= 8
    silent = {n for n in asked if "--json" not in {o for p in found[n].params for o in p.opts}}
    assert silent == set()
