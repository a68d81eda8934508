"""Rows of the files that ``[data]`` names; all that is wrong with them is said at once.

What comes out is in the layout that jobs use: float32 features in the schema's order, categories as
indices, the label as text, rows in time order. It is stored so, and jobs copy it as it is.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from redistill.compress.plan import column_of
from redistill.rowcells import Kind
from redistill.rowcsv import RowFileError
from redistill.rowfiles import Batch, RowFile, open_rows
from redistill.rownames import Names, nearly
from redistill.rowvalues import is_number, is_single, is_text
from redistill.times import SECOND
from redistill.workers.models.dataset_columns import (
    CategoryColumn,
    ClassColumn,
    NumberColumn,
    SliceColumn,
    TimeColumn,
    listed,
)
from redistill.workers.models.spec import ModelSpec

__all__ = ["Dataset", "read"]

MIN_ROWS = 100
"""Fewer rows say nothing about a model: an accuracy is then known to 10 points at best."""
MAX_VALUES = 1 << 29
"""Values of a file (2 GiB as float32): its features, and what is held of a row besides."""
ROW_VALUES = 8
"""Label, prediction, time and place of a row, counted in values."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Dataset:
    """``n`` rows of one file, in time order if it is known."""

    role: str
    """``reference`` or ``trusted``."""
    features: NDArray[np.float32]  # (n, F); NaN = missing, categories as indices, unseen = -1
    labels: NDArray[np.int32] | None  # (n,) index into the classes, -1 = none; None: no such column
    predictions: NDArray[np.int32] | None  # (n,) likewise
    served_at: NDArray[np.int64]  # (n,) microseconds since 1970; row numbers as seconds if unknown
    segments: dict[str, list[str | None]] = field(default_factory=dict)
    """Slice columns that are no features."""
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.features)

    def to_parquet(self, spec: ModelSpec) -> bytes:
        """The rows in the layout of a job folder; the same rows give the same bytes."""
        names = spec.schema.names
        columns: dict[str, Any] = {
            column_of(name): pa.array(self.features[:, j], pa.float32())
            for j, name in enumerate(names)
        }
        for key, values in self.segments.items():
            columns[column_of(key)] = pa.array(values, pa.string())
        if self.labels is not None:
            columns["label"] = _texts(self.labels, spec.schema.classes)
        buffer = io.BytesIO()
        pq.write_table(pa.table(columns), buffer, compression="zstd")
        return buffer.getvalue()


def read(
    path: Path, spec: ModelSpec, role: str, *, need_labels: bool
) -> tuple[Dataset | None, list[str]]:
    """Read and check one file.

    Parameters
    ----------
    path
        A Parquet or CSV file with a column per feature, or a folder of such files.
    spec
        What its columns should be.
    role
        ``reference`` or ``trusted``: for the messages.
    need_labels
        Whether it is of no use without labels.

    Returns
    -------
    tuple
        The rows (``None`` where they cannot be used), and all that is wrong, a sentence each.
    """
    place = f"[data] {role} = {str(path)!r}"
    try:
        return _read(open_rows(path), spec, role, place, need_labels)
    except RowFileError as error:
        of_part = error.name != str(path)
        return None, [f"{place}: {error}" if of_part else f"{place} {error.reason}"]


class _Columns:
    """The columns of a file that are read, each with what was found in it so far."""

    def __init__(self, file: RowFile, spec: ModelSpec) -> None:
        schema, data, there = spec.schema, spec.data, set(file.columns)
        names = Names(schema.classes)
        self.width = len(schema.features)
        self.features = {
            j: CategoryColumn(f) if f.kind == "category" else NumberColumn(f)
            for j, f in enumerate(schema.features)
            if f.name in there
        }
        own = there - set(schema.names)
        self.label = ClassColumn(data.label, names) if data.label in there else None
        self.prediction = ClassColumn(data.prediction, names) if data.prediction in own else None
        self.time = TimeColumn(data.time) if data.time in there and data.time else None
        self.slices = [SliceColumn(key) for key in schema.divisions if key in own]
        self.others = [c for c in (self.label, self.prediction, self.time, *self.slices) if c]
        self.kinds: dict[str, Kind] = {
            c.name: c.kind for c in (*self.others, *self.features.values())
        }
        self.misfits = [
            f"{n} is {file.type_of(n)}: one value per row was expected"
            for n in self.kinds
            if not file.is_single(n)
        ]
        self.misfits += [
            f"{c.name} is declared as {c.feature.kind} and holds {kind}"
            for c in self.features.values()
            if isinstance(c, NumberColumn)
            and is_single(kind := file.type_of(c.name))
            and not (is_number(kind) or is_text(kind) or pa.types.is_null(kind))
        ]

    def add(self, batch: Batch) -> NDArray[np.float32]:
        """Read some rows: ``(n, F)`` features."""
        block = np.empty((len(batch), self.width), np.float32)
        for j, column in self.features.items():
            block[:, j] = column.add(batch)
        for other in self.others:
            other.add(batch)
        return block


def _read(
    file: RowFile, spec: ModelSpec, role: str, place: str, need_labels: bool
) -> tuple[Dataset | None, list[str]]:
    problems: list[str] = []
    warnings: list[str] = []
    data, schema, there = spec.data, spec.schema, set(file.columns)
    if missing := [f for f in schema.names if f not in there]:
        problems.append(
            f"{place}: missing columns: {listed(missing)}; the file has {listed(file.columns, 12)}"
        )
        problems[-1] += nearly(missing, file.columns)
    if need_labels and data.label not in there:
        problems.append(
            f"{place} has no column {data.label!r}: it needs labels ([data] label names their"
            f" column){nearly([data.label], file.columns)}"
        )
    if data.time is not None and data.time not in there:
        problems.append(f"{place} has no column {data.time!r} ([data] time)")
    columns = _Columns(file, spec)
    problems += [f"{place}: {what}" for what in columns.misfits]
    if columns.misfits:
        return None, problems
    blocks = _blocks(file, columns)
    if blocks is None:
        most = MAX_VALUES // (columns.width + ROW_VALUES)
        return None, [
            *problems,
            f"{place} has more than {most:,} rows, which is what is held of {columns.width}"
            " features: take a sample",
        ]
    features = np.concatenate([np.empty((0, columns.width), np.float32), *blocks])
    if len(features) < MIN_ROWS:
        problems.append(f"{place} has {len(features)} rows; at least {MIN_ROWS} are needed")
    labels, predictions = (
        None if c is None else c.judge(place, problems) for c in (columns.label, columns.prediction)
    )
    served_at = np.arange(len(features), dtype=np.int64) * SECOND
    if columns.time is not None:
        served_at = columns.time.judge(place, problems)
    odd: list[str] = []
    for column in columns.features.values():
        column.judge(place, problems, odd)
    warnings.extend(f"{role}: {text}" for text in odd)
    segments = {c.name: c.judge(place, problems) for c in columns.slices}
    if labels is not None and not problems:
        _check_labels(labels, place, spec, role, need_labels, problems, warnings)
    if problems:
        return None, problems
    warnings += [f"{role}: {gap}" for gap in file.gaps(columns.kinds)]
    used = {*schema.names, data.label, data.prediction, *schema.divisions, data.time}
    if extra := [c for c in file.columns if c not in used]:
        warnings.append(f"{role}: columns that are no features are ignored: {listed(extra)}")
    if role == "trusted" and (lost := [k for k in schema.divisions if k not in there]):
        warnings.append(
            f"trusted: without the columns {listed(lost)} no gate looks at these slices and groups"
        )
    order = np.argsort(served_at, kind="stable")
    return Dataset(
        role=role,
        features=features[order],
        labels=None if labels is None else labels[order],
        predictions=None if predictions is None else predictions[order],
        served_at=served_at[order],
        segments={k: [v[i] for i in order.tolist()] for k, v in segments.items()},
        warnings=tuple(warnings),
    ), []


def _blocks(file: RowFile, columns: _Columns) -> list[NDArray[np.float32]] | None:
    """The features of all rows; ``None`` if these are more than are held."""
    each = columns.width + ROW_VALUES
    if file.rows is not None and file.rows * each > MAX_VALUES:
        return None
    blocks: list[NDArray[np.float32]] = []
    rows = 0
    for batch in file.batches(columns.kinds):
        rows += len(batch)
        if rows * each > MAX_VALUES:
            return None
        blocks.append(columns.add(batch))
    return blocks


def _check_labels(
    labels: NDArray[np.int32],
    place: str,
    spec: ModelSpec,
    role: str,
    needed: bool,
    problems: list[str],
    warnings: list[str],
) -> None:
    known = labels[labels >= 0]
    say: Callable[[str], None] = (
        (lambda text: problems.append(f"{place}: {text}"))
        if needed
        else (lambda text: warnings.append(f"{role}: {text}"))
    )
    if len(known) == 0:
        say(f"all values of {spec.data.label} are missing: it has no labels")
        return
    if len(np.unique(known)) == 1:
        say(f"all {len(known):,} labels are {spec.schema.classes[int(known[0])]!r}: one class only")
    if needed and len(known) < MIN_ROWS <= len(labels):
        say(f"only {len(known)} rows have a label; at least {MIN_ROWS} are needed")
    elif len(known) < len(labels):
        warnings.append(f"{role}: {len(labels) - len(known):,} rows have no label")
    absent = [c for i, c in enumerate(spec.schema.classes) if not (known == i).any()]
    if absent and len(np.unique(known)) > 1:
        warnings.append(f"{role}: no row has the label {listed(absent)}")


def _texts(codes: NDArray[np.int32], classes: Sequence[str]) -> pa.Array:
    return pa.array([classes[c] if c >= 0 else None for c in codes.tolist()], pa.string())
