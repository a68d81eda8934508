"""The fork server's process: what it inherits, and the end of it with all its jobs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
from deadly_job import ENTRY, environment
from pids import gone
from waiting import eventually

from redistill.workers.jobs import child_process

SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]


def test_environment_is_what_python_needs() -> None:
    given = {"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "x", "REDISTILL_HOME": "y", "PGPASSWORD": "z"}
    kept = child_process.scrubbed_environment(given)
    assert not {"AWS_SECRET_ACCESS_KEY", "REDISTILL_HOME", "PGPASSWORD"} & set(kept)
    assert kept["PATH"] == "/bin"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux lists what a process has open")
def test_it_inherits_its_socket_and_nothing_else() -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)  # as a careless library would
    process, control = child_process.spawn(ENTRY, environment())
    try:
        assert b"ready" in control.recv(4_096)
        opened = {os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in _open(process.pid)}
        assert os.readlink(f"/proc/self/fd/{writing}") not in opened
        assert len([link for link in opened if link.startswith("socket:")]) == 1
    finally:
        child_process.kill(process, [])
        control.close()
        os.close(reading)
        os.close(writing)


def _open(pid: int) -> list[str]:
    return [fd for fd in os.listdir(f"/proc/{pid}/fd") if int(fd) > 2]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux ends a process with its thread")
def test_it_ends_with_the_thread_that_started_it() -> None:
    made = []

    def start() -> None:
        process, control = child_process.spawn(ENTRY, environment())
        made.append((process, control, control.recv(4_096)))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    ((process, control, _),) = made
    eventually(lambda: process.poll() is not None)
    control.close()


@pytest.mark.parametrize("server_lives", [True, False])
def test_groups_of_jobs_are_killed_whether_or_not_the_server_lives(server_lives: bool) -> None:
    server, job = (
        subprocess.Popen(SLEEPS, env=environment(), start_new_session=True) for _ in range(2)
    )
    if not server_lives:
        server.kill()
        server.wait()
    child_process.kill(server, [job.pid, 2**22 + 7])
    assert gone(server.pid)
    assert job.wait() == -9
