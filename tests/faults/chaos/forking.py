"""A service that forks while it logs: the parent logs rows without a pause, and each child logs its
own, flushes, and says what became of them. A program of its own: fork takes every thread's locks
along, and this process should have none but the logger's.

``python forking.py BOOTSTRAP NAMESPACE NAME ROWS.json SECONDS EVERY_SECONDS``; a JSON line a
process on standard output: ``{"prefix", "rows", "sent", "flushed"}``.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from redistill import PredictionLogger

CHILD_ROWS = 25
FLUSH_SECONDS = 120.0


def say(prefix: str, rows: int, sent: int, flushed: bool) -> None:
    """One line in one write: lines of several processes never mix."""
    line = {"prefix": prefix, "rows": rows, "sent": sent, "flushed": flushed}
    os.write(1, json.dumps(line).encode() + b"\n")


def log_row(log: PredictionLogger, row: dict[str, Any], name: str) -> None:
    """One row under an id of ours."""
    log.log(
        id=name, model="credit", version=row["version"], features=row["features"],
        prediction=row["prediction"], scores=row["scores"],
        segment={"region": row["features"]["region"]},
    )  # fmt: skip


def main(argv: list[str]) -> int:
    """Run it."""
    servers, namespace, name, path, seconds, every = argv
    rows = json.loads(Path(path).read_text())
    log = PredictionLogger(servers, namespace=namespace)
    end = time.monotonic() + float(seconds)
    logged = 0
    stop = threading.Event()

    def keep_logging() -> None:
        nonlocal logged
        while not stop.wait(0.02):
            log_row(log, rows[logged % len(rows)], f"{name}-parent-{logged}")
            logged += 1

    busy = threading.Thread(target=keep_logging)
    busy.start()
    children: list[int] = []
    while time.monotonic() < end:
        number = len(children)
        if (pid := os.fork()) == 0:
            for i in range(CHILD_ROWS):
                log_row(
                    log, rows[(number * CHILD_ROWS + i) % len(rows)], f"{name}-child{number}-{i}"
                )
            done = log.flush(FLUSH_SECONDS)
            say(f"{name}-child{number}-", CHILD_ROWS, log.stats().sent, done)
            os._exit(0)
        children.append(pid)
        time.sleep(float(every))
    stop.set()
    busy.join()
    done = log.flush(FLUSH_SECONDS)
    say(f"{name}-parent-", logged, log.stats().sent, done)
    worst = 0
    for pid in children:
        worst = max(worst, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
