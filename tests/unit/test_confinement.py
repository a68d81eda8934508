"""Children without network that end with their parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pids import gone
from waiting import eventually

from redistill import child_path, confinement

TRY = """
import os, socket, subprocess, sys, threading
from redistill import confinement

refused = confinement.deny_network()
if refused is not None:
    raise SystemExit("it cannot be done here: " + refused)

def tries(kind, to):
    try:
        with socket.socket(kind) as tried:
            tried.connect(to)
    except OSError as error:
        return type(error).__name__
    return "connected"

def all_tries():
    return [
        tries(socket.AF_INET, ("127.0.0.1", int(sys.argv[1]))),
        tries(socket.AF_INET6, ("::1", int(sys.argv[1]))),
        tries(socket.AF_UNIX, sys.argv[2]),
    ]

if len(sys.argv) > 3:
    print(*all_tries())
    raise SystemExit
print(*all_tries())
thread = threading.Thread(target=lambda: print(*all_tries()))
thread.start()
thread.join()
ours, theirs = socket.socketpair()
ours.sendall(b"pairs work")
print(theirs.recv(99).decode(), flush=True)
subprocess.run([sys.executable, "-c", open("/proc/self/cmdline").read().split("\\0")[2], *sys.argv[1:3], "again"], check=True)
"""


def run(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *words], env=child_path.variables(), capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip


linux = pytest.mark.skipif(sys.platform != "linux", reason="seccomp and prctl are of Linux")


@linux
def test_no_socket_can_be_had_by_the_process_its_threads_and_its_children(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as inet, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "s"))
        unix.listen()
        done = run(TRY, str(inet.getsockname()[1]), str(tmp_path / "s"))
    denied = " ".join(["PermissionError"] * 3)
    assert (done.stdout.splitlines(), done.stderr) == (
        [denied, denied, "pairs work", denied], ""
    )  # fmt: skip


def test_where_it_cannot_be_done_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confinement.platform, "machine", lambda: "riscv64")
    monkeypatch.setattr(sys, "platform", "linux")
    assert confinement.deny_network() == "the numbers of system calls are not known for riscv64"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert confinement.deny_network() == "darwin has no filter of system calls"


@linux
def test_kernel_that_refuses_is_told() -> None:
    """A filter of somebody else's (a container's) forbids ours."""
    done = run(
        "import errno; from redistill import confinement as c\n"
        "c.PR_SET_SECCOMP = 9_999\n"
        "print(c.deny_network())"
    )
    assert done.stdout == "the kernel refuses PR_SET_SECCOMP: Invalid argument\n", done.stderr


PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
print(child.pid, child.stdout.readline(), flush=True)
time.sleep(600)
"""
CHILD = """
import os, time; from redistill import confinement
confinement.die_with_parent(os.getppid()); print(flush=True); time.sleep(600)
"""


@linux
def test_child_ends_with_its_parent_even_if_it_is_stopped() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD], env=child_path.variables(), stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline().split()[0])
    os.kill(child, signal.SIGSTOP)
    parent.kill()
    parent.communicate()
    eventually(lambda: gone(child), "the stopped child is gone")


@linux
def test_child_whose_parent_is_gone_already_ends_at_once() -> None:
    code = "from redistill import confinement as c; c.die_with_parent(1_000_000_000); print('on')"
    done = run(code)
    assert (done.returncode, done.stdout) == (1, "")
