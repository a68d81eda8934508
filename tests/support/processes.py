"""redistill's own processes as children of a test: started, killed, restarted, always by their own
pid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path


def environment(**settings: str) -> dict[str, str]:
    """This process's environment without any setting of redistill, plus the given ones."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("REDISTILL_")}
    return {
        **kept,
        "OMP_NUM_THREADS": "1",
        **{f"REDISTILL_{k.upper()}": v for k, v in settings.items()},
    }


@dataclass
class Worker:
    """``python -m MODULE ARGS`` with its output in a file."""

    name: str
    args: list[str]
    env: dict[str, str]
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    starts: int = field(default=0)
    before: int = field(default=0)
    """Bytes that the log had when the process was started last."""
    module: str = "redistill"

    @property
    def log(self) -> Path:
        """Standard output and error of all starts."""
        return self.folder / f"{self.name}.log"

    def start(self) -> Worker:
        """Start the process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module, *self.args], env=self.env, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip
        self.starts += 1
        return self

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        assert self.process is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def kill(self, sign: int = signal.SIGKILL) -> None:
        """``kill -9`` (or another signal) to the process itself, not to its children, and wait."""
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, sign)
            self.process.wait(60)

    def stop(self, seconds: float = 30.0) -> int | None:
        """SIGTERM; SIGKILL to its whole session when it does not end in time. Returns the exit
        status."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(10)
        return self.process.returncode

    def says(self, action: str) -> bool:
        """Whether the process that was started last has logged an action."""
        return f'"action": "{action}"'.encode() in self.log.read_bytes()[self.before :]

    def tail(self, n: int = 3_000) -> str:
        """The end of the log, for a failing test's message."""
        return self.log.read_text(errors="replace")[-n:] if self.log.exists() else ""


def redistill(
    args: list[str], env: dict[str, str], seconds: float = 120.0
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "redistill", *args],
        env=env,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
