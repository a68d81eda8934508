"""Parent watch: a module that ends when its parent is gone, and keeps its log small.

``python -m redistill.workers.processes.parent_watch PARENT [--log=FILE] MODULE ARGS...``

A supervisor that is killed with SIGKILL can stop nobody. On Linux the kernel then sends its
children SIGTERM, because they asked for it here; elsewhere they live on, and the supervisor's next
start says which database or port is taken.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import runpy
import signal
import sys
from pathlib import Path

from redistill.workers.processes.log_file import LogFile

__all__ = []

PR_SET_PDEATHSIG = 1


def watch_parent(parent: int) -> None:
    """Ask for SIGTERM at the parent's death.

    Parameters
    ----------
    parent
        Process id that the parent had when it started this process: it may be gone already.
    """
    with contextlib.suppress(OSError, AttributeError):  # not Linux
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)


if __name__ == "__main__":
    watch_parent(int(sys.argv[1]))
    del sys.argv[:2]
    if sys.argv[0].startswith("--log="):
        LogFile(Path(sys.argv.pop(0).partition("=")[2])).follow()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
