"""Modes of files: what is the owner's alone, what obeys the user, and homes that were left open."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from redistill import modes

OURS = frozenset({"redistill.db", "keys", "objects"})


@pytest.fixture
def private() -> Iterator[None]:
    """As in a process of ours, and as before at the end."""
    before = os.umask(0o022)
    modes.keep_private()
    yield
    modes._given.clear()
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_process_keeps_its_files_private_but_what_the_user_asked_for(tmp_path: Path) -> None:
    program = """if True:
        import sys
        from pathlib import Path
        from redistill import modes
        folder = Path(sys.argv[1])
        modes.keep_private()
        modes.keep_private()  # a second time changes nothing
        (folder / "ours").touch()
        with modes.as_the_user_has_it():
            (folder / "theirs").touch()
        (folder / "again").touch()
    """
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, umask=0o027)
    found = {path.name: mode(path) for path in tmp_path.iterdir()}
    assert found == {"ours": 0o600, "theirs": 0o640, "again": 0o600}


def test_a_library_changes_no_mask(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with modes.as_the_user_has_it():
            (tmp_path / "file").touch()
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
    assert mode(tmp_path / "file") == 0o644


def test_folders_above_a_private_one_are_private_too(tmp_path: Path) -> None:
    above = mode(tmp_path)
    modes.private_folder(tmp_path / "home" / "keys")
    modes.private_folder(tmp_path / "home" / "keys")
    assert (mode(tmp_path / "home"), mode(tmp_path / "home" / "keys")) == (0o700, 0o700)
    assert mode(tmp_path) == above


def opened(home: Path) -> Path:
    """A home as an earlier version left it."""
    (home / "objects" / "ab").mkdir(parents=True)
    for name in ("redistill.db", "objects/ab/abc", ".hidden"):
        (home / name).touch()
        (home / name).chmod(0o664)
    for folder in (home / "objects" / "ab", home / "objects", home):
        folder.chmod(0o775)
    return home


@pytest.mark.usefixtures("private")
def test_a_home_that_was_open_is_closed_with_all_below_it(tmp_path: Path) -> None:
    home = opened(tmp_path / "home")
    outside = tmp_path / "outside"
    outside.touch(0o644)
    outside.chmod(0o644)
    (home / "objects" / "link").symlink_to(outside)
    assert modes.close_to_others(home, OURS)
    assert not modes.close_to_others(home, OURS)  # once
    assert (mode(home), mode(home / "redistill.db")) == (0o700, 0o600)
    assert (mode(home / "objects" / "ab"), mode(home / "objects" / "ab" / "abc")) == (0o700, 0o600)
    assert mode(outside) == 0o644


@pytest.mark.usefixtures("private")
def test_a_project_that_serves_as_home_stays_as_it_is_but_for_ours(tmp_path: Path) -> None:
    home = opened(tmp_path / "project")
    (home / "main.py").touch()
    (home / "main.py").chmod(0o644)
    assert modes.close_to_others(home, OURS)
    assert (mode(home), mode(home / "main.py")) == (0o775, 0o644)
    assert (mode(home / "objects"), mode(home / "redistill.db")) == (0o700, 0o600)
    assert not modes.close_to_others(home, OURS)


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="access lists as Linux keeps them")
@pytest.mark.usefixtures("private")
def test_an_access_list_is_left_as_it_is(tmp_path: Path) -> None:
    home = opened(tmp_path / "home")
    entries = [(0x01, 7, 0xFFFFFFFF), (0x02, 5, 4_711), (0x04, 0, 0xFFFFFFFF)]
    entries += [(0x10, 5, 0xFFFFFFFF), (0x20, 0, 0xFFFFFFFF)]
    data = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(home / "objects", "system.posix_acl_access", data)
    except OSError as error:
        pytest.skip(f"no access lists here: {error.strerror}")
    assert modes.close_to_others(home, OURS)
    assert mode(home / "objects") == 0o750  # its mask, which looks like a group's
    assert mode(home / "redistill.db") == 0o600


@pytest.mark.usefixtures("private")
def test_a_home_that_is_not_there_is_nothing_to_close(tmp_path: Path) -> None:
    assert not modes.close_to_others(tmp_path / "none", OURS)


def test_who_keeps_nothing_private_closes_nothing(tmp_path: Path) -> None:
    assert not modes.close_to_others(opened(tmp_path / "home"), OURS)
