"""``python -m deadly HOW SECONDS``: ``redistill run stream`` in which a record with the word
``deadly`` ends the process that decodes it, or keeps it for ever: a watchdog waits so many seconds.

``abort``: as a segmentation fault in a decoder would. ``hang``: a loop without an end.
``held``: a call that does not return and holds the interpreter, so that no other thread runs.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from redistill.streams.engine import accumulator, app
from redistill.workers.cli.main import main


def hang() -> None:
    while True:
        time.sleep(0.1)


def held() -> None:
    ctypes.PyDLL(None).sleep(600)


def deadly(real: Callable[..., Any], die: Callable[[], None]) -> Callable[..., Any]:
    def decode(records: Any, *args: Any, **kwargs: Any) -> Any:
        if any(b"deadly" in (r.value or b"") for r in records):
            die()
        return real(records, *args, **kwargs)

    return decode


if __name__ == "__main__":
    die = {"abort": os.abort, "hang": hang, "held": held}[sys.argv[1]]
    patience, run = float(sys.argv[2]), app.run
    accumulator.decode_predictions = deadly(accumulator.decode_predictions, die)  # type: ignore[assignment]
    accumulator.read_labels = deadly(accumulator.read_labels, die)  # type: ignore[assignment]
    app.run = lambda config: run(replace(config, patience_seconds=patience))
    sys.argv[1:] = ["run", "stream"]
    main()
