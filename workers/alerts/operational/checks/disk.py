"""Disk: room that runs out where the home lies, and where a SQLite file lies.

Where PostgreSQL keeps its files only its own machine knows: watch that disk there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from redistill.workers.alerts.operational.look import Look
from redistill.workers.alerts.operational.reading import Reading
from redistill.workers.alerts.operational.words import size

__all__ = ["nearly_full"]

SHARE = 0.1
"""Free room below which there is something to say, of the disk, ..."""
MOST_BYTES = 5_000_000_000
"""... but at most this: a tenth of a large disk is much room."""
CLOSES_FACTOR = 1.5
"""It ends with so many times as much free room."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """A place and its disk; bytes."""

    name: str
    """``home`` or ``database``."""
    path: str
    total: int
    free: int
    """For whoever runs redistill: less what is kept for root."""


def nearly_full(look: Look) -> Sequence[Reading]:
    """Free room of each disk."""
    url = sa.make_url(look.settings.database_url)
    file = url.database if url.get_backend_name() == "sqlite" else None
    return readings(rooms(look.settings.root, None if file is None else Path(file).absolute()))


def rooms(home: Path, file: Path | None) -> list[Room | str]:
    """Of the home, and of the SQLite file where that lies on another disk.

    Returns
    -------
    list
        The name alone where the disk does not answer.
    """
    out: list[Room | str] = []
    devices: set[int] = set()
    places = [("home", home)] + ([] if file is None else [("database", file.parent)])
    for name, path in places:
        try:
            device, usage = os.stat(path).st_dev, shutil.disk_usage(path)
        except OSError:
            out.append(name)
            continue
        if device not in devices:
            out.append(Room(name=name, path=str(path), total=usage.total, free=usage.free))
        devices.add(device)
    return out


def readings(found: Iterable[Room | str]) -> list[Reading]:
    """One for each disk; of one that does not answer nothing is known."""
    return [_unknown(room) if isinstance(room, str) else _reading(room) for room in found]


def _reading(room: Room) -> Reading:
    least = min(SHARE * room.total, MOST_BYTES)
    used = 1 - room.free / room.total if room.total else 1.0
    return Reading(
        subject=room.name,
        value=-float(room.free),
        opens=-max(least, 1.0),
        closes=-CLOSES_FACTOR * max(least, 1.0),
        said=f"the disk of the {room.name} ({room.path}) has {size(room.free)} of"
        f" {size(room.total)} left ({used:.0%} used): when it is full nothing is stored",
        remedy=f"make room on it (`du -xsh {room.path}/*` says what is large), or keep less:"
        " REDISTILL_JOBS_KEPT_DAYS and REDISTILL_RELEASES_KEPT, feature_megabytes in model.toml",
    )


def _unknown(name: str) -> Reading:
    return Reading(subject=name, value=None, opens=0.0, closes=-1.0, said="", remedy="")
