"""The monitor over a file: the very ``observe``, ``tick`` and ``account`` of the stream worker,
without broker and registration.

For tuning, back-tests and questions such as *would it have told us in March?*. Rows are in stream
order. Labels are drawn with a seed and arrive late, as in life.
"""

from __future__ import annotations

import time as clock
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from redistill.rowcsv import RowFileError
from redistill.rowfiles import open_rows
from redistill.streams.errors import FileError
from redistill.streams.monitor.accuracy import account
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.input_profile import Profile
from redistill.streams.monitor.observe import Observed, contributors, observe, tick
from redistill.streams.monitor.outcomes import AccuracyState, Outcomes
from redistill.streams.monitor.reference import build_profile
from redistill.streams.monitor.state import InputState
from redistill.streams.replay.blocks import ReplayRows, stream_blocks
from redistill.streams.replay.lines import Line, Replay, ReplayWindow
from redistill.streams.replay.options import ReplayOptions
from redistill.streams.replay.table import Table
from redistill.streams.wire.events import DriftFound

BLOCK_ROWS = 500
"""Rows that are observed at a time, as in an Arrow batch of the client."""
SLICE_VALUES = 50
"""Values of a column of slices that are told apart; those that come later count as ``other``."""
PRIOR_ROWS = 200
"""The label share that was asked for counts like this many rows beside those seen."""
DISORDER = 0.01
"""Share of rows served before the row above them from which on it is worth a note."""

__all__ = ["run_replay"]


def run_replay(
    stream: str | Path | pa.Table,
    reference: str | Path | pa.Table,
    options: ReplayOptions,
    *,
    write: Callable[[Line], None],
    progress: Callable[[Replay], None] | None = None,
) -> Replay:
    """Run the monitor over a file and write a line for everything it says.

    Parameters
    ----------
    stream, reference
        Parquet or CSV file, a folder of such files, or a table. Every column that is not named in
        the options is a feature.
    write
        Takes each line as a JSON-like dict: findings as they would have been published, with
        ``row`` and ``id``; closed windows with their accuracy; the summary, last.
    progress
        Called after every block.

    Raises
    ------
    FileError
        If a file cannot be read, or a column or value cannot be used.
    """
    try:
        return _replayed(stream, reference, options, write, progress)
    except RowFileError as error:
        raise FileError(str(error)) from error


def _replayed(
    stream: str | Path | pa.Table,
    reference: str | Path | pa.Table,
    options: ReplayOptions,
    write: Callable[[Line], None],
    progress: Callable[[Replay], None] | None,
) -> Replay:
    began = clock.perf_counter()
    rows = open_rows(stream, "the stream")
    table = Table.learn(open_rows(reference, "the reference"), rows, options)
    schema = table.layout.schema
    result = Replay(
        total=rows.rows,
        base_note=table.base_note,
        notes=list(table.notes),
        rows_per_alarm=options.rows_per_alarm,
        budget=options.budget,
    )
    config = WatchConfig(
        model=options.model,
        schema=schema,
        tolerance_points=options.tolerance_points,
        strictness=options.strictness,
        window_rows=options.window_rows,
        window_seconds=options.window_seconds,
        rows_per_alarm=options.rows_per_alarm,
        seed=options.seed,
    )
    profile = build_profile(table.reference, schema)
    result.base = table.base
    result.notes += profile.uncompared
    run = _Run(options, config, profile, table.base, result)
    for block in stream_blocks(rows, table.kinds, table.layout, options, BLOCK_ROWS):
        for line in run.block(block):
            write(line)
        if progress is not None:
            progress(result)
    for line in run.end():
        write(line)
    write(result.summary(clock.perf_counter() - began, run.base_in_use()))
    return result


@dataclass(frozen=True, slots=True, eq=False)
class _Labels:
    """Labels on their way, of one block."""

    row: NDArray[np.int64]
    error: NDArray[np.uint8]
    served_at: NDArray[np.int64]
    confidence: NDArray[np.float32]
    window: NDArray[np.int64]

    def split(self, before: int) -> tuple[_Labels, _Labels]:
        """Those of rows below ``before``, and the rest."""
        i = int(np.searchsorted(self.row, before))
        names = ("row", "error", "served_at", "confidence", "window")
        return (
            _Labels(*(getattr(self, n)[:i] for n in names)),
            _Labels(*(getattr(self, n)[i:] for n in names)),
        )


class _Run:
    """The loop of one replay: state in, lines out."""

    def __init__(
        self,
        options: ReplayOptions,
        config: WatchConfig,
        profile: Profile,
        base: BaseError | None,
        result: Replay,
    ) -> None:
        self.options = options
        self.config = config
        self.profile = profile
        self.base = base
        self.result = result
        self.rng = np.random.default_rng(options.seed)
        self.input: InputState | None = None
        self.accuracy: AccuracyState | None = None
        self.waiting: list[_Labels] = []
        self.windows: dict[int, ReplayWindow] = {}
        self.last_time = 0
        self.backwards = 0  # rows served before the row above them
        self.slice_values: dict[str, set[str]] = {}

    def block(self, rows: ReplayRows) -> list[Line]:
        """Everything that the next rows bring about, in order of rows."""
        r, o = self.result, self.options
        start, n = r.rows, len(rows.block)
        lines: list[tuple[int, Line]] = []
        if o.time is not None and self.input is not None:
            ticked = tick(
                self.input, int(rows.block.served_at[0]), profile=self.profile, config=self.config
            )
            lines += self._observed(ticked, start)
        moved = contributors(self.input) if self.input else []
        observed = observe(
            self.input,
            rows.block,
            profile=self.profile,
            config=self.config,
            partition=("replay", 0),
        )
        lines += self._observed(observed, start)
        self._into_windows(rows, observed, start)
        r.rows += n
        served_at = rows.block.served_at
        self.backwards += int((np.diff(served_at, prepend=self.last_time) < 0).sum())
        self.last_time = int(served_at[-1])
        arrived = self._arrived(r.rows - o.label_delay)
        lines += self._account(arrived, start, served_at, moved)
        lines += self._windows(r.rows - 1)
        lines.sort(key=lambda pair: pair[0])
        return [line for _, line in lines]

    def _observed(self, observed: Observed, start: int) -> list[tuple[int, Line]]:
        self.input = observed.state
        for closed in observed.windows:
            window = self.windows.get(closed.number)
            if window is not None:
                window.closed = True
        return [
            self._told(start + max(i, 0), found)
            for i, found in zip(observed.finding_rows, observed.findings, strict=True)
        ]

    def _into_windows(self, rows: ReplayRows, observed: Observed, start: int) -> None:
        """Note which rows each window has, and let labels set out."""
        numbers = observed.row_windows
        closed = {w.number for w in observed.windows}
        for number in np.unique(numbers).tolist():
            where = np.flatnonzero(numbers == number)
            first, last = start + int(where[0]), start + int(where[-1])
            window = self.windows.setdefault(number, ReplayWindow(first, last))
            window.last = last
            window.rows += int(rows.predicted[where].sum())
            window.closed = number in closed
        drawn = self.rng.random(len(rows.block)) < self.options.label_rate
        keep = np.flatnonzero(drawn & rows.labelled)
        if len(keep):
            self.waiting.append(
                _Labels(
                    start + keep,
                    rows.error[keep],
                    rows.block.served_at[keep],
                    rows.confidence[keep],
                    numbers[keep],
                )
            )
            for column, codes in rows.slices.items():
                values = codes.strings()
                for i in keep.tolist():
                    value = values[i]
                    if value is not None:
                        value = self._told_apart(column, value)
                        count = self.result.slices.setdefault((column, value), [0, 0])
                        count[0] += 1
                        count[1] += int(rows.error[i])

    def _told_apart(self, column: str, value: str) -> str:
        """The value, or ``other`` where its column has too many already."""
        values = self.slice_values.setdefault(column, set())
        if value not in values:
            if len(values) >= SLICE_VALUES:
                return "other"
            values.add(value)
        return value

    def _arrived(self, before: int) -> list[_Labels]:
        """Labels of rows below ``before``: those whose delay is over."""
        arrived: list[_Labels] = []
        while self.waiting and len(self.waiting[0].row):
            now, later = self.waiting[0].split(before)
            if len(now.row):
                arrived.append(now)
            if len(later.row):
                self.waiting[0] = later
                break
            self.waiting.pop(0)
        return arrived

    def _account(
        self,
        arrived: list[_Labels],
        start: int,
        served_at: NDArray[np.int64] | None,
        moved: Any,
    ) -> list[tuple[int, Line]]:
        lines: list[tuple[int, Line]] = []
        r, o = self.result, self.options
        for labels in arrived:
            at = labels.row + o.label_delay
            if served_at is None:
                received_at = np.full(len(at), self.last_time)
                at = np.full(len(at), r.rows - 1)
            else:
                received_at = served_at[np.clip(at - start, 0, len(served_at) - 1)]
            outcomes = Outcomes(
                error=labels.error,
                served_at=labels.served_at,
                received_at=received_at,
                confidence=labels.confidence,
            )
            self.accuracy, found, positions = account(
                self.accuracy,
                outcomes,
                version=o.version,
                base=self.base,
                config=self.config,
                label_share=self._share(int(labels.row[0])),
                contributors=moved,
            )
            lines += [self._told(int(at[i]), f) for i, f in zip(positions, found, strict=True)]
            r.labels += len(labels.row)
            r.wrong += int(labels.error.sum())
            for number in np.unique(labels.window).tolist():
                mine = labels.window == number
                window = self.windows[number]
                window.labelled += int(mine.sum())
                window.wrong += int(labels.error[mine].sum())
        return lines

    def _share(self, row: int) -> float:
        """Labels per row so far: what was asked for, corrected by what came."""
        asked = self.options.label_rate * PRIOR_ROWS
        return max((asked + self.result.labels) / (PRIOR_ROWS + row), 1e-4)

    def _windows(self, now: int, *, everything: bool = False) -> list[tuple[int, Line]]:
        """Lines of the windows whose labels can be there by row ``now``."""
        lines = []
        for number in sorted(self.windows):
            window = self.windows[number]
            due = window.last + self.options.label_delay
            if not everything and (not window.closed or due > now):
                break
            del self.windows[number]
            row = min(due, now)
            lines.append((row, self.result.window(row, window)))
        return lines

    def _told(self, row: int, found: DriftFound) -> tuple[int, Line]:
        return row, self.result.finding(row, found, timed=self.options.time is not None)

    def end(self) -> list[Line]:
        """The file is over: labels still on their way come in, and the last window closes."""
        if self.result.rows == 0:
            return []
        moved = contributors(self.input) if self.input else []
        last = self.result.rows - 1
        lines = self._account(self._arrived(self.result.rows), last, None, moved)
        lines += self._windows(last, everything=True)
        if self.backwards > DISORDER * self.result.rows:
            self.result.notes.append(
                f"times go back in {self.backwards:,} rows: rows count in the order of the file,"
                " which should be that of the times"
            )
        return [line for _, line in lines]

    def base_in_use(self) -> BaseError | None:
        """The reference's base error, or what the stream's first labels made."""
        return self.accuracy.base if self.accuracy is not None else self.base
