"""``redistill up``: one command, four processes, and none left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from ports import free_port
from processes import environment, redistill
from waiting import PATIENCE_SECONDS, eventually

from redistill.workers.processes.supervisor import last_line


def pid_of(home: Path, name: str) -> int | None:
    """The process ``redistill run NAME`` of this home."""
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            mine = str(home).encode() in (folder / "environ").read_bytes()
        except (OSError, ValueError):
            continue
        if mine and words[-3:-1] == [b"run", name.encode()]:
            return int(folder.name)
    return None


def alive(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.slow
def test_up_restarts_what_dies_and_leaves_nothing_when_it_is_stopped(tmp_path: Path) -> None:
    home, port = tmp_path / "home", free_port()
    errors = tmp_path / "errors.txt"
    with errors.open("wb") as err:
        up = subprocess.Popen(
            [sys.executable, "-m", "redistill", "up"],
            env=environment(home=str(home), web_port=str(port)), stdout=subprocess.PIPE, stderr=err,
        )  # fmt: skip
    try:
        eventually(lambda: alive(f"http://127.0.0.1:{port}/health/live"), "the web process answers")
        first = eventually(lambda: pid_of(home, "stream"), "the stream worker runs")
        eventually(lambda: last_line(home / "logs" / "stream.log"), "it has started to work")
        assert pid_of(home, "repair")
        os.kill(first, signal.SIGKILL)
        eventually(lambda: pid_of(home, "stream") not in (None, first), "it is started again")
        up.send_signal(signal.SIGTERM)
        out, _ = up.communicate(timeout=PATIENCE_SECONDS)
    finally:
        if up.poll() is None:
            up.kill()
            up.communicate()
    assert up.returncode == 0, errors.read_text()
    text = out.decode()
    assert "FORGETS EVERYTHING" in text
    assert re.search(r"export REDISTILL_BROKER='dev://127\.0\.0\.1:\d+\?start=[0-9a-f-]{36}'", text)
    assert "stream ended with signal 9" in errors.read_text()
    assert [pid_of(home, n) for n in ("stream", "repair", "web")] == [None, None, None]


def test_up_says_at_once_what_is_wrong_with_the_settings(tmp_path: Path) -> None:
    done = redistill(["up"], environment(home=str(tmp_path), database="mysql://somewhere/x"))
    assert done.returncode == 2
    assert "REDISTILL_DATABASE" in done.stderr
    assert "Traceback" not in done.stderr


def test_up_says_at_once_when_the_database_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "redistill.db").write_text("not a database, but long enough to be read as one" * 40)
    done = redistill(["up"], environment(home=str(tmp_path)))
    assert done.returncode == 1
    assert "is not an intact SQLite database" in done.stderr
    assert "Traceback" not in done.stderr
