"""Process of the fork server: its environment, its start, and the end of it with all its jobs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping

from redistill import child_path

__all__ = ["REAP_SECONDS", "kill", "scrubbed_environment", "spawn"]

INHERITED = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "PYTHONPATH",
    "PYTHONHOME",
    "LD_LIBRARY_PATH",
    "SYSTEMROOT",
)
"""Environment variables that a job inherits: what a Python process needs to start, and nothing to
reach anything with."""

THREADS = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    # Arrow's allocator cleans up when it is used
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
"""One thread: on a busy two-core machine two torch threads were 7.6 times slower than one, and a
fork keeps one only."""

REAP_SECONDS = 5.0
"""A killed process is gone in milliseconds; one that the kernel does not let go is left behind."""


def scrubbed_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a job: no key, no database URL, no broker, no proxy.

    Examples
    --------
    >>> given = {"PATH": "/bin", "REDISTILL_DATABASE": "x", "HTTPS_PROXY": "y"}
    >>> sorted(scrubbed_environment(given))[-2:]
    ['PATH', 'PYTHONSAFEPATH']
    """
    kept = {k: v for k, v in environment.items() if k in INHERITED}
    # the current folder is the worker's, and may hold a kafka.py or json.py of somebody's own
    return kept | THREADS | {"PYTHONSAFEPATH": "1"}


def spawn(
    entry: str, environment: Mapping[str, str] | None
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a fork server; it ends when the calling thread does.

    A new program (``exec``), not a copy of this process: it may be started while other threads
    run, and inherits nothing but its end of the socket and the log.

    Returns
    -------
    tuple
        The process, and our end of its socket.
    """
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "redistill.workers.jobs.fork_server",
                    str(theirs.fileno()),
                    entry,
                    str(os.getpid()),
                ],
                env=scrubbed_environment(
                    {**os.environ, **child_path.variables()} if environment is None else environment
                ),
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
    except BaseException:
        ours.close()
        raise
    return process, ours


def kill(server: subprocess.Popen[bytes], jobs: Iterable[int]) -> None:
    """Kill a fork server and its jobs, each with what it has started, frozen or not.

    Parameters
    ----------
    jobs
        Process ids of jobs that are not known to have ended; each leads a group.
    """
    led = list(jobs)
    if server.poll() is None:
        for job in led:  # not reaped yet: their ids are still theirs
            _kill_group(job)
        _kill_group(server.pid)
    for job in led:  # what a job left over that died with the server
        _kill_group(job)
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(REAP_SECONDS)


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
