"""The fork server's protocol: JSON lines in, a forked process for each job, JSON lines out."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pids import gone
from waiting import PATIENCE_SECONDS, eventually

from redistill.workers.jobs.output_log import tail

MODULE = '''
"""Jobs that do what the file ``do`` in their folder says."""
import os, time
from pathlib import Path

WARMED = []

def warm():
    WARMED.append(os.getpid())

class Passing(Exception):
    retriable = True

def run(folder, *, progress):
    what = (folder / "do").read_text()
    if what == "work":
        print("working")
        progress("train", 0.5)
        progress("train", 1.0)
        (folder / "warmed").write_text(str(WARMED == [os.getppid()]))
    elif what == "wait":
        progress("train", 0.0)
        time.sleep(600)
    else:
        raise {"value": ValueError("one class only"), "disk": OSError("disk full"),
               "passing": Passing("later"), "silent": RuntimeError()}[what]
'''


class Server:
    """A fork server in a process of its own, and our end of its socket."""

    def __init__(self, folder: Path) -> None:
        (folder / "tame.py").write_text(MODULE)
        self.control, theirs = socket.socketpair()
        self.control.settimeout(PATIENCE_SECONDS)
        with theirs:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "redistill.workers.jobs.fork_server",
                    str(theirs.fileno()),
                    "tame:run",
                ],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": f"{folder}:{os.getcwd()}"},
            )
        self.lines = self.control.makefile("rb")

    def send(self, *messages: dict[str, Any]) -> None:
        """Send messages in one piece."""
        self.control.sendall(b"".join(json.dumps(m).encode() + b"\n" for m in messages))

    def receive(self, kind: str | None = None) -> dict[str, Any]:
        """The next message, or the next of a kind."""
        while True:
            message: dict[str, Any] = json.loads(self.lines.readline())
            if kind is None or kind in message:
                return message

    def close(self) -> None:
        """Close our end, and wait for its own."""
        self.lines.close()
        self.control.close()
        self.process.wait(PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("modules"))
    assert started.receive()["ready"] > 0
    yield started
    started.close()


def job(folder: Path, what: str, run: str = "a") -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    (folder / "do").write_text(what)
    return {"run": run, "folder": str(folder), "cpu_seconds": 60, "memory_bytes": None}


def test_job_is_told_of_from_its_start_to_its_end(server: Server, tmp_path: Path) -> None:
    server.send(job(tmp_path, "work"))
    started = server.receive()
    assert (started["started"], started["pid"] > 0) == ("a", True)
    assert server.receive() == {"progress": "a", "step": "train", "share": 0.5}
    assert server.receive() == {"progress": "a", "step": "train", "share": 1.0}
    ended = server.receive()
    assert (ended["ended"], ended["status"], ended["signal"]) == ("a", 0, None)
    assert ended["error"] is None
    assert ended["memory_bytes"] > 1_000_000
    assert 0 <= ended["cpu_seconds"] < 60
    assert "working" in tail(tmp_path)


def test_module_is_loaded_and_warmed_once_for_all_jobs(server: Server, tmp_path: Path) -> None:
    for name in ("a", "b"):
        server.send(job(tmp_path / name, "work", name))
        assert server.receive("ended")["status"] == 0
        assert (tmp_path / name / "warmed").read_text() == "True"


@pytest.mark.parametrize(
    ("what", "kind", "message", "retriable"),
    [
        ("value", "ValueError", "one class only", False),
        ("disk", "OSError", "disk full", True),
        ("passing", "Passing", "later", True),
        ("silent", "RuntimeError", "RuntimeError()", False),
    ],
)
def test_error_is_told_with_its_kind(
    server: Server, tmp_path: Path, what: str, kind: str, message: str, retriable: bool
) -> None:
    server.send(job(tmp_path, what))
    ended = server.receive("ended")
    assert ended["status"] == 1
    assert ended["error"] == {
        "kind": kind, "message": message, "errno": None, "retriable": retriable
    }  # fmt: skip
    assert "Traceback" in tail(tmp_path)


def test_killed_job_is_told_by_its_signal_and_the_others_go_on(
    server: Server, tmp_path: Path
) -> None:
    server.send(job(tmp_path / "one", "wait", "one"), job(tmp_path / "two", "wait", "two"))
    working = {server.receive("progress")["progress"] for _ in range(2)}
    assert working == {"one", "two"}
    server.send({"kill": "two"})
    ended = server.receive("ended")
    assert (ended["ended"], ended["signal"], ended["status"]) == ("two", signal.SIGKILL, None)
    server.send(job(tmp_path / "three", "work", "three"), {"kill": "one"})
    assert {server.receive("ended")["ended"] for _ in range(2)} == {"one", "three"}


def test_request_may_come_in_pieces(server: Server, tmp_path: Path) -> None:
    data = json.dumps(job(tmp_path, "work")).encode() + b"\n"
    server.control.sendall(data[:20])
    server.control.sendall(data[20:])
    assert server.receive("ended")["status"] == 0


def test_jobs_end_with_the_parents_socket(tmp_path: Path) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    server = Server(modules)
    server.send(job(tmp_path / "job", "wait"))
    pid = server.receive("started")["pid"]
    server.receive("progress")
    server.close()
    assert server.process.returncode == 0
    eventually(lambda: gone(pid), "the job has ended")


def test_parent_that_is_gone_before_the_start_is_over_ends_it_quietly() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs:
        done = subprocess.run(
            [sys.executable, "-m", "redistill.workers.jobs.fork_server", str(theirs.fileno()), "json:loads"],
            pass_fds=[theirs.fileno()], capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
