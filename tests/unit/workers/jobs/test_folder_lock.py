"""One process a folder, and what becomes of one that does not let go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pids import gone

from redistill import child_path
from redistill.workers.jobs import folder_lock
from redistill.workers.jobs.folder_lock import lock

HOLD = """
import os, sys
from pathlib import Path
from redistill.workers.jobs.folder_lock import lock
os.setsid()
held = lock(Path(sys.argv[1]))
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that works in the folder."""
    made = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        env=child_path.variables(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert made.stdout is not None
    made.stdout.readline()
    yield made
    made.kill()
    made.communicate()


def test_lock_ends_with_its_holder(tmp_path: Path) -> None:
    os.close(lock(tmp_path, seconds=0))
    os.close(lock(tmp_path, seconds=0))


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="Linux says who a process is")
def test_holder_that_does_not_let_go_is_ended_even_if_it_is_stopped(
    tmp_path: Path, holder: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    os.kill(holder.pid, signal.SIGSTOP)
    os.close(lock(tmp_path, seconds=0.2))
    assert gone(holder.pid)
    assert f"process {holder.pid} still worked in {tmp_path}" in capsys.readouterr().out


@pytest.mark.parametrize("said", ["", "{pid} 1 another start", "99999999 1 x", "1 2 3", "\x00\xff"])
def test_process_that_cannot_be_known_is_left_alone(
    tmp_path: Path, holder: subprocess.Popen[bytes], said: str
) -> None:
    """Of another machine, or of another start of this one."""
    (tmp_path / folder_lock.FILE).write_text(said.format(pid=holder.pid), encoding="latin-1")
    with pytest.raises(TimeoutError, match="another process is still working in"):
        lock(tmp_path, seconds=0.1)
    assert not gone(holder.pid)
