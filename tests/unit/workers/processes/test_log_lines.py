"""A log is followed line by line, also when the process changes files."""

from __future__ import annotations

import json
import os
from pathlib import Path

from redistill.workers.processes.log_lines import LogFollower, line_for_people


def test_only_what_is_new_and_whole_is_read(tmp_path: Path) -> None:
    path = tmp_path / "stream.log"
    path.write_text("old\n")
    follower = LogFollower(path)
    assert follower.lines() == []
    with path.open("a") as file:
        file.write("one\ntw")
    assert follower.lines() == ["one"]
    with path.open("a") as file:
        file.write("o\n")
    assert follower.lines() == ["two"]


def test_new_file_in_its_place_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "stream.log"
    follower = LogFollower(path)
    assert follower.lines() == []
    path.write_text("first\n")
    assert follower.lines() == ["first"]
    os.replace(path, tmp_path / "stream.log.1")
    path.write_text("second\n")
    assert follower.lines() == ["second"]


def test_an_exception_is_told_by_its_last_line() -> None:
    line = {"level": "error", "event": "flush_failed", "action": "flush_failed", "pid": 7}
    line["exception"] = "Traceback (most recent call last):\n  ...\nKeyError: 'x'"
    assert line_for_people(json.dumps(line)) == "flush_failed: exception=KeyError: 'x'"
