"""Servers that fork: gunicorn, as a service is run by it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ports import free_port, wait_open
from waiting import PATIENCE_SECONDS

__all__ = ["gunicorn"]


@contextmanager
def gunicorn(folder: Path, *options: str) -> Iterator[str]:
    """Address of ``app:app``, served by gunicorn out of a folder."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "app:app", "--bind", f"127.0.0.1:{port}", *options]
    server = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert wait_open(port, PATIENCE_SECONDS, lambda: server.poll() is None)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        said, _ = server.communicate(timeout=PATIENCE_SECONDS)
        print(said)
