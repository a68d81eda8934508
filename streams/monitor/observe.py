"""Observe prediction blocks: the step that every row goes through, in three stages that pass
values. Rows are *counted* into subwindows, those that ended are *judged* beside those before them,
and the verdicts are *tracked* as findings that open and end. Pure.

``observe(a + b)`` equals ``observe(observe(a), b)`` for any cut of the rows into blocks: windows
stand in the state and are cut by row count, and by ``tick(state, now)``. (A block tells its values
of a wrong type as one number per feature; they are counted with the first missing values of that
block.)
"""

from __future__ import annotations

import msgspec
import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.finding_tracker import track
from redistill.streams.monitor.input_profile import Profile
from redistill.streams.monitor.reports import Origin
from redistill.streams.monitor.sample import Learned, learn
from redistill.streams.monitor.state import InputState
from redistill.streams.monitor.subwindows import (
    ClosedWindow,
    CountedRows,
    close_overdue,
    count_rows,
)
from redistill.streams.monitor.verdicts import judge
from redistill.streams.wire.block import PredictionBlock
from redistill.streams.wire.events import Contributor, DriftFound

__all__ = ["Observed", "contributors", "observe", "tick"]


class Observed(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a block changed."""

    state: InputState
    findings: list[DriftFound] = []
    windows: list[ClosedWindow] = []
    row_windows: NDArray[np.int64]  # (n,) number of the window of each row of the block
    finding_rows: list[int] = []
    """Row of the block (its index) at which each finding was made; -1: the clock made it."""
    learned: Profile | None = None
    """A provisional profile from the first rows, where none was given; told once."""


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
        What is normal for the version; ``None``: not known, then rows and confidence are watched,
        and a provisional profile is learned from the first rows (``Observed.learned``). Counts made
        under another profile are dropped; windows and open findings go on.
    config
        The model's settings.
    partition
        ``(topic id, partition)``: findings of different partitions have different ids.
    """
    if state is None:
        state = InputState(model=block.model, version=block.version, partition=partition)
    before = state.under(profile)
    counted = count_rows(before.counted, block, profile=profile, window_rows=config.window_rows)
    learned = Learned(before.learning)
    if profile is None:
        parts = [(segment.first, segment.end) for segment in counted.segments]
        learned = learn(before.learning, block, parts, config.schema)
    return _observed(before, counted, learned, profile, config)


def tick(state: InputState, now: int, *, profile: Profile | None, config: WatchConfig) -> Observed:
    """Close a window that is older than ``config.window_seconds``.

    Parameters
    ----------
    now
        Event time, microseconds since 1970.
    """
    before = state.under(profile)
    counted = close_overdue(before.counted, now, window_seconds=config.window_seconds)
    return _observed(before, counted, Learned(before.learning), profile, config)


def _observed(
    before: InputState,
    counted: CountedRows,
    learned: Learned,
    profile: Profile | None,
    config: WatchConfig,
) -> Observed:
    """Judge what was counted, track what was judged, and put the next state together."""
    judged = judge(before.recent, counted.segments, profile=profile, config=config)
    origin = Origin(
        model=before.model,
        version=before.version,
        partition=before.partition,
        provisional=profile is None or profile.provisional,
    )
    tracked = track(before.tracked, judged.verdicts, origin=origin, unseen=counted.after.unseen)
    return Observed(
        state=structs.replace(
            before,
            counted=counted.after,
            recent=judged.after,
            tracked=tracked.after,
            learning=learned.after,
        ),
        findings=tracked.findings,
        windows=counted.windows,
        row_windows=counted.row_windows,
        finding_rows=tracked.rows,
        learned=learned.profile,
    )


def contributors(state: InputState) -> list[Contributor]:
    """Columns clearly above chance in the newest closed window, ranked by their part in the
    shift."""
    return list(state.tracked.drifted)
