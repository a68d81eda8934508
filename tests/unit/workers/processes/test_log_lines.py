"""A log is followed line by line, also when the process changes files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from redistill.workers.processes.log_lines import LogFollower, line_for_people


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stream.log"


@pytest.fixture
def follow(path: Path) -> Iterator[Callable[[], LogFollower]]:
    """Follow the log from now on."""
    with ExitStack() as stack:

        def made() -> LogFollower:
            return stack.enter_context(closing(LogFollower(path)))

        yield made


def test_only_what_is_new_and_whole_is_read(path: Path, follow: Callable[[], LogFollower]) -> None:
    path.write_text("old\n")
    follower = follow()
    assert follower.lines() == []
    with path.open("a") as file:
        file.write("one\ntw")
    assert follower.lines() == ["one"]
    with path.open("a") as file:
        file.write("o\n")
    assert follower.lines() == ["two"]


def test_new_file_in_its_place_is_read_from_its_beginning(
    path: Path, follow: Callable[[], LogFollower]
) -> None:
    follower = follow()
    assert follower.lines() == []
    path.write_text("first\n")
    assert follower.lines() == ["first"]
    os.replace(path, path.with_name("stream.log.1"))
    path.write_text("second\n")
    assert follower.lines() == ["second"]


def test_nothing_is_lost_around_a_change_of_files(
    path: Path, follow: Callable[[], LogFollower]
) -> None:
    """A process writes to the old file until it has the new one: a crash is often all there is."""
    aside = path.with_name("stream.log.1")
    path.write_text("old\n")
    follower = follow()
    with path.open("a", buffering=1) as old:
        old.write("just before\n")
        os.replace(path, aside)
        path.write_text("new\n")
        assert follower.lines() == ["just before", "new"]
        old.write("in between\nand half a li")
    with path.open("a") as new:
        new.write("newer\n")
    assert follower.lines() == ["in between", "newer", "and half a li"]
    assert follower.lines() == []


def test_files_that_change_between_two_looks_are_read_to_their_end(
    path: Path, follow: Callable[[], LogFollower]
) -> None:
    follower = follow()
    path.write_text("first\n")
    assert follower.lines() == ["first"]
    with path.open("a") as file:
        file.write("last\n")
    os.replace(path, path.with_name("stream.log.1"))
    assert follower.lines() == ["last"], "the new one is not there yet"
    path.write_text("second\n")
    assert follower.lines() == ["second"]


def test_file_that_was_cut_is_read_from_its_beginning(
    path: Path, follow: Callable[[], LogFollower]
) -> None:
    path.write_text("long line that was there\n")
    follower = follow()
    path.write_text("cut\n")
    assert follower.lines() == ["cut"]


def test_an_exception_is_told_by_its_last_line() -> None:
    line = {"level": "error", "event": "flush_failed", "action": "flush_failed", "pid": 7}
    line["exception"] = "Traceback (most recent call last):\n  ...\nKeyError: 'x'"
    assert line_for_people(json.dumps(line)) == "flush_failed: exception=KeyError: 'x'"
