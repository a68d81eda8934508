"""The process that runs jobs: what it is given, what it gives back, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import PATIENCE_SECONDS, eventually

from redistill.compress.plan import Report, to_json
from redistill.workers.jobs.child import Child, ChildCancelled, ChildFailed

LONG = PATIENCE_SECONDS
"""Seconds that no job here takes, however busy the machine is."""

JOB = '''
"""A stand-in for redistill.compress.pipeline that does what its folder tells it to."""
import json, os, signal, subprocess, sys, time
from pathlib import Path

class BadData(Exception):
    retriable = False

def run(folder, *, progress=None):
    what = json.loads((folder / "job.json").read_text())
    (folder / "pid").write_text(str(os.getpid()))
    if what["do"] == "report":
        progress("train", 0.5)
        (folder / "report.json").write_bytes(bytes(what["report"], "utf8"))
        (folder / "environment.json").write_text(json.dumps(dict(os.environ)))
    elif what["do"] == "raise":
        raise BadData("reference.parquet has no column 'label'")
    elif what["do"] == "die":
        print("about to die", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    elif what["do"] == "sleep":
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (folder / "grandchild").write_text(str(other.pid))
        time.sleep(600)
    elif what["do"] == "tell":
        progress("train", 0.0)
        time.sleep(600)
    elif what["do"] == "memory":
        bytearray(what["bytes"])
'''


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    folder = tmp_path_factory.mktemp("modules")
    (folder / "naughty.py").write_text(JOB)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{folder}:{os.getcwd()}",
        "REDISTILL_DATABASE": "postgresql://secret",
        "HTTPS_PROXY": "http://proxy",
    }
    with Child.start("naughty:run", environment=environment) as started:
        yield started


def order(folder: Path, **what: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "job.json").write_text(json.dumps(what))
    return folder


def report() -> str:
    return to_json(
        Report(job_id="j", model="m", mode="repair", decision=None, policy_sha256="0" * 64)
    ).decode()


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def test_run_returns_the_report_and_tells_progress(child: Child, tmp_path: Path) -> None:
    seen: list[tuple[str, float]] = []
    ran = child.run(
        order(tmp_path, do="report", report=report()),
        deadline_s=LONG,
        progress=lambda s, x: seen.append((s, x)),
    )
    assert ran.report.job_id == "j"
    assert seen == [("train", 0.5)]
    assert ran.memory_bytes > 1_000_000
    assert 0 < ran.seconds < LONG


def test_environment_holds_no_key_no_database_and_no_proxy(child: Child, tmp_path: Path) -> None:
    child.run(order(tmp_path, do="report", report=report()), deadline_s=LONG)
    seen = json.loads((tmp_path / "environment.json").read_text())
    assert not [k for k in seen if k.startswith("REDISTILL") or "PROXY" in k.upper()]
    assert seen["OMP_NUM_THREADS"] == "1"


def test_error_in_the_job_is_named_and_not_retriable(child: Child, tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match=r"BadData: reference\.parquet has no column") as caught:
        child.run(order(tmp_path, do="raise"), deadline_s=LONG)
    assert caught.value.kind == "BadData"
    assert not caught.value.retriable
    assert "Traceback" in caught.value.tail


def test_killed_job_is_retriable_and_shows_its_last_line(child: Child, tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match=r"SIGKILL.*about to die") as caught:
        child.run(order(tmp_path, do="die"), deadline_s=LONG)
    assert caught.value.retriable


def test_deadline_kills_the_job_and_what_it_started(child: Child, tmp_path: Path) -> None:
    order(tmp_path, do="sleep")
    deadline_s = 0.5
    while not (tmp_path / "grandchild").exists():  # it may end before it has begun
        deadline_s *= 2
        with pytest.raises(ChildFailed, match="did not finish within") as caught:
            child.run(tmp_path, deadline_s=deadline_s)
        assert caught.value.kind == "deadline"
    other = int((tmp_path / "grandchild").read_text())
    eventually(lambda: gone(other))


def test_cancel_kills_the_job(child: Child, tmp_path: Path) -> None:
    cancelled = threading.Event()

    def cancel() -> None:
        eventually((tmp_path / "grandchild").exists, "it is at work")
        cancelled.set()

    threading.Thread(target=cancel).start()
    with pytest.raises(ChildCancelled):
        child.run(order(tmp_path, do="sleep"), deadline_s=LONG, cancelled=cancelled)
    assert gone(int((tmp_path / "pid").read_text()))


def test_job_is_ended_when_nobody_wants_to_hear_of_its_progress(
    child: Child, tmp_path: Path
) -> None:
    def refuse(step: str, share: float) -> None:
        raise ValueError("the job was cancelled")

    with pytest.raises(ValueError, match="cancelled"):
        child.run(order(tmp_path, do="tell"), deadline_s=LONG, progress=refuse)
    eventually(lambda: gone(int((tmp_path / "pid").read_text())))


def test_memory_limit_is_an_error_of_the_job_not_of_the_worker(
    child: Child, tmp_path: Path
) -> None:
    with pytest.raises(ChildFailed, match="MemoryError") as caught:
        child.run(order(tmp_path, do="memory", bytes=2**31), deadline_s=LONG, memory_bytes=2**28)
    assert caught.value.retriable
    assert child.alive


def test_second_run_in_one_folder_waits_or_says_that_it_is_taken(
    child: Child, tmp_path: Path
) -> None:
    cancelled = threading.Event()
    order(tmp_path, do="sleep")

    def hold() -> None:
        with contextlib.suppress(ChildCancelled):
            child.run(tmp_path, deadline_s=LONG, cancelled=cancelled)

    first = threading.Thread(target=hold)
    first.start()
    eventually((tmp_path / "grandchild").exists)
    with pytest.raises(ChildFailed, match="another process is still working") as caught:
        child.run(tmp_path, deadline_s=LONG)
    assert caught.value.retriable
    cancelled.set()
    first.join(PATIENCE_SECONDS)


def test_jobs_end_when_the_warm_process_is_killed(tmp_path: Path) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "naughty.py").write_text(JOB)
    environment = {**os.environ, "PYTHONPATH": f"{modules}:{os.getcwd()}"}
    child = Child.start("naughty:run", environment=environment)
    folder = order(tmp_path / "job", do="sleep")
    failed: list[BaseException] = []

    def run() -> None:
        try:
            child.run(folder, deadline_s=LONG)
        except ChildFailed as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    eventually((folder / "grandchild").exists)
    os.kill(child.pid, signal.SIGKILL)
    thread.join(PATIENCE_SECONDS)
    assert isinstance(failed[0], ChildFailed)
    assert failed[0].retriable
    assert not child.alive
    eventually(lambda: gone(int((folder / "pid").read_text())))
    os.kill(int((folder / "grandchild").read_text()), signal.SIGKILL)  # nobody is left who could
    child.close()


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted by Linux")
def test_fork_server_has_one_thread_when_it_has_loaded_everything() -> None:
    """A fork takes one thread along; locks that others hold would stay locked in the job."""
    with Child.start() as child:
        assert child.wait_ready()
        assert len(os.listdir(f"/proc/{child.pid}/task")) == 1


def test_missing_module_is_said_at_once(tmp_path: Path) -> None:
    with (
        Child.start("no_such_module:run") as child,
        pytest.raises(ChildFailed, match="did not start"),
    ):
        child.run(order(tmp_path, do="report"), deadline_s=5)
