"""Processes whose clock is wrong, or is set while they run (libfaketime)."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path


class Unavailable(Exception):
    """libfaketime is not installed; the message says how to get it."""


def library() -> str:
    """Path of the library for programs with threads."""
    found = sorted(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1"))
    if not found:
        raise Unavailable("libfaketime is not installed (apt-get install faketime)")
    return found[0]


@dataclass
class FakeClock:
    """The clock of a process: as far off as its file says, now and whenever that changes."""

    file: Path
    library: str

    def set(self, offset: str) -> FakeClock:
        """For example ``+40d``, ``-1h`` or ``+0``: relative to the machine's clock."""
        new = self.file.with_suffix(".new")
        new.write_text(offset + "\n")
        new.replace(self.file)
        return self

    def environment(self, **env: str) -> dict[str, str]:
        """An environment with the clock. Steady clocks tell the truth, as on a machine whose clock
        is set."""
        return {
            **env,
            "LD_PRELOAD": self.library,
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",  # as older ones call it
        }
