"""Exit codes are one set: no command makes up its own, and what is documented is what is used."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

from redistill.streams.engine import health
from redistill.workers import errors
from redistill.workers.cli import answers
from redistill.workers.cli.main import COMMANDS
from redistill.workers.exit_codes import ExitCode

CLI = Path(answers.__file__).parent
ENDS = {"Exit", "exit", "SystemExit", "_leave"}
RAISED = {"publish": {"REFUSED", "NOT_IN_TIME"}, "rollback": {"REFUSED", "NOT_IN_TIME"}}
RAISED |= {"register": {"REFUSED", "NOT_IN_TIME"}, "recompress": {"NOT_IN_TIME"}}
RAISED |= {"unbar": {"REFUSED"}}
"""Codes of errors that come from below (``redistill.workers.errors``)."""
BELOW = {"demo": {"REFUSED"}, "run": {"STUCK"}}
"""Codes that a command hands on."""
PLAIN = {"OK", "FAILED", "USAGE", "DEFECT"}


def trees() -> dict[str, ast.Module]:
    story = CLI.parent / "demo" / "run.py"
    paths = {path.stem: path for path in CLI.glob("*.py")} | {"demo/run": story}
    return {name: ast.parse(path.read_text()) for name, path in paths.items()}


def test_no_exit_code_is_a_bare_number() -> None:
    bare = [
        (name, node.lineno)
        for name, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] in ENDS
        and any(isinstance(a, ast.Constant) and isinstance(a.value, int) and a.value != 143 for a in node.args)
    ]  # fmt: skip
    assert bare == []


def test_answers_are_those_that_the_commands_use() -> None:
    documented = defaultdict(set)
    for command, codes in answers.ANSWERS.items():
        documented[command.partition(" ")[0]] |= {code.name for code in codes}
    used = {
        name: {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "ExitCode"
        }
        for name, tree in trees().items()
    }
    for command in COMMANDS:
        name = command.replace("-", "_")
        found = used[name] | RAISED.get(command, set()) | BELOW.get(command, set())
        assert found - PLAIN == documented[command], command


def test_errors_have_codes_of_the_set_and_what_failed_is_no_answer() -> None:
    for name in errors.__all__:
        assert isinstance(getattr(errors, name).exit_code, ExitCode)
    assert errors.DatabaseError.exit_code is errors.KeysError.exit_code is ExitCode.FAILED
    given = {code for codes in answers.ANSWERS.values() for code in codes}
    assert not given & {ExitCode.OK, ExitCode.USAGE, ExitCode.FAILED, ExitCode.DEFECT}


def test_streams_end_with_the_codes_of_the_set() -> None:
    assert (health.CANNOT_START, health.EXIT_STATUS) == (ExitCode.FAILED, ExitCode.STUCK)
