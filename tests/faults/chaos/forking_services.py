"""Services that fork while they log, as programs of their own, and what they say of their rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import processes
import traffic

ROWS = 2_000
WAIT_SECONDS = 240.0


class ForkingServices:
    """Programs that were started; see ``forking.py``.

    Parameters
    ----------
    folder
        Of what they write.
    """

    def __init__(self, folder: Path, bootstrap: str, namespace: str) -> None:
        self._folder, self._bootstrap, self._namespace = folder, bootstrap, namespace
        self._started: list[tuple[subprocess.Popen[bytes], Path]] = []

    def start(self, serving: tuple[str, Path], *, seed: int, seconds: float, every: float) -> None:
        """Start one more, which forks every so many seconds."""
        rows = self._folder / "rows.json"
        if not rows.exists():
            version, graph = serving
            pool = traffic.Pool.make(graph, version, np.random.default_rng(seed), boom=False)
            made = [
                {"version": version, "features": pool.dicts[i], "prediction": pool.answers[i],
                 "scores": pool.scores[i].tolist()}
                for i in range(ROWS)
            ]  # fmt: skip
            rows.write_text(json.dumps(made))
        number = len(self._started)
        out = self._folder / f"forking-{number}.jsonl"
        program = Path(__file__).parent / "forking.py"
        with out.open("wb") as stdout, (self._folder / "forking.log").open("ab") as stderr:
            started = subprocess.Popen(  # -P: the folder of the program has modules of short names
                [sys.executable, "-P", str(program), self._bootstrap, self._namespace,
                 f"s{number}", str(rows), str(seconds), str(every)],
                stdout=stdout, stderr=stderr, env=processes.environment(),
            )  # fmt: skip
        self._started.append((started, out))

    def said(self) -> tuple[list[dict[str, Any]], list[str]]:
        """What each process says of its rows, once all have ended; and who ended badly."""
        lines: list[dict[str, Any]] = []
        bad = []
        for number, (program, out) in enumerate(self._started):
            if status := program.wait(WAIT_SECONDS):
                bad.append(f"forking service {number} ended with {status}")
            lines += [json.loads(line) for line in out.read_text().splitlines()]
        return lines, bad

    def kill(self) -> None:
        """End what still runs."""
        for program, _ in self._started:
            if program.poll() is None:
                program.kill()
