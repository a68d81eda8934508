"""The monitor over a file: the very ``observe``, ``tick`` and ``account`` of the stream worker,
without broker and registration.

For tuning, back-tests and questions such as *would it have told us in March?*. Rows are in stream
order. Labels are drawn with a seed and arrive late, as in life.
"""

from __future__ import annotations

import time as clock
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from redistill.rowcsv import RowFileError
from redistill.rowfiles import RowFile, open_rows
from redistill.streams.errors import FileError
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.input_profile import Profile
from redistill.streams.monitor.observe import Observed, contributors, observe, tick
from redistill.streams.monitor.reference import build_profile
from redistill.streams.monitor.state import InputState
from redistill.streams.replay.blocks import ReplayRows, stream_blocks
from redistill.streams.replay.label_flow import Budget, LabelFlow
from redistill.streams.replay.late_labels import Labels, ServedRows
from redistill.streams.replay.lines import Line, Replay
from redistill.streams.replay.options import ReplayOptions
from redistill.streams.replay.table import Table
from redistill.streams.replay.windows import WaitingWindows
from redistill.streams.wire.events import DriftFound

BLOCK_ROWS = 500
"""Rows that are observed at a time, as in an Arrow batch of the client."""
SLICE_VALUES = 50
"""Values of a column of slices that are told apart; those that come later count as ``other``."""
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
    budget = None
    if options.label_requests:
        budget = Budget(options.label_requests, _rows_of(rows, options))
    run = _Run(options, config, profile, table, result, budget)
    for block in stream_blocks(rows, table.kinds, table.layout, options, BLOCK_ROWS):
        for line in run.block(block):
            write(line)
        if progress is not None:
            progress(result)
    for line in run.end():
        write(line)
    write(result.summary(clock.perf_counter() - began, run.base_in_use()))
    return result


def _rows_of(stream: RowFile, options: ReplayOptions) -> int:
    """Rows of the stream; one that does not tell is read for it."""
    if stream.rows is not None:
        return stream.rows
    return sum(len(batch) for batch in stream.batches({options.label: "text"}))


class _Run:
    """The loop of one replay: state in, lines out."""

    def __init__(
        self,
        options: ReplayOptions,
        config: WatchConfig,
        profile: Profile,
        table: Table,
        result: Replay,
        budget: Budget | None,
    ) -> None:
        self.options = options
        self.config = config
        self.profile = profile
        self.base = table.base
        self.result = result
        self.rng = np.random.default_rng(options.seed)
        self.input: InputState | None = None
        self.windows = WaitingWindows(options.label_rate, options.label_delay)
        self.labels = LabelFlow(options, config, table.base, budget, table.expected)
        earned = None if budget is None else Budget(budget.share, None)
        self.beside: LabelFlow | None = None
        if earned is not None:
            self.beside = LabelFlow(options, config, table.base, earned, table.expected)
        self.last_time = 0
        self.backwards = 0  # rows served before the row above them
        self.slice_values: dict[str, set[str]] = {}

    def block(self, rows: ReplayRows) -> list[Line]:
        """Everything that the next rows bring about, in order of rows."""
        r, o = self.result, self.options
        start = r.rows
        told: list[tuple[int, DriftFound]] = []
        if o.time is not None and self.input is not None:
            ticked = tick(
                self.input, int(rows.block.served_at[0]), profile=self.profile, config=self.config
            )
            told += self._observed(ticked, start)
        moved = contributors(self.input) if self.input else []
        observed = observe(
            self.input,
            rows.block,
            profile=self.profile,
            config=self.config,
            partition=("replay", 0),
        )
        told += self._observed(observed, start)
        told.sort(key=lambda pair: pair[0])
        self.windows.serve(start, observed.row_windows, rows.predicted)
        self.windows.close(w.number for w in observed.windows)
        served_at = rows.block.served_at
        r.rows += len(served_at)
        self.backwards += int((np.diff(served_at, prepend=self.last_time) < 0).sum())
        self.last_time = int(served_at[-1])
        served = self._drawn(rows, observed.row_windows, start)
        found, came = self.labels.serve(served, told, moved)
        self._came(came)
        if self.beside is not None:
            r.count_beside(self.beside.serve(served, told, moved)[0])
        lines = [self._told(row, f) for row, f in told + found]
        lines += self._windows(r.rows - 1)
        lines.sort(key=lambda pair: pair[0])
        return [line for _, line in lines]

    def _observed(self, observed: Observed, start: int) -> list[tuple[int, DriftFound]]:
        self.input = observed.state
        self.windows.close(closed.number for closed in observed.windows)
        return [
            (start + max(i, 0), found)
            for i, found in zip(observed.finding_rows, observed.findings, strict=True)
        ]

    def _drawn(self, rows: ReplayRows, windows: NDArray[np.int64], start: int) -> ServedRows:
        """The rows, with the draw of labels at random."""
        drawn = self.rng.random(len(rows.block)) < self.options.label_rate
        keep = np.flatnonzero(drawn & rows.labelled).tolist()
        for column in self.options.slices:
            values = rows.slices[column].strings()
            for i in keep:
                value = values[i]
                if value is not None:
                    value = self._told_apart(column, value)
                    count = self.result.slices.setdefault((column, value), [0, 0])
                    count[0] += 1
                    count[1] += int(rows.error[i])
        return ServedRows(
            first=start,
            error=rows.error,
            labelled=rows.labelled,
            served_at=rows.block.served_at,
            confidence=rows.confidence,
            window=windows,
            drawn=drawn,
            slices=rows.slices,
        )

    def _told_apart(self, column: str, value: str) -> str:
        """The value, or ``other`` where its column has too many already."""
        values = self.slice_values.setdefault(column, set())
        if value not in values:
            if len(values) >= SLICE_VALUES:
                return "other"
            values.add(value)
        return value

    def _came(self, came: list[Labels]) -> None:
        """Labels came."""
        self.windows.ask(self.labels.bursts)
        for labels in came:
            self.windows.came(labels)
            self.result.count(labels.error, labels.random)

    def _windows(self, now: int, *, everything: bool = False) -> list[tuple[int, Line]]:
        """Lines of the windows whose labels can be there by row ``now``."""
        return [
            (row, self.result.window(row, window, strata))
            for row, window, strata in self.windows.due(now, everything=everything)
        ]

    def _told(self, row: int, found: DriftFound) -> tuple[int, Line]:
        return row, self.result.finding(row, found, timed=self.options.time is not None)

    def end(self) -> list[Line]:
        """The file is over: labels still on their way come in, and the last window closes."""
        if self.result.rows == 0:
            return []
        moved = contributors(self.input) if self.input else []
        found, came = self.labels.end(self.last_time, moved)
        self._came(came)
        self.result.requests = self.labels.used()
        if self.beside is not None:
            self.result.count_beside(self.beside.end(self.last_time, moved)[0])
            self.result.requests_beside = self.beside.used()
        lines = [self._told(row, f) for row, f in found]
        lines += self._windows(self.result.rows - 1, everything=True)
        if self.backwards > DISORDER * self.result.rows:
            self.result.notes.append(
                f"times go back in {self.backwards:,} rows: rows count in the order of the file,"
                " which should be that of the times"
            )
        return [line for _, line in lines]

    def base_in_use(self) -> BaseError | None:
        """The reference's base error, or what the stream's first labels made."""
        state = self.labels.state
        return state.base if state is not None else self.base
