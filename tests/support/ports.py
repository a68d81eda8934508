"""Free loopback ports, and waiting for one to open."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def wait_open(port: int, seconds: float, alive: Callable[[], bool]) -> bool:
    """Wait until something accepts connections on a loopback port; give up when its process is
    gone."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and alive():
        with socket.socket() as s:
            s.settimeout(0.5)
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.05)
    return False
