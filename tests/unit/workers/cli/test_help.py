"""Help that teaches: every command is described in whole words."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from redistill.workers.cli.main import COMMANDS, app


@pytest.mark.parametrize("command", COMMANDS)
def test_no_description_is_cut(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "80"})
    assert shown.exit_code == 0
    assert re.findall(r"\w\.\.\.\n", shown.output) == []
