"""The cache of a service: shared, and it may be full, read-only or gone."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_disks import fill, read_only, small_disk

from redistill.streams.client import cache as module
from redistill.streams.client.cache import Cache, reason
from redistill.streams.errors import ReleaseError


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", "key")


def test_place_is_private_and_not_for_others(tmp_path: Path) -> None:
    made = Cache(tmp_path / "a" / "cache", "key")
    assert made.folder == tmp_path / "a" / "cache" / "key"
    assert made.folder.stat().st_mode & 0o077 == 0
    made.folder.chmod(0o777)  # somebody else could put a release there
    with pytest.raises(ReleaseError, match="others may write"):
        Cache(tmp_path / "a" / "cache", "key")
    with pytest.raises(ReleaseError, match="others may write"), made.locked():
        pass


def test_default_is_the_users_own_and_a_private_one_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    usual = Cache(None, "key").folder
    assert usual == tmp_path / "me" / ".cache" / "redistill" / "key"
    usual.chmod(0o777)
    private = Cache(None, "key").folder
    assert not private.is_relative_to(tmp_path / "me")
    assert private.stat().st_mode & 0o077 == 0
    assert f"others may write to it; {private} is used" in caplog.text
    shutil.rmtree(private)


def test_releases_that_are_not_kept_are_forgotten(cache: Cache) -> None:
    for name in ("kept", "stale", ".new-x"):
        cache.release("credit", name).mkdir(parents=True)
    cache.forget("credit", {"kept"})
    cache.forget("a model without any", set())
    assert sorted(p.name for p in cache.releases("credit").iterdir()) == [".new-x", "kept"]


def test_what_killed_downloads_left_is_removed_by_the_next(cache: Cache) -> None:
    (cache.release("credit", ".new-killed") / "more").mkdir(parents=True)
    with cache.locked(), cache.part("credit") as part:
        (part / "file").write_bytes(b"x")
        assert [p.name for p in part.parent.iterdir()] == [part.name]
    assert list(cache.releases("credit").iterdir()) == []


def test_one_process_at_a_time(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    with (cache.folder / "lock").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        monkeypatch.setattr(module, "LOCK_SECONDS", 0.0)
        with pytest.raises(ReleaseError, match="stayed locked by another process"), cache.locked():
            pass
        monkeypatch.undo()
        threading.Timer(0.05, fcntl.flock, args=(other, fcntl.LOCK_UN)).start()
        with cache.locked():
            pass


def test_one_process_tries_a_release_at_a_time_unless_it_takes_too_long(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (cache.folder / "trying").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        threading.Timer(0.05, fcntl.flock, args=(other, fcntl.LOCK_UN)).start()
        with cache.trying(), cache.locked(), pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_EX)
        monkeypatch.setattr(module, "TRY_SECONDS", 0.0)
        with cache.trying():
            pass  # better twice than never


def test_child_forked_under_the_lock_lets_go_of_it(cache: Cache) -> None:
    """It may live longer than its parent, and nobody in it would ever unlock."""
    with cache.locked(), cache.trying():
        if (pid := os.fork()) == 0:
            cache.forked()
            held = [
                os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if _is(n)
            ]
            os._exit(any(str(cache.folder) in name for name in held))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _is(number: str) -> bool:
    return os.path.exists(f"/proc/self/fd/{number}")


def test_folder_that_was_removed_comes_back(cache: Cache) -> None:
    shutil.rmtree(cache.folder.parent)
    with cache.locked(), cache.part("credit"):
        pass
    assert (cache.folder / "metadata").is_dir()
    assert cache.trouble is None


def test_trouble_is_told_until_a_look_goes_well(cache: Cache) -> None:
    with cache.locked():
        cache.failed(OSError(errno.ENOSPC, "No space left on device", "/some/tmp123"))
    assert cache.trouble is not None
    assert "No space left on device; a restart" in cache.trouble
    assert "tmp123" not in cache.trouble, "the message is the same at each look"
    with cache.locked():
        pass
    assert cache.trouble is None
    assert reason(OSError("told")) == "told"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as folder:
        yield folder


@pytest.mark.parametrize("spoil", [fill, read_only])
def test_start_where_nothing_can_be_written(disk: Path, spoil: Callable[[Path], None]) -> None:
    """What is there is used; where nothing is, a temporary folder is."""
    before = Cache(disk / "cache", "known").folder
    spoil(disk)
    known, new = Cache(disk / "cache", "known"), Cache(disk / "other", "new")
    assert known.folder == before
    with known.locked():
        pass  # reading needs no more
    assert not new.folder.is_relative_to(disk)
    with new.locked(), new.part("credit") as part:
        (part / "file").write_bytes(bytes(100_000))
    shutil.rmtree(new.folder, ignore_errors=True)
