"""Commands whose libraries are not installed, or do not load, say so in one line and end with
status 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from redistill import child_path, extras
from redistill.workers.cli.main import COMMANDS, EXTRAS, app, main
from redistill.workers.exit_codes import ExitCode


def every() -> list[str]:
    """Every command with its subcommands, as they are typed."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    context = typer.Context(group)
    found = []
    for name in COMMANDS:
        command = group.get_command(context, name)
        parts = command.list_commands(context) if isinstance(command, TyperGroup) else []
        found += [name, *(f"{name} {part}" for part in parts)]
    return found


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "_home", lambda name: None)


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize("words", every())
def test_command_says_which_extra_it_needs(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    by = next(w for w in (words, words.split()[0]) if words in EXTRAS or w in COMMANDS)
    extra = EXTRAS.get(by, "worker")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"redistill {by} needs redistill[{extra}]: pip install 'redistill[{extra}]'\n"


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize("words", ["--help", "--version", "topics --help", "topics apply -h"])
def test_help_and_version_need_no_extra(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 0
    assert capsys.readouterr().err == ""


def test_help_of_a_command_loads_no_library_of_an_extra() -> None:
    modules = ", ".join(f"redistill.workers.cli.{name.replace('-', '_')}" for name in COMMANDS)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {modules}; print(*sys.modules)"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert (
        loaded & {"kafka", "numpy", "pyarrow", "pydantic", "sqlalchemy", "onnxruntime", "torch"}
        == set()
    )


@pytest.mark.parametrize("library", ["pydantic_settings", "sqlalchemy"])
def test_library_that_does_not_load_is_named(tmp_path: Path, library: str) -> None:
    (tmp_path / library).mkdir()
    (tmp_path / library / "__init__.py").write_text("raise ImportError('libx.so: no such file')")
    done = subprocess.run(
        [sys.executable, "-m", "redistill", "models"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        f"redistill models: {library} is broken (libx.so: no such file): pip install"
    )


def test_defect_of_ours_keeps_its_traceback_and_has_a_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "redistill.workers.cli.models", None)
    with pytest.raises(SystemExit) as ended:
        main(["models"])
    assert ended.value.code == ExitCode.DEFECT
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "redistill.workers.cli.models" in said


def test_output_that_nobody_reads_on_is_no_answer(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "redistill", "models", "--json"],
            env={**child_path.variables(), "REDISTILL_HOME": str(tmp_path)},
            stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (ExitCode.FAILED, "")
