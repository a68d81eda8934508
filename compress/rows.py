"""Rows of a job's tables, read and checked: numbers in, or an error that says what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from redistill.compress.errors import BadData, BadJob
from redistill.compress.plan import GraphSpec, column_of
from redistill.rownames import Names

__all__ = ["Rows", "examples", "read_rows", "read_table", "read_trusted"]

MIN_TRUSTED_ROWS = 50
"""With fewer, not even a candidate without a single lost row could pass a margin of some points."""
MAX_UNKNOWN_LABELS = 0.5
"""Above this share of labels outside ``classes`` the labels are of another model."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rows:
    """``n`` rows of one table."""

    x: NDArray[np.float32]  # (n, F) in the graph's order; NaN = missing, categories as indices
    y: NDArray[np.int64]  # (n,) index of the label in classes, -1 = none
    gate: NDArray[np.bool_]  # (n,) kept for the gates, never trained on
    id_hash: NDArray[np.int64]  # (n,) 0 = none
    served_at: NDArray[np.int64]  # (n,) microseconds since 1970, 0 = unknown
    source: list[str | None]  # n, who labelled the row
    prediction: NDArray[np.int64]  # (n,) what was answered in production, -1 = not logged
    segments: dict[str, list[str | None]] = field(default_factory=dict)
    """Slice columns that are no features."""
    second_label: NDArray[np.int64] | None = None  # (n,) of another source, -1 = none

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: NDArray[Any]) -> Rows:
        """Some of the rows: indices or a mask ``(n,)``."""
        index = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return Rows(
            x=self.x[index],
            y=self.y[index],
            gate=self.gate[index],
            id_hash=self.id_hash[index],
            served_at=self.served_at[index],
            source=[self.source[i] for i in index],
            prediction=self.prediction[index],
            segments={k: [v[i] for i in index] for k, v in self.segments.items()},
            second_label=None if self.second_label is None else self.second_label[index],
        )

    def strides(self, size: int) -> Iterator[NDArray[np.float32]]:
        """The inputs, ``size`` rows at a time: whoever runs a model over rows need not hold more
        of them."""
        for i in range(0, len(self), size):
            yield self.x[i : i + size]

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """``(n,)`` which rows have a label."""
        return self.y >= 0


def examples(values: Iterable[Any]) -> str:
    return ", ".join(repr(v) for v in list(values)[:3])


def _strings(column: pa.ChunkedArray, name: str, file: str) -> list[str | None]:
    try:
        out: list[str | None] = pc.cast(column, pa.string()).to_pylist()
    except pa.ArrowInvalid as error:
        raise BadData(f"{file}: column {name!r} cannot be read as text ({error})") from error
    return out


def _feature(column: pa.ChunkedArray, name: str, file: str) -> NDArray[np.float32]:
    kind = column.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise BadData(
            f"{file}: column {name!r} is {kind}, not a number; categories must be indices into"
            " their declared values"
        )
    values = pc.cast(column, pa.float64()).to_numpy()  # null becomes NaN
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and infinite is missing
        out: NDArray[np.float32] = values.astype(np.float32)
    out[~np.isfinite(out)] = np.nan
    return out + np.float32(0.0)  # one zero: -0.0 becomes 0.0


def _labels(texts: Sequence[str | None], classes: Sequence[str]) -> tuple[Any, list[str]]:
    """Indices into classes, and the labels that are none of them."""
    names = Names(classes)
    index: dict[str | None, int] = {t: names.find(t) for t in set(texts) if t is not None}
    unknown = [t for t in texts if t is not None and index[t] < 0]
    return np.array([index.get(t, -1) for t in texts], np.int64), unknown


def read_table(path: Path) -> pa.Table:
    """Read one Parquet file of the job.

    Raises
    ------
    BadJob
        It is not there.
    BadData
        It cannot be read.
    """
    if not path.is_file():
        raise BadJob(f"{path.name} is missing from the job's folder")
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise BadData(f"{path.name} is not a readable Parquet file: {error}") from error


def read_rows(path: Path, graph: GraphSpec) -> tuple[Rows, list[str]]:
    """Read ``fresh.parquet``, ``reference.parquet`` or ``trusted.parquet``.

    Parameters
    ----------
    path
        The file. Columns that are neither features, slices nor the named ones are ignored.
    graph
        Features and classes.

    Returns
    -------
    tuple
        The rows, and warnings about what was left out.

    Raises
    ------
    BadJob
        The file is missing.
    BadData
        Unreadable, columns missing or of a wrong type, or most labels of no known class.
    """
    table, file = read_table(path), path.name
    names = set(table.column_names)
    # Older tables have no other names than those of the features themselves.
    column = {n: c if (c := column_of(n)) in names else n for n in (*graph.features, *graph.slices)}
    if missing := [f for f in graph.features if column[f] not in names]:
        raise BadData(
            f"{file}: {len(missing)} of {len(graph.features)} feature columns are missing:"
            f" {examples(missing)}. It has: {examples(sorted(names))}, ..."
        )
    n = table.num_rows
    x = np.empty((n, len(graph.features)), np.float32)
    for j, name in enumerate(graph.features):
        x[:, j] = _feature(table[column[name]], name, file)

    def text(name: str) -> list[str | None]:
        return _strings(table[name], name, file) if name in names else [None] * n

    warnings = []
    y, unknown = _labels(text("label"), graph.classes)
    given = int((y >= 0).sum()) + len(unknown)
    if unknown:
        said = (
            f"{file}: {len(unknown)} of {given} labels are none of the classes"
            f" {examples(graph.classes)}, ...: {examples(sorted(set(unknown)))}"
        )
        if len(unknown) > MAX_UNKNOWN_LABELS * given:
            raise BadData(said)
        warnings.append(said + "; these rows count as unlabelled")
    prediction, _ = _labels(text("prediction"), graph.classes)

    split = text("split")
    if bad := sorted({s for s in split if s not in (None, "train", "gate")} - {None}, key=str):
        raise BadData(f"{file}: column 'split' holds {examples(bad)}, must be 'train' or 'gate'")

    def integers(name: str) -> NDArray[np.int64]:
        if name not in names:
            return np.zeros(n, np.int64)
        values = table[name]
        if pa.types.is_timestamp(values.type):
            values = pc.cast(values, pa.timestamp("us", tz=values.type.tz), safe=False)
        try:
            filled = pc.fill_null(pc.cast(values, pa.int64()), 0)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise BadData(f"{file}: column {name!r} cannot be read ({error})") from error
        return np.asarray(filled.to_numpy(), np.int64)

    rows = Rows(
        x=x,
        y=y,
        gate=np.array([s == "gate" for s in split], np.bool_),
        id_hash=integers("id_hash"),
        served_at=integers("served_at"),
        source=text("source"),
        prediction=prediction,
        second_label=_labels(text("second_label"), graph.classes)[0],
        segments={
            s: text(column[s])
            for s in graph.slices
            if s not in graph.features and column[s] in names
        },
    )
    return rows, warnings


def read_trusted(path: Path, graph: GraphSpec) -> tuple[Rows, list[str]]:
    """Read ``trusted.parquet``: every row needs a label, and there must be enough of them.

    Raises
    ------
    BadData
        Too few labelled rows, or all of one class.
    """
    rows, warnings = read_rows(path, graph)
    has = rows.labelled
    if not has.any():
        raise BadData(
            f"{path.name} has no labels: column 'label' must name the class of each row"
            f" ({examples(graph.classes)}, ...)"
        )
    if missing := int((~has).sum()):
        warnings.append(f"{path.name}: {missing} of {len(rows)} rows have no label, left out")
    rows = rows.take(has)
    if len(rows) < MIN_TRUSTED_ROWS:
        raise BadData(
            f"{path.name} has {len(rows)} labelled rows: at least {MIN_TRUSTED_ROWS} are needed to"
            " judge anything, and some hundreds to notice a loss of a point"
        )
    present = np.unique(rows.y)
    if len(present) < 2:
        raise BadData(
            f"{path.name}: every label is {graph.classes[int(present[0])]!r}; rows of at least two"
            " classes are needed"
        )
    if absent := [c for i, c in enumerate(graph.classes) if i not in set(present.tolist())]:
        warnings.append(f"{path.name} has no row of {len(absent)} classes: {examples(absent)}")
    return rows, warnings
