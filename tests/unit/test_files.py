from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redistill import files

DATA = b"whole" * 1_000
SHA256 = hashlib.sha256(DATA).hexdigest()


def source(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "source"
    path.write_bytes(DATA)
    return path


WAYS: dict[str, Callable[[Path], Any]] = {
    "write": lambda path: files.write(path, DATA),
    "write_unsynced": lambda path: files.write_unsynced(path, DATA),
    "create": lambda path: files.create(path, DATA),
    "copy": lambda path: files.copy(source(path.parent.parent / "from"), path, sha256=SHA256),
}
REPLACING = [name for name in WAYS if name != "create"]
SYNCED = [name for name in WAYS if name != "write_unsynced"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "to").mkdir()
    return tmp_path / "to" / "name"


@pytest.mark.parametrize("way", WAYS)
def test_a_file_is_made_and_nothing_else(path: Path, way: str) -> None:
    WAYS[way](path)
    assert [(p, p.read_bytes()) for p in path.parent.iterdir()] == [(path, DATA)]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("way", REPLACING)
def test_a_file_is_replaced_and_never_changed(path: Path, way: str) -> None:
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        WAYS[way](path)
        assert reader.read() == b"old"
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("way", SYNCED)
def test_the_bytes_are_forced_to_the_disk_before_the_name_and_then_the_name(
    path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def telling(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(first: Any, *rest: Any) -> Any:
            kind = name
            if name == "fsync":
                kind = "folder" if stat.S_ISDIR(os.fstat(first).st_mode) else "file"
            done.append(kind)
            return real(first, *rest)

        return call

    for name in ("fsync", "replace", "link"):
        monkeypatch.setattr(os, name, telling(name, getattr(os, name)))
    WAYS[way](path)
    assert done in (["file", "replace", "folder"], ["file", "link", "folder"])


@pytest.mark.parametrize("there", [None, b"old"])
@pytest.mark.parametrize("way", SYNCED)
def test_a_full_disk_leaves_the_old_file_or_none(
    path: Path, way: str, there: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if there is not None:
        path.write_bytes(there)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        WAYS[way](path)
    assert [p.read_bytes() for p in path.parent.iterdir()] == ([] if there is None else [there])


def test_a_private_file_is_private_from_the_first_moment(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(b"old")  # for all to read
    modes: list[int] = []
    real = os.fsync

    def telling(descriptor: int) -> None:
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", telling)
    files.write(path, DATA, mode=files.PRIVATE)
    assert modes[0] == stat.S_IMODE(path.stat().st_mode) == 0o600


def test_create_leaves_what_is_there(path: Path) -> None:
    assert files.create(path, b"first", mode=files.PRIVATE) is True
    assert files.create(path, b"second") is False
    assert [p.read_bytes() for p in path.parent.iterdir()] == [b"first"]


def test_one_of_many_creators_wins_and_all_read_the_same(path: Path) -> None:
    start = threading.Barrier(8)
    won: list[int] = []

    def run(i: int) -> None:
        start.wait()
        if files.create(path, bytes([i]) * 100_000):
            won.append(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert path.read_bytes() == bytes(won) * 100_000


def test_copy_refuses_other_bytes_and_leaves_what_is_there(path: Path, tmp_path: Path) -> None:
    path.write_bytes(b"old")
    assert files.copy(source(tmp_path / "from"), path, sha256="0" * 64) is False
    assert [p.read_bytes() for p in path.parent.iterdir()] == [b"old"]


def test_put_replaces_a_file_or_a_folder_whole(tmp_path: Path) -> None:
    for text in ("one", "two"):
        part = tmp_path / "work" / ".part"
        (part / "deep").mkdir(parents=True)
        (part / "deep" / text).write_text(text)
        files.put(part, tmp_path / "final")
        assert [p.name for p in (tmp_path / "final").rglob("*")] == ["deep", text]
        file = tmp_path / "work" / ".file"
        file.write_text(text)
        files.put(file, tmp_path / "file")
        assert (tmp_path / "file").read_text() == text
    assert list((tmp_path / "work").iterdir()) == []


def test_put_forces_all_that_a_folder_holds_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = tmp_path / "part"
    (part / "deep").mkdir(parents=True)
    (part / "deep" / "x").write_text("x")
    inodes = {p.stat().st_ino for p in [tmp_path, part, *part.rglob("*")]}
    forced: set[int] = set()
    real = os.fsync

    def telling(descriptor: int) -> None:
        forced.add(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", telling)
    files.put(part, tmp_path / "final")
    assert forced == inodes


def test_what_a_killed_writer_left_is_found(path: Path) -> None:
    def killed() -> Iterator[Path]:
        with files._beside(path, files.UMASKED) as file:
            file.write(b"half")
            yield from files.unfinished(path.parent)

    assert len(list(killed())) == 1
    assert list(files.unfinished(path.parent)) == []


@given(st.binary(max_size=5_000))
def test_a_hash_is_that_of_the_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "hashed"
    path.write_bytes(data)
    expected = hashlib.sha256(data).hexdigest()
    assert files.sha256_of(path) == files.sha256_of_tree(path) == expected
    assert files.sha256_of_bytes(data) == expected


def test_the_hash_of_a_folder_is_about_names_and_contents(tmp_path: Path) -> None:
    def of(**contents: str) -> str:
        folder = tmp_path / "-".join(contents) / "".join(contents.values())
        for name, text in contents.items():
            (folder / name).mkdir(parents=True)
            (folder / name / "f").write_text(text)
        return files.sha256_of_tree(folder)

    hashes = {of(a="1"), of(a="2"), of(b="1"), of(a="1", b="1")}
    assert len(hashes) == 4
