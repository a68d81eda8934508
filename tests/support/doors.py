"""A web process that is besieged: started with short times, asked on raw sockets."""

from __future__ import annotations

import json
import re
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import environment
from waiting import PATIENCE_SECONDS, eventually

SOFT, HARD = resource.getrlimit(resource.RLIMIT_NOFILE)
if 0 <= SOFT < 4_096:  # who besieges needs descriptors, too
    resource.setrlimit(resource.RLIMIT_NOFILE, (4_096 if HARD < 0 else min(HARD, 4_096), HARD))

PROGRAM = """
import json, sys
from redistill.workers.settings.settings import Settings
from redistill.workers.store import opening
from redistill.workers.web import app
from redistill.workers.web.limits import Limits

settings, limits = json.loads(sys.argv[1])
loaded = Settings.load(settings)
app.serve(
    loaded, opening.open(loaded), host=loaded.web_host, port=0,
    limits=Limits(**limits) if limits is not None else None,
    started=lambda address: print(address, flush=True),
)
"""


@dataclass
class Web:
    """A web process."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        """A connection from an address of the loopback network."""
        return socket.create_connection(
            ("127.0.0.1", self.port), timeout=PATIENCE_SECONDS, source_address=(source, 0)
        )

    def ask(self, request: bytes, source: str = "127.0.0.1") -> bytes:
        """All that a connection says until it is closed."""
        with self.connect(source) as sock:
            sock.sendall(request)
            return rest(sock)

    def status(self, path: str, source: str = "127.0.0.1", *headers: str) -> int:
        """Status of an answer on a connection of its own; 0: none came."""
        lines = [f"GET {path} HTTP/1.1", "Host: x", "Connection: close", *headers, "", ""]
        said = self.ask("\r\n".join(lines).encode(), source)
        return int(said.split()[1]) if said else 0

    def holds(self, sock: socket.socket) -> bool:
        """Whether the process still has its end of a connection."""
        ours = f":{sock.getsockname()[1]:04X}"
        for line in Path(f"/proc/{self.process.pid}/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, state, *_ = line.split()
            if local.endswith(f":{self.port:04X}") and remote.endswith(ours):
                return state in ("01", "08")  # established, or closed by us alone
        return False

    def flood(self, count: int, said: bytes, source: str = "127.0.0.1") -> list[socket.socket]:
        """Connections that say something and then nothing; those that were refused are left out."""
        out = []
        for _ in range(count):
            try:
                sock = self.connect(source)
                sock.sendall(said)
            except OSError:
                continue
            out.append(sock)
        return out


def rest(sock: socket.socket) -> bytes:
    """What comes until the end of a connection, however it ends."""
    out = b""
    try:
        while data := sock.recv(65_536):
            out += data
    except ConnectionError:
        pass
    return out


@contextmanager
def web_process(
    settings: dict[str, Any],
    folder: Path,
    *,
    descriptors: int | None = None,
    limits: dict[str, Any] | None = None,
) -> Iterator[Web]:
    """A web process on a free port; it must have lived to the end."""

    def fewer() -> None:
        if descriptors is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    log = folder / "web.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps([settings, limits])],
            env=environment(), stdout=out, stderr=out, preexec_fn=fewer,
        )  # fmt: skip

    def port() -> int | None:
        assert process.poll() is None, log.read_text()
        found = re.search(r"^https?://[^ ]*:(\d+)$", log.read_text(), re.M)
        return None if found is None else int(found[1])

    try:
        yield Web(process, int(str(eventually(port, "the web process listens"))), log)
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
