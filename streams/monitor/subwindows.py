"""Subwindows, the first stage of ``observe``: a block's rows are counted, and cut where a subwindow
of 500 rows or a window ends. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from redistill.streams.monitor.counts import Counts, columns, confidence, count, count_subwindows
from redistill.streams.monitor.findings import Span
from redistill.streams.monitor.input_profile import Profile
from redistill.streams.monitor.reference import SUBWINDOW_ROWS
from redistill.streams.wire.block import PredictionBlock
from redistill.times import to_seconds

__all__ = [
    "SMALLEST_WINDOW",
    "ClosedWindow",
    "Counted",
    "CountedRows",
    "Segment",
    "WindowCounts",
    "close_overdue",
    "count_rows",
    "cuts",
]

SMALLEST_WINDOW = 200
"""Rows that a window needs before the clock closes it, unless it is 24 times overdue: a window of
three rows says nothing, but traffic that stopped must be seen."""
UNSEEN_VALUES = 5
"""Unseen values of a category that are remembered."""


class ClosedWindow(msgspec.Struct, frozen=True, kw_only=True):
    """A statistical window that is complete."""

    number: int
    rows: int
    first_served_at: int
    """Microseconds since 1970."""
    last_served_at: int


class WindowCounts(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What is known of one window so far. A value."""

    number: int = 0
    rows: int = 0
    first_served_at: int = 0
    """Microseconds since 1970."""
    last_served_at: int = 0
    partial: Counts | None = None
    """Rows since the last subwindow ended; ``None`` also where there is no profile."""
    complete: Counts | None = None
    """Rows of the subwindows that have ended."""

    @property
    def span(self) -> Span:
        """Its rows so far."""
        return Span(self.first_served_at, self.last_served_at, self.rows)

    def plus(self, rows: int, first: int, last: int, counts: Counts | None) -> WindowCounts:
        """With more rows, served from ``first`` to ``last``."""
        partial = self.partial
        if counts is not None:
            partial = counts if partial is None else partial.plus(counts)
        return WindowCounts(
            number=self.number,
            rows=self.rows + rows,
            first_served_at=self.first_served_at if self.rows else first,
            last_served_at=last,
            partial=partial,
            complete=self.complete,
        )

    def subwindow_ended(self) -> WindowCounts:
        """With its last rows among the complete subwindows."""
        partial, complete = self.partial, self.complete
        if partial is None:
            return self
        # a state may be kept for long: it must not hold the subwindows of a whole block
        complete = partial.copy() if complete is None else complete.plus(partial)
        return structs.replace(self, partial=None, complete=complete)

    @property
    def closed(self) -> ClosedWindow:
        """What is told of it once it has ended."""
        return ClosedWindow(
            number=self.number,
            rows=self.rows,
            first_served_at=self.first_served_at,
            last_served_at=self.last_served_at,
        )

    def next(self) -> WindowCounts:
        """The window after it, without rows."""
        return structs.replace(self, number=self.number + 1, rows=0, partial=None, complete=None)


class Counted(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What this stage remembers of one stream. A value."""

    rows: int = 0
    first_served_at: int | None = None
    last_served_at: int | None = None
    window: WindowCounts = WindowCounts()
    """The open window."""
    unseen: Mapping[str, tuple[str, ...]] = {}
    """Newest unseen values per category."""

    def restarted(self) -> Counted:
        """Without counts, which another profile's cannot be added to; the window goes on."""
        return structs.replace(
            self, window=structs.replace(self.window, partial=None, complete=None)
        )


class Segment(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Rows of a block that lie in one subwindow, and what ended with the last of them."""

    first: int
    end: int
    """Rows ``first:end`` of the block; 0 where the clock ended the window."""
    served_at: NDArray[np.int64]  # (n,) microseconds since 1970
    confidence: NDArray[np.float32]  # (n,) largest scores, NaN = unknown
    window: WindowCounts
    """The window with these rows."""
    ends_subwindow: bool
    ends_window: bool
    subwindow: Counts | None
    """The subwindow that ended, if its columns were counted."""

    @property
    def last(self) -> int:
        """Its last row; -1 where the clock ended the window."""
        return self.end - 1


class CountedRows(msgspec.Struct, frozen=True, eq=False):
    """What this stage hands on."""

    after: Counted
    segments: list[Segment]
    """In the order of their rows."""
    row_windows: NDArray[np.int64]  # (n,) number of the window of each row

    @property
    def windows(self) -> list[ClosedWindow]:
        """Windows that ended."""
        return [s.window.closed for s in self.segments if s.ends_window]


class Cut(NamedTuple):
    """Rows ``first:end`` of a block, which lie in one subwindow."""

    first: int
    end: int
    ends_subwindow: bool
    ends_window: bool


def cuts(rows: int, taken: int, window_rows: int) -> list[Cut]:
    """Where rows are cut that follow ``taken`` rows of an open window.

    Examples
    --------
    >>> [(c.first, c.end, c.ends_window) for c in cuts(1_000, 300, 700)]
    [(0, 200, False), (200, 400, True), (400, 900, False), (900, 1000, False)]
    """
    out, first = [], 0
    while first < rows:
        room = max(1, window_rows - taken)  # a window may be full already: settings change
        end = min(rows, first + room, first + SUBWINDOW_ROWS - taken % SUBWINDOW_ROWS)
        taken += end - first
        full = taken >= window_rows
        out.append(Cut(first, end, full or taken % SUBWINDOW_ROWS == 0, full))
        first, taken = end, 0 if full else taken
    return out


def count_rows(
    before: Counted, block: PredictionBlock, *, profile: Profile | None, window_rows: int
) -> CountedRows:
    """Count a block.

    Parameters
    ----------
    before
        What was counted before these rows; it is not changed.
    profile
        Whose edges values are counted below; ``None``: only rows are counted.
    window_rows
        Rows of a window.
    """
    parts = cuts(len(block), before.window.rows, window_rows)
    counted: Sequence[Counts | None]
    if profile is None:
        confidences, counted = confidence(block), [None] * len(parts)
    else:
        values = columns(block, profile.schema.names, profile.classes)
        confidences, counted = values[-1], _counted(values, parts, block, profile)
    numbers = np.empty(len(block), np.int64)
    window, segments = before.window, []
    for (first, end, ends_subwindow, ends_window), counts in zip(parts, counted, strict=True):
        served_at = block.served_at[first:end]
        numbers[first:end] = window.number
        window = window.plus(end - first, int(served_at[0]), int(served_at[-1]), counts)
        subwindow = window.partial if ends_subwindow else None
        if ends_subwindow:
            window = window.subwindow_ended()
        segments.append(
            Segment(
                first=first,
                end=end,
                served_at=served_at,
                confidence=confidences[first:end],
                window=window,
                ends_subwindow=ends_subwindow,
                ends_window=ends_window,
                subwindow=subwindow,
            )
        )
        if ends_window:
            window = window.next()
    first_served_at, last_served_at = before.first_served_at, before.last_served_at
    if parts:
        last_served_at = int(block.served_at[-1])
        if first_served_at is None:
            first_served_at = int(block.served_at[0])
    unseen = {name: tuple(values)[:UNSEEN_VALUES] for name, values in block.unseen.items()}
    after = Counted(
        rows=before.rows + len(block),
        first_served_at=first_served_at,
        last_served_at=last_served_at,
        window=window,
        unseen={**before.unseen, **unseen},
    )
    return CountedRows(after, segments, numbers)


def _counted(
    values: NDArray[np.float32], parts: Sequence[Cut], block: PredictionBlock, profile: Profile
) -> list[Counts]:
    """Counts of each part; subwindows that lie whole in the block are counted at once."""
    out: list[Counts] = []
    layout = profile.layout
    for whole, run in groupby(parts, key=lambda cut: cut.end - cut.first == SUBWINDOW_ROWS):
        some = list(run)
        if whole:
            rows = values[:, some[0].first : some[-1].end]
            counts = count_subwindows(rows.reshape(len(values), len(some), SUBWINDOW_ROWS), layout)
            out += [counts[i] for i in range(len(some))]
        else:
            out += [count(values[:, cut.first : cut.end], layout) for cut in some]
    return _with_wrong_types(out, block, profile) if block.wrong_type else out


def _with_wrong_types(
    parts: Sequence[Counts], block: PredictionBlock, profile: Profile
) -> list[Counts]:
    """A block tells its values of a wrong type as one number per feature: they are counted with its
    first missing values."""
    names = profile.schema.names
    left = np.array([*(block.wrong_type.get(name, 0) for name in names), 0, 0], np.int64)
    out = []
    for counts in parts:
        wrong = np.minimum(left, counts.rows - counts.valid)
        out.append(structs.replace(counts, wrong=wrong))
        left = left - wrong
    return out


def close_overdue(before: Counted, now: int, *, window_seconds: float) -> CountedRows:
    """Close the open window if it is too old.

    Parameters
    ----------
    now
        Event time, microseconds since 1970.
    """
    window, none = before.window, np.empty(0, np.int64)
    age = to_seconds(now - window.first_served_at)
    overdue = age >= window_seconds and window.rows >= SMALLEST_WINDOW
    if not window.rows or not (overdue or age >= 24 * window_seconds):
        return CountedRows(before, [], none)
    segment = Segment(
        first=0,
        end=0,
        served_at=none,
        confidence=np.empty(0, np.float32),
        window=window.subwindow_ended(),
        ends_subwindow=True,
        ends_window=True,
        subwindow=window.partial,
    )
    after = structs.replace(before, window=segment.window.next())
    return CountedRows(after, [segment], none)
