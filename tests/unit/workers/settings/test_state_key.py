from __future__ import annotations

import stat
from pathlib import Path

import pytest

from redistill.workers.errors import SettingsError
from redistill.workers.settings.state_key import stored_key


def test_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "state.key"
    key = stored_key(path)
    assert len(key) == 32
    assert stored_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [p.name for p in path.parent.iterdir()] == ["state.key"]


def test_two_homes_have_two_keys(tmp_path: Path) -> None:
    assert stored_key(tmp_path / "a") != stored_key(tmp_path / "b")


def test_key_that_another_process_made_meanwhile_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.key"
    exists = Path.exists

    def just_before(self: Path, **options: bool) -> bool:
        found = exists(self, **options)
        if self == path and not found:
            path.write_text("ab" * 32)
        return found

    monkeypatch.setattr(Path, "exists", just_before)
    assert stored_key(path) == bytes.fromhex("ab" * 32)
    assert [p.name for p in tmp_path.iterdir()] == ["state.key"]


def test_key_of_somebody_is_read_with_its_line_end(tmp_path: Path) -> None:
    path = tmp_path / "state.key"
    path.write_text("00ff" * 8 + "\n")
    assert stored_key(path) == bytes.fromhex("00ff" * 8)


def test_file_without_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "state.key"
    path.write_text("not a key")
    with pytest.raises(SettingsError, match="does not hold a hexadecimal key") as caught:
        stored_key(path)
    assert "not a key" not in str(caught.value)
    assert path.read_text() == "not a key"


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"file/state\.key cannot be read or made"):
        stored_key(tmp_path / "file" / "state.key")


@pytest.mark.parametrize("text", ["", "\n", "00ff"])
def test_key_that_anybody_has_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.key"
    path.write_text(text)
    with pytest.raises(SettingsError, match="16 are the least"):
        stored_key(path)
    assert path.read_text() == text
