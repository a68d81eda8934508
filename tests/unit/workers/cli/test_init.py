"""The command `init` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import linear
import pytest
from typer.testing import CliRunner, Result

from redistill.workers.cli import main
from redistill.workers.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDISTILL_HOME", str(tmp_path / "home"))
    linear.forest(tmp_path / "forest.onnx")
    return tmp_path


def init(*options: str) -> Result:
    return CliRunner().invoke(main.app, ["init", "--onnx", "forest.onnx", *options])


def test_file_is_written_and_what_is_missing_is_said(folder: Path) -> None:
    result = init()
    assert result.exit_code == 0, (result.output, result.exception)
    assert 'onnx = "forest.onnx"' in (folder / "model.toml").read_text()
    assert "trusted = " in result.output
    assert "redistill register model.toml --dry-run" in result.output
    assert not (folder / "home").exists(), "no database is needed"


def test_paths_are_relative_to_the_file_that_is_written(folder: Path) -> None:
    (folder / "deep").mkdir()
    result = init("--out", "deep/m.toml", "--json")
    assert 'onnx = "../forest.onnx"' in (folder / "deep" / "m.toml").read_text()
    found = json.loads(result.stdout)
    assert found["file"] == "deep/m.toml"
    assert len(found["to_fill_in"]) == 3


def test_what_to_type_next_can_be_typed(folder: Path) -> None:
    result = init("--out", "a b.toml")
    assert "then: redistill register 'a b.toml' --dry-run" in result.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--out", "forest.onnx"), "forest.onnx exists already"),
        (("--out", "."), "is a folder: name the file"),
        (("--out", "gone/m.toml"), "cannot be written: No such file"),
    ],
)
def test_nothing_is_written_over(folder: Path, options: tuple[str, ...], said: str) -> None:
    before = (folder / "forest.onnx").read_bytes()
    result = init(*options)
    assert isinstance(result.exception, UsageError)
    assert said in str(result.exception)
    assert (folder / "forest.onnx").read_bytes() == before


def test_model_that_nobody_saw_is_told_with_those_that_were(folder: Path) -> None:
    result = init("--from-traffic", "credit")
    assert isinstance(result.exception, UsageError)
    assert "no rows of 'credit' were seen" in str(result.exception)
    assert not (folder / "model.toml").exists()
