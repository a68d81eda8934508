"""The process that runs jobs: what it is given, what it gives back, and how it ends."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import deadly_job
import pytest
from deadly_job import ENTRY, environment, order, pid_in
from pids import gone, zombies_of
from waiting import PATIENCE_SECONDS, eventually

from redistill import child_path
from redistill.workers.jobs import child as child_module
from redistill.workers.jobs import output_log, server_link
from redistill.workers.jobs.child import Child
from redistill.workers.jobs.child_outcome import ChildCancelled, ChildFailed

LONG = PATIENCE_SECONDS
"""Seconds that no job here takes, however busy the machine is."""

SECRET = "tooth-and-nail"


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    with_secrets = environment(
        REDISTILL_DATABASE=f"postgresql://{SECRET}@db/x",
        REDISTILL_KEY_PASSPHRASE=SECRET,
        HTTPS_PROXY=f"http://{SECRET}@proxy",
        PGPASSWORD=SECRET,
    )
    with Child.start(ENTRY, environment=with_secrets) as started:
        yield started


@pytest.fixture
def own() -> Iterator[Child]:
    """A child for a test that freezes or kills it."""
    started = Child.start(ENTRY, environment=environment())
    assert started.wait_ready()
    yield started
    started.close()
    assert gone(started.pid)


class Failing(threading.Thread):
    """A run that fails, in a thread; at work when this is made."""

    def __init__(self, child: Child, folder: Path, **arguments: Any) -> None:
        super().__init__()
        self._call = lambda: child.run(folder, **arguments)
        self._errors: list[BaseException] = []
        order(folder, "sleep")
        self.start()
        eventually((folder / "left").exists, "it is at work")
        self.pids = [pid_in(folder), pid_in(folder, "left")]

    def run(self) -> None:
        try:
            self._call()
        except Exception as error:
            self._errors.append(error)

    def error(self) -> BaseException:
        """Why it failed."""
        self.join(PATIENCE_SECONDS)
        return self._errors[0]


def fail(child: Child, folder: Path, deadline_s: float = LONG, **arguments: Any) -> ChildFailed:
    with pytest.raises(ChildFailed) as caught:
        child.run(folder, deadline_s=deadline_s, **arguments)
    return caught.value


def test_run_returns_the_report_and_tells_progress(child: Child, tmp_path: Path) -> None:
    seen: list[tuple[str, float]] = []
    ran = child.run(
        order(tmp_path, "report", step="train"),
        deadline_s=LONG,
        progress=lambda s, x: seen.append((s, x)),
    )
    assert ran.report.job_id == "j"
    assert seen == [("train", 0.0)]
    assert ran.memory_bytes > 1_000_000
    assert 0 < ran.seconds < LONG


def test_no_secret_of_the_worker_can_be_seen_in_a_job(child: Child, tmp_path: Path) -> None:
    child.run(order(tmp_path, "report"), deadline_s=LONG)
    seen = json.loads((tmp_path / "environment.json").read_text())
    assert not [k for k in seen if k.startswith("REDISTILL") or "PROXY" in k.upper()]
    assert seen["OMP_NUM_THREADS"] == "1"
    server = Path(f"/proc/{child.pid}")
    if server.exists():
        for name in ("environ", "cmdline"):
            assert SECRET.encode() not in (server / name).read_bytes()
    for file in tmp_path.iterdir():
        assert SECRET.encode() not in file.read_bytes()


ENDS: dict[str, tuple[dict[str, Any], str, str, bool]] = {
    "raise": ({}, "BadData", r"^BadData: reference\.parquet has no column 'label'$", False),
    "disk full": ({}, "OSError", r"No space left on device", True),
    "segfault": ({}, "crashed", r"crashed with SIGSEGV .* in step 'train'.*Segmentation", True),
    "abort": ({}, "crashed", r"crashed with SIGABRT .*in step 'train'; last line: Fatal", True),
    "killed": ({}, "killed", r"SIGKILL \(out of memory, or by hand\).*about to die", True),
    "leaves": ({}, "no_report", r"as if it had finished, without report\.json", True),
    "leaves with 7": ({"do": "leaves", "status": 7}, "crashed", r"with status 7 in step", True),
    "half a report": ({}, "no_report", r"report\.json that cannot be read", True),
    "huge report": ({}, "no_report", r"1,099,511,627,776 bytes are more", True),
    "memory": ({}, "MemoryError", r"MemoryError", True),
    "late": ({}, "DeadlineExceeded", r"the deadline passed", True),
    "garbles": ({}, "Garbled", r"Garbled: ", True),
    "endless line": ({"do": "garbles", "with": "x" * 66_000}, "Garbled", r"without end", True),
    "removes its folder": ({}, "no_report", r"without report\.json", True),
    "prints": ({}, "crashed", r"status 3 .*the last line$", True),
    "connects": ({"port": 9}, "PermissionError", r"Permission denied", True),
}


@pytest.mark.parametrize("what", ENDS)
def test_every_end_is_an_error_that_says_what_happened(
    child: Child, tmp_path: Path, what: str
) -> None:
    asked, kind, message, retriable = ENDS[what]
    folder = order(tmp_path / "job", **{"do": what, "step": "train", **asked})
    (folder / "report.json").write_text(deadly_job.report())  # of an earlier run
    error = fail(child, folder, memory_bytes=2**28)
    assert (error.kind, error.retriable) == (kind, retriable), str(error)
    assert re.search(message, str(error), re.DOTALL), str(error)
    assert error.errno == (errno.ENOSPC if what == "disk full" else error.errno)
    assert child.alive
    assert not list(zombies_of(child.pid))


def test_output_without_end_is_cut(child: Child, tmp_path: Path) -> None:
    fail(child, order(tmp_path, "prints"))
    assert (tmp_path / output_log.FILE).stat().st_size <= output_log.LONGEST
    assert output_log.tail(tmp_path).endswith("x\nthe last line\n")


def test_job_reaches_no_listener(child: Child, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        fail(child, order(tmp_path, "connects", port=server.getsockname()[1]))
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("how", ["sleep", "busy", "stopped", "deaf"])
def test_hang_ends_at_the_deadline_with_all_that_the_job_started(
    child: Child, tmp_path: Path, how: str
) -> None:
    order(tmp_path, how)
    needed = "left" if how == "sleep" else "pid"
    deadline_s = 0.25
    while not (tmp_path / needed).exists():  # it may end before it has begun
        deadline_s *= 2
        error = fail(child, tmp_path, deadline_s=deadline_s)
        assert error.kind == "deadline"
        assert "did not finish within" in str(error)
        assert error.retriable or how == "busy"
    eventually(lambda: gone(pid_in(tmp_path, needed)))


def test_what_a_job_left_running_ends_with_it(child: Child, tmp_path: Path) -> None:
    child.run(order(tmp_path, "leaves a daemon"), deadline_s=LONG)
    eventually(lambda: gone(pid_in(tmp_path, "left")))
    eventually(lambda: not list(zombies_of(child.pid)))


def test_cancel_kills_the_job(child: Child, tmp_path: Path) -> None:
    cancelled = threading.Event()
    run = Failing(child, tmp_path, deadline_s=LONG, cancelled=cancelled)
    cancelled.set()
    assert isinstance(run.error(), ChildCancelled)
    assert gone(run.pids[0])


def test_job_is_ended_when_nobody_wants_to_hear_of_its_progress(
    child: Child, tmp_path: Path
) -> None:
    def refuse(step: str, share: float) -> None:
        raise ValueError("the job was cancelled")

    with pytest.raises(ValueError, match="cancelled"):
        child.run(order(tmp_path, "sleep", step="train"), deadline_s=LONG, progress=refuse)
    eventually((tmp_path / "pid").exists)
    eventually(lambda: gone(pid_in(tmp_path)))


def test_jobs_and_what_they_started_end_when_the_warm_process_is_killed(
    own: Child, tmp_path: Path
) -> None:
    run = Failing(own, tmp_path, deadline_s=LONG)
    os.kill(own.pid, signal.SIGKILL)
    error = run.error()
    assert isinstance(error, ChildFailed)
    assert (error.kind, error.retriable) == ("gone", True)
    assert str(error) == "the process for jobs is gone: it ended with status -9"
    assert not own.alive
    eventually(lambda: all(map(gone, run.pids)))


def test_frozen_process_is_killed_with_its_jobs(tmp_path: Path) -> None:
    with Child.start(ENTRY, environment=environment(), silent_s=0.5) as frozen:
        run = Failing(frozen, tmp_path, deadline_s=LONG)
        os.kill(frozen.pid, signal.SIGSTOP)
        error = run.error()
        assert isinstance(error, ChildFailed)
        assert (error.kind, error.retriable) == ("gone", True)
        assert "did not answer for 0.5 s" in str(error)
        eventually(lambda: all(map(gone, [frozen.pid, *run.pids])))
        assert not frozen.alive


@pytest.mark.parametrize("ending", ["deadline", "cancelled"])
def test_frozen_process_is_killed_when_a_job_has_to_end(
    own: Child, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(child_module, "END_SECONDS", 0.5)
    cancelled = threading.Event()
    deadline_s = 2.0 if ending == "deadline" else LONG
    run = Failing(own, tmp_path, deadline_s=deadline_s, cancelled=cancelled)
    os.kill(own.pid, signal.SIGSTOP)
    if ending == "cancelled":
        cancelled.set()
    error = run.error()
    assert isinstance(error, (ChildCancelled, ChildFailed))
    if isinstance(error, ChildFailed):
        assert (error.kind, ending) == ("gone", "deadline")
        assert "when a job had to end, and was killed" in str(error)
    eventually(lambda: all(map(gone, run.pids)))


def test_frozen_process_is_closed(
    own: Child, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_link, "CLOSE_SECONDS", 0.5)
    run = Failing(own, tmp_path, deadline_s=LONG)
    os.kill(own.pid, signal.SIGSTOP)
    own.close()
    assert isinstance(run.error(), ChildFailed)
    eventually(lambda: all(map(gone, [own.pid, *run.pids])))


DEAF = """
import __main__, time
def warm():
    __main__._kill = lambda pid: None
def run(folder, *, progress):
    (folder / "pid").write_text("")
    time.sleep(600)
"""


def test_job_that_the_kernel_holds_is_left_behind_and_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill without effect stands for a process in an uninterruptible state."""
    monkeypatch.setattr(child_module, "END_SECONDS", 0.5)
    (tmp_path / "deaf.py").write_text(DEAF)
    path = environment()["PYTHONPATH"]
    made = environment(PYTHONPATH=f"{tmp_path}{os.pathsep}{path}")
    with Child.start("deaf:run", environment=made) as child:
        error = fail(child, tmp_path, deadline_s=0.2)
        assert (error.kind, error.retriable) == ("deadline", True)
        assert "the kernel holds it" in str(error)
        assert child.alive


PARENT = """
import sys
from pathlib import Path
from deadly_job import ENTRY, environment
from redistill.workers.jobs.child import Child
child = Child.start(ENTRY, environment=environment())
print(child.pid, flush=True)
child.run(Path(sys.argv[1]), deadline_s=600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux ends a process with its parent")
def test_nothing_stays_of_a_killed_worker_even_if_its_fork_server_is_frozen(tmp_path: Path) -> None:
    order(tmp_path, "stopped")
    path = os.pathsep.join([str(Path(deadly_job.__file__).parent), child_path.python_path()])
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        env={**child_path.variables(), "PYTHONPATH": path}, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert parent.stdout is not None
    server = int(parent.stdout.readline())
    eventually((tmp_path / "pid").exists)
    os.kill(server, signal.SIGSTOP)
    parent.kill()
    parent.communicate()
    eventually(lambda: gone(server) and gone(pid_in(tmp_path)))


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted by Linux")
def test_fork_server_has_one_thread_when_it_has_loaded_everything() -> None:
    """A fork takes one thread along; locks that others hold would stay locked in the job."""
    with Child.start() as child:
        assert child.wait_ready()
        assert len(os.listdir(f"/proc/{child.pid}/task")) == 1


def test_missing_module_is_said_at_once(tmp_path: Path) -> None:
    with Child.start("no_such_module:run", environment=environment()) as child:
        error = fail(child, order(tmp_path, "report"))
        assert str(error) == "the process for jobs did not start: it ended with status 1"
        assert not child.ready


def test_cancel_is_heard_while_the_process_loads(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("def warm():\n    import time; time.sleep(600)")
    path = environment()["PYTHONPATH"]
    made = environment(PYTHONPATH=f"{tmp_path}{os.pathsep}{path}")
    cancelled = threading.Event()
    cancelled.set()
    with (
        Child.start("slow:run", environment=made) as child,
        contextlib.suppress(ChildFailed),
        pytest.raises(ChildCancelled),
    ):
        child.run(tmp_path, deadline_s=LONG, cancelled=cancelled)
