"""World of the demo: one small file says what the scanner does to the digits; the services obey it.

It is the demo's script, not part of redistill: what redistill knows reaches it through the
broker only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from redistill.decodable import decodable
from redistill.files import write_unsynced

__all__ = [
    "FILE",
    "LABEL_SHARE",
    "LABEL_SOURCE",
    "Config",
    "ServiceStats",
    "Tally",
    "World",
    "read_stats",
    "read_world",
    "write",
]

FILE = "world.json"

LABEL_SHARE = 0.10
"""Share of the rows that get a label, drawn at random."""
LABEL_SOURCE = "clerks"


@decodable
@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """What the services are asked about."""

    scene: str = "healthy"
    """Name of the scene; the services keep their own truth per scene and version."""
    haze: float = 0.0
    """Strength of the grey veil on the scanner, 0 = clean."""
    priors: dict[int, float] = field(default_factory=dict)
    """Shares of some digits; empty: as in the data."""
    closing: bool = False
    """The services stop and close their clients."""


@decodable
@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """What a service is told at its start."""

    name: str
    folder: str
    """Where the world's file is read and the statistics are written."""
    servers: str
    namespace: str = ""
    repository: str
    """URL or folder of the signed repository."""
    trust: str
    """Path of the trusted root."""
    model: str
    cache: str
    seed: int
    number: int
    """Which of the services this is: they draw different rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """What one service served in one scene with one version, and how much of it was right: its own
    truth, on all rows."""

    scene: str
    version: str
    rows: int
    correct: int
    first: float
    """Unix seconds of its first row."""
    last: float


@decodable
@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceStats:
    """What a service writes after every tick; the whole state, so that a reader needs one file."""

    service: str
    at: float
    """Unix seconds."""
    requests: int
    failed: int
    """Requests that got no answer: an exception, or an answer that is no digit."""
    version: str
    epoch: int
    tallies: list[Tally]
    logged: int
    """Predictions, labels and activations that were handed to the logger."""
    sent: int
    """Of these, acknowledged by the broker."""
    dropped: int
    """Of these, dropped or refused."""
    last_error: str | None = None
    predict_us: float | None = None
    """Median microseconds of one ``predict`` call in the last tick."""


def write(path: Path, value: World | ServiceStats) -> None:
    """Replace a file as a whole: a reader sees the old or the new one."""
    write_unsynced(path, msgspec.json.encode(value))


def read_world(folder: Path) -> World:
    """What the world is like now."""
    return msgspec.json.decode((folder / FILE).read_bytes(), type=World)


def read_stats(folder: Path) -> list[ServiceStats]:
    """What the services wrote last, by name; a service that wrote nothing yet is missing."""

    def found() -> Iterator[ServiceStats]:
        for path in sorted(folder.glob("stats-*.json")):
            with contextlib.suppress(FileNotFoundError):
                yield msgspec.json.decode(path.read_bytes(), type=ServiceStats)

    return list(found())
