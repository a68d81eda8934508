"""Logs of processes: their owner's alone, never too large, and nothing lost while they change."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from redistill.workers.processes import log_file
from redistill.workers.processes.log_file import LogFile, numbered, open_log


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "web.log"


@pytest.fixture
def descriptor(path: Path) -> Iterator[int]:
    made = open_log(path)
    yield made
    os.close(made)


def log_of(path: Path, descriptor: int) -> LogFile:
    return LogFile(path, descriptors=(descriptor,), limit=10, kept=2)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_log_is_its_owners_whatever_it_was(path: Path) -> None:
    path.write_text("old\n")
    path.chmod(0o666)
    before = os.umask(0)
    try:
        descriptor = open_log(path)
    finally:
        os.umask(before)
    os.write(descriptor, b"new\n")
    os.close(descriptor)
    assert (path.read_text(), mode(path)) == ("old\nnew\n", 0o600)


def test_a_large_log_is_put_aside_and_the_oldest_goes(path: Path, descriptor: int) -> None:
    log = log_of(path, descriptor)
    for word in (b"first", b"second", b"third", b"fourth"):
        os.write(descriptor, word + b" 123456789\n")
        log.look()
        log.look()  # nothing more to do
    found = {p.name: p.read_bytes() for p in path.parent.iterdir()}
    assert found == {
        "web.log": b"",
        "web.log.1": b"fourth 123456789\n",
        "web.log.2": b"third 123456789\n",
    }
    assert {mode(p) for p in path.parent.iterdir()} == {0o600}


def test_a_log_that_somebody_moved_is_made_anew(path: Path, descriptor: int) -> None:
    log = log_of(path, descriptor)
    path.rename(path.with_name("elsewhere"))
    log.look()
    os.write(descriptor, b"a")
    assert path.read_bytes() == b"a"
    other = path.with_name("other")
    other.touch()
    os.replace(other, path)  # or a second process put it aside
    log.look()
    os.write(descriptor, b"b")
    assert path.read_bytes() == b"b"


def test_a_place_that_takes_no_file_changes_nothing(
    path: Path, descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    os.write(descriptor, b"more than ten bytes")
    monkeypatch.setattr(log_file, "open_log", full)
    log_of(path, descriptor).look()
    os.write(descriptor, b", and more")
    assert path.read_bytes() == b"more than ten bytes, and more"
    assert not numbered(path, 1).exists()


PROGRAM = """if True:
    import ctypes, sys, threading, time
    from pathlib import Path
    from redistill.workers.processes import log_file
    log_file.LOOK_SECONDS = 0.001
    log_file.LogFile(Path(sys.argv[1]), limit=2_000, kept=100).follow()

    def write(name):
        for number in range(3_000):
            sys.stderr.write(f"{name} {number}\\n")
            if number % 200 == 0:
                time.sleep(0.005)

    writers = [threading.Thread(target=write, args=(n,)) for n in "ab"]
    for writer in writers: writer.start()
    for writer in writers: writer.join()
    ctypes.string_at(0)  # what a crash says is in the log, too
"""


def test_nothing_is_lost_while_files_change(path: Path) -> None:
    out = open_log(path)
    command = [sys.executable, "-X", "faulthandler", "-c", PROGRAM, str(path)]
    ended = subprocess.run(command, stdout=out, stderr=out, check=False)
    os.close(out)
    assert ended.returncode < 0
    aside = sorted(path.parent.glob("web.log.*"), key=lambda p: -int(p.suffix[1:]))
    text = "".join(p.read_text() for p in [*aside, path])
    assert len(aside) > 1
    for name in "ab":
        lines = [line for line in text.splitlines() if line.startswith(f"{name} ")]
        assert lines == [f"{name} {n}" for n in range(3_000)]
    assert "Segmentation fault" in text
