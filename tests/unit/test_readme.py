"""README and runbook are true: their commands exist with the options they use, links lead somewhere,
code compiles.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from redistill.workers.cli.main import COMMANDS, app

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text()
SHOWN = [
    TEXT,
    *(
        (ROOT / f).read_text()
        for f in (
            "deploy/RUNBOOK.md",
            "CONTRIBUTING.md",
            "docs/commands.md",
            "docs/threat-model.md",
        )
    ),
]


def blocks(language: str, text: str = TEXT) -> list[str]:
    """Fenced blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def commands(text: str = TEXT) -> list[list[str]]:
    """Every command line of the console blocks, split into words, without its comment."""
    lines = [
        line[2:]
        for block in blocks("console", text)
        for line in block.splitlines()
        if line.startswith("$ ")
    ]
    return [shlex.split(line, comments=True) for line in lines]


def shown() -> list[list[str]]:
    """Every ``redistill`` command that a document shows, in a block or in a sentence, once."""
    lines = [words for text in SHOWN for words in commands(text) if words[0] == "redistill"]
    inline = [w for text in SHOWN for w in re.findall(r"`(redistill [a-z][^`\n]*)`", text)]
    lines += [shlex.split(line.replace("...", "x")) for line in inline]
    return sorted({tuple(words): words for words in lines}.values())


def find(name: str) -> Any:
    """A command by its name."""
    group: Any = typer.main.get_command(app)
    command = group.get_command(typer.Context(group), name)
    assert command is not None, f"there is no command {name}"
    return command


@pytest.mark.parametrize("words", shown(), ids=" ".join)
def test_command_exists_with_its_options(words: list[str]) -> None:
    command, rest = find(words[1]), words[2:]
    while isinstance(command, TyperGroup) and rest and not rest[0].startswith("-"):
        found = command.get_command(typer.Context(command), rest[0])
        assert found is not None, f"{words[1]} has no command {rest[0]}"
        command, rest = found, rest[1:]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word.split("=")[0] for word in rest if word.startswith("--")} <= known
    if not isinstance(command, TyperGroup):
        command.make_parser(typer.Context(command)).parse_args(list(rest))


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    used = {words[1] for words in commands() if words[0] == "make"} | set(
        re.findall(r"`make ([a-z-]+)", TEXT)
    )
    assert {"demo", "test"} <= used <= targets


def test_links_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link.split("#")[0]).exists()] == []


def test_code_compiles_and_takes_about_ten_lines() -> None:
    (code,) = blocks("python")
    compile(code, "README.md", "exec")
    assert len([line for line in code.splitlines() if line.strip()]) <= 12


def test_every_command_has_help() -> None:
    for name in COMMANDS:
        assert len((find(name).help or "").strip()) > 20, f"{name} --help teaches nothing"


def test_gate_calls_the_test_command_of_the_readme() -> None:
    assert ["make", "test"] in [c[:2] for c in commands()]
    assert re.search(r"^make test\b", (ROOT / ".ci" / "run").read_text(), re.M)
