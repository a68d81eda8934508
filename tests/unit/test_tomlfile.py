"""TOML files as people and their editors write them, and what is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from redistill import tomlfile


def test_file_of_an_editor_on_windows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.toml"
    path.write_bytes(b'\xef\xbb\xbfname = "ok"\r\n[schema]\r\n')
    assert tomlfile.parse(tomlfile.read(path), path) == {"name": "ok", "schema": {}}


def test_file_that_is_not_there_is_the_callers_matter(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tomlfile.read(tmp_path / "model.toml")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\xff\xfe", "cannot be read: 'utf-8'"),
        (b"[[[", "is not TOML: "),
        (b"x = " + b"[" * 5_000 + b"]" * 5_000, "nested too deeply"),
        (b"x = " + b"{a=" * 5_000, "nested too deeply"),
    ],
)
def test_what_is_wrong_is_a_sentence(tmp_path: Path, data: bytes, told: str) -> None:
    path = tmp_path / "model.toml"
    path.write_bytes(data)
    with pytest.raises(tomlfile.TomlError, match=told) as raised:
        tomlfile.parse(tomlfile.read(path), path)
    assert str(path) in str(raised.value)


def test_folder_and_what_has_no_end_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(tomlfile.TomlError, match="cannot be read"):
        tomlfile.read(tmp_path)
    monkeypatch.setattr(tomlfile, "MAX_BYTES", 1_000)
    with pytest.raises(tomlfile.TomlError, match="more than 1,000 bytes"):
        tomlfile.read(Path("/dev/zero"))
