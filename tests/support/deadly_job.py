"""A stand-in for ``redistill.compress.pipeline`` that ends as its folder's ``do.json`` says.

It imports the standard library only, so that its fork server starts at once. A job leaves its
process id in ``pid``, and that of whatever it started in ``left``.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

ENTRY = "deadly_job:run"
LONG = 600.0
Progress = Callable[[str, float], None]


class BadData(Exception):
    """An error that another try does not mend."""

    retriable = False


class DeadlineExceeded(Exception):
    """What a job raises that looks at the clock itself."""

    retriable = False


def leave(folder: Path, name: str, pid: int) -> None:
    """Write a process id, whole or not at all: tests go on when the file is there."""
    part = folder / f".{name}"
    part.write_text(str(pid))
    part.rename(folder / name)


def run(folder: Path, *, progress: Progress) -> None:
    """Do what is asked."""
    what = json.loads((folder / "do.json").read_text())
    leave(folder, "pid", os.getpid())
    if (step := what.get("step")) is not None:
        progress(step, 0.0)
    DEATHS[what["do"]](folder, what)


def _report(folder: Path, what: Mapping[str, Any]) -> None:
    (folder / "environment.json").write_text(json.dumps(dict(os.environ)))
    (folder / "report.json").write_text(what["report"])


def _raise(folder: Path, what: Mapping[str, Any]) -> None:
    raise BadData("reference.parquet has no column 'label'")


def _late(folder: Path, what: Mapping[str, Any]) -> None:
    raise DeadlineExceeded("the deadline passed")


def _disk_full(folder: Path, what: Mapping[str, Any]) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _segfault(folder: Path, what: Mapping[str, Any]) -> None:
    ctypes.string_at(0)


def _abort(folder: Path, what: Mapping[str, Any]) -> None:
    os.abort()


def _killed(folder: Path, what: Mapping[str, Any]) -> None:
    print("about to die", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def _leaves(folder: Path, what: Mapping[str, Any]) -> None:
    os._exit(what.get("status", 0))


def _half_a_report(folder: Path, what: Mapping[str, Any]) -> None:
    (folder / "report.json").write_text(what["report"][:40])


def _huge_report(folder: Path, what: Mapping[str, Any]) -> None:
    with (folder / "report.json").open("wb") as file:
        file.truncate(1 << 40)


def _memory(folder: Path, what: Mapping[str, Any]) -> None:
    bytearray(2**31)


def _sleep(folder: Path, what: Mapping[str, Any]) -> None:
    other = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({LONG})"])
    leave(folder, "left", other.pid)
    time.sleep(LONG)


def _busy(folder: Path, what: Mapping[str, Any]) -> None:
    sum(range(10**15))  # inside C, with the interpreter's lock


def _stopped(folder: Path, what: Mapping[str, Any]) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(LONG)


def _deaf(folder: Path, what: Mapping[str, Any]) -> None:
    os.closerange(0, 1024)
    time.sleep(LONG)


def _garbles(folder: Path, what: Mapping[str, Any]) -> None:
    for fd in range(3, 64):
        with contextlib.suppress(OSError):
            os.write(fd, what.get("with", "\x00 no JSON\n").encode())
    time.sleep(LONG)


def _removes_its_folder(folder: Path, what: Mapping[str, Any]) -> None:
    shutil.rmtree(folder)


def _leaves_a_daemon(folder: Path, what: Mapping[str, Any]) -> None:
    """A process of another session, which outlives its parent."""
    if os.fork() == 0:
        os.setsid()
        if (pid := os.fork()) == 0:
            time.sleep(LONG)
        leave(folder, "left", pid)
        os._exit(0)
    os.wait()
    _report(folder, what)


def _prints(folder: Path, what: Mapping[str, Any]) -> None:
    for _ in range(100):
        os.write(1, b"x" * 65_535 + b"\n")
    print("the last line", flush=True)
    os._exit(3)


def _connects(folder: Path, what: Mapping[str, Any]) -> None:
    socket.create_connection(("127.0.0.1", what["port"]), timeout=10).close()


DEATHS: dict[str, Callable[[Path, Mapping[str, Any]], None]] = {
    "report": _report,
    "raise": _raise,
    "late": _late,
    "disk full": _disk_full,
    "segfault": _segfault,
    "abort": _abort,
    "killed": _killed,
    "leaves": _leaves,
    "half a report": _half_a_report,
    "huge report": _huge_report,
    "memory": _memory,
    "sleep": _sleep,
    "busy": _busy,
    "stopped": _stopped,
    "deaf": _deaf,
    "garbles": _garbles,
    "removes its folder": _removes_its_folder,
    "leaves a daemon": _leaves_a_daemon,
    "prints": _prints,
    "connects": _connects,
}


# --- for tests ---


def environment(**more: str) -> dict[str, str]:
    """What to start a ``Child`` with so that it finds this module."""
    path = os.pathsep.join([str(Path(__file__).parent), os.getcwd()])
    return {**os.environ, "PYTHONPATH": path, **more}


def order(folder: Path, do: str, **what: object) -> Path:
    """A job's folder that asks for an end."""
    folder.mkdir(exist_ok=True)
    (folder / "do.json").write_text(json.dumps({"do": do, "report": report(), **what}))
    return folder


def report() -> str:
    """The text of a report that can be read."""
    from redistill.compress.plan import Report, to_json

    made = Report(job_id="j", model="m", mode="repair", decision=None, policy_sha256="0" * 64)
    return cast(bytes, to_json(made)).decode()


def pid_in(folder: Path, name: str = "pid") -> int:
    """A process id that a job has left in its folder."""
    return int((folder / name).read_text())
