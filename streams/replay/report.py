"""Report of a replay: what it found, what moved, and what other tolerances would have cost, as
values that ``report_page`` renders."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from redistill.rowfiles import open_rows
from redistill.streams.monitor.counts import Counts, columns, count
from redistill.streams.monitor.drifted_features import (
    DriftedFeature,
    drifted_features,
    histogram_of,
)
from redistill.streams.monitor.input_profile import Column, Profile
from redistill.streams.monitor.reference import build_profile
from redistill.streams.replay.blocks import stream_blocks
from redistill.streams.replay.lines import Line
from redistill.streams.replay.options import ReplayOptions
from redistill.streams.replay.run import run_replay
from redistill.streams.replay.table import Table
from redistill.streams.wire import sentences
from redistill.times import microseconds

__all__ = ["TOLERANCES", "Distribution", "ReportData", "ToleranceCost", "gather"]

TOLERANCES = (0.5, 1.0, 2.0, 3.0, 5.0)
"""Points of accuracy; the one that was asked for joins them."""
READ_ROWS = 10_000
"""Rows that are counted at a time."""
SHOWN = 6
"""Columns whose distributions are shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Distribution:
    """A column in the reference and in the rows in question."""

    column: str
    labels: tuple[str, ...]
    """Of its bins."""
    reference: tuple[float, ...]
    """Shares."""
    current: tuple[float, ...]
    said: str
    """How far it moved, beside what chance gives."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ToleranceCost:
    """What would have been found with another tolerance, on the same labels at random; those asked
    for on suspicion follow from what each finds."""

    points: float
    asked: bool
    """It is the one that was asked for."""
    alarms: int
    first: int | None
    """Row of the first alarm."""
    delay: int | None
    """Rows from the change to it, as the run that was asked for dates the change."""
    rows_in_alarm: int
    """Each counts once, however many findings of harm were open."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportData:
    """All that a report shows."""

    name: str
    """Of the stream."""
    options: ReplayOptions
    summary: Line
    windows: tuple[Line, ...]
    findings: tuple[Line, ...]
    current: tuple[int, int]
    """First and last row that distributions are of."""
    distributions: tuple[Distribution, ...]
    tolerances: tuple[ToleranceCost, ...]


def gather(
    stream: str | Path | pa.Table,
    reference: str | Path | pa.Table,
    options: ReplayOptions,
    lines: Sequence[Line],
) -> ReportData:
    """Read the files again for what the lines of a replay do not tell.

    Parameters
    ----------
    stream, reference, options
        Those of the replay. It is run again for each other tolerance: labels are drawn with the
        same seed.
    lines
        All that it wrote.
    """
    findings = tuple(line for line in lines if "finding_id" in line)
    windows = tuple(line for line in lines if "accuracy" in line)
    summary = next(line["summary"] for line in lines if "summary" in line)
    rows = open_rows(stream, "the stream")
    table = Table.learn(open_rows(reference, "the reference"), rows, options)
    profile = build_profile(table.reference, table.layout.schema)
    times = _times(stream, options, table)
    current = _current(findings, times, options)
    whole = _counted(stream, options, table, profile, current)
    return ReportData(
        name="a table" if isinstance(stream, pa.Table) else Path(stream).name,
        options=options,
        summary=summary,
        windows=windows,
        findings=findings,
        current=current,
        distributions=() if whole is None else _distributions(whole, profile, findings),
        tolerances=_tolerances(stream, reference, options, findings, times),
    )


def _times(
    stream: str | Path | pa.Table, options: ReplayOptions, table: Table
) -> NDArray[np.int64]:
    """When each row was served, microseconds."""
    blocks = stream_blocks(
        open_rows(stream, "the stream"), table.kinds, table.layout, options, READ_ROWS
    )
    served = [rows.block.served_at for rows in blocks]
    return np.concatenate(served) if served else np.empty(0, np.int64)


def _row_of(when: str, times: NDArray[np.int64]) -> int:
    """The row that was served then, or next."""
    at = microseconds(datetime.fromisoformat(when.replace("Z", "+00:00")))
    return min(int(np.searchsorted(np.maximum.accumulate(times), at)), max(0, len(times) - 1))


def _began(finding: Line, times: NDArray[np.int64]) -> int:
    point = finding.get("change_point")
    return _row_of(_text(point["high"] if point else finding["window"]["start"]), times)


def _text(when: Any) -> str:
    return when if isinstance(when, str) else when.isoformat()


def _current(
    findings: Sequence[Line], times: NDArray[np.int64], options: ReplayOptions
) -> tuple[int, int]:
    """The rows that are compared with the reference: those of the first harm, else of the first
    finding that names a column, else the last window."""
    last = max(0, len(times) - 1)
    harm = [f for f in findings if f["impact"]["harmful"] and f["status"] == "open"]
    moved = [f for f in findings if f["contributors"] and f["status"] == "open"]
    for opened in (*harm[:1], *moved[:1]):
        first = _began(opened, times)
        ended = [
            f["row"] for f in findings if f["id"] == opened["id"] and f["status"] == "resolved"
        ]
        return first, max(first, min([*ended, last]))
    return max(0, last - options.window_rows + 1), last


def _counted(
    stream: str | Path | pa.Table,
    options: ReplayOptions,
    table: Table,
    profile: Profile,
    current: tuple[int, int],
) -> Counts | None:
    whole: Counts | None = None
    at = 0
    for rows in stream_blocks(
        open_rows(stream, "the stream"), table.kinds, table.layout, options, READ_ROWS
    ):
        first, end = max(0, current[0] - at), min(len(rows.block), current[1] + 1 - at)
        if first < end:
            values = columns(rows.block, profile.schema.names, profile.classes)
            part = count(np.ascontiguousarray(values[:, first:end]), profile.layout)
            whole = part if whole is None else whole.plus(part)
        at += len(rows.block)
    return whole


def _distributions(
    whole: Counts, profile: Profile, findings: Sequence[Line]
) -> tuple[Distribution, ...]:
    """Columns that findings name or that are clearly above chance, by their part in the shift."""
    told = {feature.column.name: feature for feature in drifted_features(whole, profile)}
    named = {c["column"] for f in findings for c in f["contributors"]}
    chosen = [name for name, feature in told.items() if feature.clear or name in named][:SHOWN]
    bins = profile.bins
    now = histogram_of(whole, profile)
    out = []
    for name in chosen:
        j = told[name].index
        own = slice(int(bins.starts[j]), int(bins.starts[j] + bins.sizes[j]))
        out.append(
            Distribution(
                column=name,
                labels=_labels(profile, j),
                reference=_shares(bins.reference[own]),
                current=_shares(now[own]),
                said=_said(told[name]),
            )
        )
    return tuple(out)


def _said(feature: DriftedFeature) -> str:
    c = feature.contributor
    way = {"up": ", values rose", "down": ", values fell"}.get(c.direction or "", "")
    return (
        f"PSI {sentences.figure(c.value)}, chance gives {sentences.figure(c.noise_floor)}{way};"
        f" {feature.part:.0%} of the shift"
    )


def _shares(counts: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple((counts / max(1.0, float(counts.sum()))).tolist())


def _labels(profile: Profile, j: int) -> tuple[str, ...]:
    """Of the bins of a column."""
    column = profile.columns[j]
    if column.groups:
        return _categories(profile, column, j)
    marks = [column.edges[i] for i in column.coarse]
    size = int(profile.bins.sizes[j])
    told = [f"below {sentences.figure(marks[0])}"]
    told += [f"{sentences.figure(a)} to {sentences.figure(b)}" for a, b in pairwise(marks)]
    return tuple([*told, f"{sentences.figure(marks[-1])} or more"][:size])


def _categories(profile: Profile, column: Column, j: int) -> tuple[str, ...]:
    values = profile.classes
    if j < len(profile.schema.features):
        values = profile.schema.features[j].values
    names: dict[int, str] = {0: "other"}
    for i, value in enumerate(values):
        if (group := column.groups[i + 1]) != 0:
            names[group] = value
    return tuple(names.get(g, "other") for g in range(int(profile.bins.sizes[j])))


def _tolerances(
    stream: str | Path | pa.Table,
    reference: str | Path | pa.Table,
    options: ReplayOptions,
    findings: Sequence[Line],
    times: NDArray[np.int64],
) -> tuple[ToleranceCost, ...]:
    asked = options.tolerance_points
    harmed = [f for f in findings if f["impact"]["harmful"] and f["status"] == "open"]
    change = _began(harmed[0], times) if harmed else None
    out = []
    for points in sorted({*TOLERANCES, asked}):
        mine: list[Line] = list(findings)
        if points != asked:
            mine = []
            run_replay(
                stream,
                reference,
                dataclasses.replace(options, tolerance_points=points),
                write=mine.append,
            )
        out.append(_cost(points, points == asked, mine, change, len(times)))
    return tuple(out)


def _cost(
    points: float, asked: bool, lines: Sequence[Line], change: int | None, rows: int
) -> ToleranceCost:
    harm = [f for f in lines if "finding_id" in f and f["impact"]["harmful"]]
    opened = [f for f in harm if f["status"] == "open"]
    ended = {f["id"]: f["row"] for f in harm if f["status"] == "resolved"}
    after = [f["row"] for f in opened if change is not None and f["row"] >= change]
    return ToleranceCost(
        points=points,
        asked=asked,
        alarms=len(opened),
        first=opened[0]["row"] if opened else None,
        delay=after[0] - change if after and change is not None else None,
        rows_in_alarm=_covered([(f["row"], ended.get(f["id"], rows)) for f in opened]),
    )


def _covered(spans: Sequence[tuple[int, int]]) -> int:
    """Rows within any of some spans: the whole model and its slices are in alarm at once."""
    rows = end = 0
    for first, last in sorted(spans):
        rows += max(0, last - max(first, end))
        end = max(end, last)
    return rows
