"""From prediction blocks to windows and findings: the step that every row goes through. Pure.

``observe(a + b)`` equals ``observe(observe(a), b)`` for any cut of the rows into blocks: windows
stand in the state and are cut by row count, and by ``tick(state, now)``; exact for integers and
findings, within 1e-9 for sums. (A block tells its values of a wrong type as one number per feature;
they are counted with the first missing values of that block.)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.contract import calm
from redistill.streams.monitor.counts import columns, confidence, count, count_panes
from redistill.streams.monitor.drifted_features import Moved
from redistill.streams.monitor.finding_tracker import Desk
from redistill.streams.monitor.findings import finding_id, superseded
from redistill.streams.monitor.input_profile import Profile
from redistill.streams.monitor.reference import PANE_ROWS
from redistill.streams.monitor.reports import Place
from redistill.streams.monitor.sample import Sample, rows_needed
from redistill.streams.monitor.state import ClosedWindow, InputState
from redistill.streams.monitor.units import quartiles
from redistill.streams.wire.block import PredictionBlock
from redistill.streams.wire.events import Contributor, DriftFound

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

SMALLEST_WINDOW = 200
"""Rows that a window needs before the clock closes it, unless it is 24 times overdue: a window of
three rows says nothing, but traffic that stopped must be seen."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Observed:
    """What a block changed."""

    state: InputState
    findings: list[DriftFound] = field(default_factory=list)
    windows: list[ClosedWindow] = field(default_factory=list)
    row_windows: NDArray[np.int64]  # (n,) number of the window of each row of the block
    finding_rows: list[int] = field(default_factory=list)
    """Row of the block (its index) at which each finding was made."""
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
    step = _Step(state, block.model, block.version, partition, profile, config)
    return step.block(block)


def tick(state: InputState, now: int, *, profile: Profile | None, config: WatchConfig) -> Observed:
    """Close a window that is older than ``config.window_seconds``.

    Parameters
    ----------
    now
        Event time, microseconds since 1970.
    """
    step = _Step(state, state.model, state.version, state.partition, profile, config)
    s = step.state
    age = (now - s.window_first) / 1e6
    overdue = age >= config.window_seconds and s.window_rows >= SMALLEST_WINDOW
    if s.window_rows and (overdue or age >= 24 * config.window_seconds):
        step.close_pane(-1)
        step.close_window(-1)
    return step.observed(np.empty(0, np.int64))


def contributors(state: InputState) -> list[Contributor]:
    """Columns that moved in the newest closed window, ranked by distance over noise floor."""
    return list(state.moved)


class _Panes:
    """Panes that lie whole in a block, counted at once.

    Parameters
    ----------
    values
        ``(C, n)`` columns of the block.
    start
        Where the first begins.
    """

    def __init__(
        self, values: NDArray[np.float32], start: int, panes: int, profile: Profile
    ) -> None:
        end = start + panes * PANE_ROWS
        self.start, self.end = start, end
        self.counts = count_panes(
            values[:, start:end].reshape(len(values), panes, PANE_ROWS), profile.layout
        )
        self.shapes = quartiles(self.counts, profile)
        self.calm = calm(self.counts, profile)

    def at(self, row: int) -> int:
        """Number of the pane that begins at a row of the block."""
        return (row - self.start) // PANE_ROWS


class _Step:
    """One call of ``observe`` or ``tick`` on a state of its own."""

    def __init__(
        self,
        state: InputState | None,
        model: str,
        version: str,
        partition: tuple[str, int],
        profile: Profile | None,
        config: WatchConfig,
    ) -> None:
        self.state = (
            InputState(model=model, version=version, partition=partition)
            if state is None
            else state.copy()
        )
        self.profile = profile
        self.config = config
        self.windows: list[ClosedWindow] = []
        self.findings: list[DriftFound] = []
        self.rows: list[int] = []
        self.learned: Profile | None = None
        digest = None if profile is None else profile.digest
        if digest != self.state.digest:
            self._under_another_profile(digest)

    def _under_another_profile(self, digest: str | None) -> None:
        """Start counting again; the window and its rows go on, findings about columns end when
        calm."""
        s = self.state
        s.digest = digest
        s.pane = s.whole = None
        s.streaks, s.moving, s.moved, s.shapes = {}, {}, (), ()
        if digest is not None:
            s.sample, s.learned = None, True

    def observed(self, row_windows: NDArray[np.int64]) -> Observed:
        return Observed(
            state=self.state,
            findings=self.findings,
            windows=self.windows,
            row_windows=row_windows,
            finding_rows=self.rows,
            learned=self.learned,
        )

    def block(self, block: PredictionBlock) -> Observed:
        """Take all rows, in segments that end with the block, a pane or a window."""
        s, n, done = self.state, len(block), 0
        row_windows = np.empty(n, np.int64)
        profile = self.profile
        values = None if profile is None else columns(block, profile.schema.names, profile.classes)
        wrong = self._wrong_types(block)
        for name, names in block.unseen.items():
            s.unseen[name] = tuple(names)[:5]
        doubts = confidence(block) if values is None else values[-1]
        panes: _Panes | None = None
        while done < n:
            room = max(1, self.config.window_rows - s.window_rows)
            end = min(n, done + room, done + PANE_ROWS - s.window_rows % PANE_ROWS)
            row_windows[done:end] = s.window
            whole = end - done == PANE_ROWS and wrong is None
            if profile is not None and values is not None:
                if whole and (panes is None or done >= panes.end):
                    panes = _Panes(values, done, self._panes_ahead(n - done, room), profile)
                if whole and panes is not None:
                    segment = panes.counts[panes.at(done)]
                else:
                    segment = count(values[:, done:end], profile.layout)
                    if wrong is not None:
                        part = np.minimum(wrong, segment.rows - segment.valid)
                        segment.wrong += part
                        wrong -= part
                s.pane = segment if s.pane is None else s.pane.plus(segment)
            elif not s.learned:
                self._learn(block, done, end)
            self._advance(block.served_at, done, end)
            self._doubt(doubts[done:end], block.served_at, done, end)
            if s.window_rows % PANE_ROWS == 0:
                self.close_pane(end - 1, panes if whole else None, done)
            if s.window_rows >= self.config.window_rows:
                self.close_pane(end - 1)
                self.close_window(end - 1)
            done = end
        return self.observed(row_windows)

    def _panes_ahead(self, rows: int, room: int) -> int:
        """Whole panes among the next rows that no end of a window cuts."""
        even = self.config.window_rows % PANE_ROWS == 0
        return max(1, (rows if even else min(rows, room)) // PANE_ROWS)

    def _wrong_types(self, block: PredictionBlock) -> NDArray[np.int64] | None:
        if self.profile is None or not block.wrong_type:
            return None
        names = self.profile.schema.names
        found = [block.wrong_type.get(name, 0) for name in names]
        return np.array([*found, 0, 0], np.int64)

    def _advance(self, served_at: NDArray[np.int64], start: int, end: int) -> None:
        s, first, last = self.state, int(served_at[start]), int(served_at[end - 1])
        if s.window_rows == 0:
            s.window_first = first
        if s.first_served_at is None:
            s.first_served_at = first
        s.window_rows += end - start
        s.rows += end - start
        s.window_last = s.last_served_at = last

    def _learn(self, block: PredictionBlock, start: int, end: int) -> None:
        """Keep rows until they are enough for a provisional profile."""
        s = self.state
        names = self.config.schema.names
        if block.feature_names != names:
            return  # the codec fills the schema's order; anything else is a block of an older schema
        if s.sample is None or s.sample.names != names:
            s.sample = Sample(names)
        needed = rows_needed(len(names))
        s.sample = s.sample.plus(block, start, min(end, start + needed - s.sample.rows))
        if s.sample.rows >= needed:
            self.learned = s.sample.profile(s.model, s.version, self.config.schema)
            s.sample, s.learned = None, True

    def _doubt(
        self, doubts: NDArray[np.float32], served_at: NDArray[np.int64], start: int, end: int
    ) -> None:
        """Watch the confidence row by row."""
        known = ~np.isnan(doubts)
        s, delta = self.state, self.config.confidence_delta
        if not known.any():
            return
        if s.confidence is None or s.confidence.delta != delta:
            from redistill.streams.monitor.detectors import ConfidenceWatch

            s.confidence = ConfidenceWatch(delta)
        where = np.flatnonzero(known)
        for i, before, now, width in s.confidence.update(doubts[known].tolist()):
            row = start + int(where[i])
            desk = Desk(s, self.profile)
            place = self._place(int(served_at[row]), s.window_rows - (end - 1 - row))
            desk.confidence_changed(before, now, width, delta, place)
            self._collect(desk, row)

    def _place(self, at: int, rows: int) -> Place:
        """The open window up to a row that was served at ``at``."""
        s = self.state
        return Place(
            model=s.model,
            version=s.version,
            partition=s.partition,
            start=s.window_first,
            end=at,
            rows=rows,
            at=at,
            provisional=self.profile.provisional if self.profile else True,
        )

    def _collect(self, desk: Desk, row: int) -> None:
        self.findings += desk.made
        self.rows += [row] * len(desk.made)

    def close_pane(self, row: int, panes: _Panes | None = None, begin: int = 0) -> None:
        """Look at the last 500 rows, and add them to the window; ``panes``: they were counted
        together with others, from the row ``begin`` of the block on."""
        s = self.state
        if s.confidence is not None:
            s.confidence.settle()
            desk = Desk(s, self.profile)
            place = self._place(s.window_last, s.window_rows)
            desk.confidence_now(s.confidence.level, int(s.confidence.adwin.width), place)
            self._collect(desk, row)
        if self.profile is None or s.pane is None:
            return
        desk = Desk(s, self.profile)
        if panes is None:
            shape, quiet = quartiles(s.pane, self.profile), False
        else:
            i = panes.at(begin)
            shape, quiet = panes.shapes[i].copy(), bool(panes.calm[i])
        place = self._place(s.window_last, s.window_rows)
        desk.pane_closed(self.profile, s.pane, shape, quiet, place)
        self._collect(desk, row)
        # a state may be kept for long: it must not hold the panes of a whole block
        s.whole = s.pane.copy() if s.whole is None else s.whole.plus(s.pane)
        s.pane = None

    def close_window(self, row: int) -> None:
        """Look at the whole window and begin the next one."""
        s, profile = self.state, self.profile
        summary: dict[str, Any] = {"rows": s.window_rows}
        if profile is not None and s.whole is not None:
            desk = Desk(s, profile)
            if s.whole.rows >= SMALLEST_WINDOW:
                moved = desk.window_closed(
                    profile, s.whole, self._place(s.window_last, s.window_rows)
                )
                self._collect(desk, row)
                summary |= _moved(moved, profile)
            summary |= _means(s, profile)
        self.windows.append(
            ClosedWindow(
                number=s.window,
                rows=s.window_rows,
                first_served_at=s.window_first,
                last_served_at=s.window_last,
                summary=summary,
            )
        )
        s.window += 1
        s.window_rows = 0
        s.pane = s.whole = None


LISTED = 50
"""Columns that a window's summary holds."""


def _moved(moved: list[Moved], profile: Profile) -> dict[str, Any]:
    return {
        "distances": {
            profile.columns[m.column].name: {
                "psi": m.psi,
                "js": m.js,
                "ks": m.ks,
                "floor": m.floor,
            }
            for m in moved[:LISTED]
        }
    }


def _means(s: InputState, profile: Profile) -> dict[str, Any]:
    whole = s.whole
    if whole is None:
        return {}
    valid = np.maximum(whole.valid, 1)
    mean = whole.total / valid
    spread = np.sqrt(np.maximum(whole.squares / valid - mean**2, 0))
    missing = np.flatnonzero(whole.valid < whole.rows).tolist()
    numbers = [j for j in profile.number_columns if whole.valid[j]][:LISTED]
    names, means, spreads = profile.columns, mean.tolist(), spread.tolist()
    return {
        "mean": {names[j].name: means[j] for j in numbers},
        "deviation": {names[j].name: spreads[j] for j in numbers},
        "missing": {
            names[j].name: float(1 - whole.valid[j] / whole.rows) for j in missing[:LISTED]
        },
    }
