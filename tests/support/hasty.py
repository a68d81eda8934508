"""``python -m hasty``: ``redistill run repair`` that looks at clocks and ages every half second,
and not every ten minutes."""

from __future__ import annotations

import select
import sys
import time

from redistill.workers.cli.main import main
from redistill.workers.processes import repair_worker

EVERY_SECONDS = 0.5


def sleep(seconds: float) -> None:
    """libfaketime refuses ``time.sleep``, which asks for a moment of the steady clock."""
    select.select([], [], [], max(0.0, seconds))


if __name__ == "__main__":
    time.sleep = sleep
    for name in ("CLOCK_SECONDS", "EXPIRE_SECONDS", "RETENTION_SECONDS"):
        setattr(repair_worker, name, EVERY_SECONDS)
    sys.argv[1:] = ["run", "repair"]
    main()
