"""What is mistyped is answered with what was meant, and the shell completes what is not typed yet."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import loop
import pytest
import repairable
from typer.testing import CliRunner

from redistill.workers.cli.main import app
from redistill.workers.store import opening


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("modls", "'models'"),
        ("UP", "'up'"),
        ("chek-history", "'check-history'"),
        ("incidents lst", "'list'"),
        ("topics aply", "'apply'"),
        ("models --jsn", "--json"),
        ("incidents list --modl x", "--model"),
    ],
)
def test_mistyped_word_is_answered_with_the_one_that_was_meant(typed: str, meant: str) -> None:
    result = CliRunner().invoke(app, typed.split())
    assert result.exit_code == 2
    assert meant in result.output


@pytest.mark.parametrize(
    "typed", [("jobs", "show", "{}"), ("recompress", "{}"), ("recompress", "a", "--source", "{}"),
              ("publish", "a", "{}"), ("register", "{}", "--from-traffic")],
)  # fmt: skip
def test_bytes_that_are_no_text_are_refused_but_for_names_of_files(
    typed: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDISTILL_HOME", str(tmp_path / "home"))
    result = CliRunner().invoke(app, [word.format("\udcffx") for word in typed])
    assert result.exit_code == 2
    assert "'\\udcffx' is not UTF-8" in result.output
    assert not (tmp_path / "home").exists()


def test_file_whose_name_is_no_text_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDISTILL_HOME", str(tmp_path / "home"))
    path = tmp_path / "caf\udce9.toml"
    path.write_text("name = ")
    told = CliRunner().invoke(app, ["register", str(path)]).exception
    assert "is not TOML" in str(told)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    settings = repairable.settings_of(tmp_path / "home")
    database = opening.open(settings)
    with database.begin() as conn:
        loop.register(conn, loop.spec("credit"))
        loop.register(conn, loop.spec("fraud", level="watch"))
    database.dispose()
    return settings.root


@pytest.mark.parametrize(
    "typed", ["models crdit", "incidents list --model crdit", "jobs --model crdit", "publish crdit 1", "recompress crdit"]
)  # fmt: skip
def test_mistyped_model_is_answered_with_the_one_that_was_meant(
    typed: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDISTILL_HOME", str(home))
    told = CliRunner().invoke(app, typed.split()).exception
    assert getattr(told, "exit_code", None) == 2
    assert str(told).endswith("did you mean 'credit'?")


@pytest.mark.parametrize("typed", ["publish fraud 1", "rollback fraud", "add fraud 2 x.onnx"])
def test_watched_model_is_refused_for_its_level_and_not_for_missing_keys(
    typed: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDISTILL_HOME", str(home))
    told = CliRunner().invoke(app, typed.split()).exception
    assert "level watch" in str(told)


@pytest.mark.parametrize("typed", [("publish", "credit", ""), ("rollback", "credit", "--to", "")])
def test_empty_version_is_a_wrong_name_and_not_the_default(
    typed: tuple[str, ...], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of ``--to "$PREVIOUS"`` where the shell's variable is not set."""
    monkeypatch.setenv("REDISTILL_HOME", str(home))
    told = CliRunner().invoke(app, typed).exception
    assert getattr(told, "exit_code", None) == 2
    assert str(told).startswith("credit has no version ''")


AS_INSTALLED = """
import sys
from redistill.workers.cli.main import main
sys.argv[0] = "redistill"
main()
"""


def completed(shell: str, words: str, home: Path | None = None) -> str:
    env = {**os.environ, "_REDISTILL_COMPLETE": f"complete_{shell}"}
    env |= {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - (not words.endswith(" ")))}
    env |= {"_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    if home is not None:
        env["REDISTILL_HOME"] = str(home)
    done = subprocess.run(
        [sys.executable, "-c", AS_INSTALLED],
        env=env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completes_commands_options_and_models(shell: str, home: Path) -> None:
    assert "models" in completed(shell, "redistill mod")
    assert "credit" in completed(shell, "redistill models cre", home)
    assert "fraud" in completed(shell, "redistill incidents list --model ", home)


def test_completion_without_a_database_says_nothing(tmp_path: Path) -> None:
    assert completed("bash", "redistill models c", tmp_path / "none").strip() == ""
    assert not (tmp_path / "none").exists()
