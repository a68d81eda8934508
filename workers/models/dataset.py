"""Reading the Parquet files that ``[data]`` names; all that is wrong with them is said at once.

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
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from redistill.streams.wire.block import Feature
from redistill.workers.models.spec import ModelSpec

MIN_ROWS = 100
"""Fewer rows say nothing about a model: an accuracy is then known to 10 points at best."""
MANY_UNSEEN = 0.5
"""Above this share of undeclared values the column is not the one that was declared."""
EXAMPLES = 3


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
            name: pa.array(self.features[:, j], pa.float32()) for j, name in enumerate(names)
        }
        for key, values in self.segments.items():
            columns[key] = pa.array(values, pa.string())
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
        A Parquet file with a column per feature.
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
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        return None, [f"{place} is not a readable Parquet file: {first}"]
    problems: list[str] = []
    warnings: list[str] = []
    if missing := [f for f in spec.schema.names if f not in table.column_names]:
        problems.append(
            f"{place}: missing columns: {_listed(missing)}; the file has"
            f" {_listed(table.column_names, 12)}"
        )
    if table.num_rows < MIN_ROWS:
        problems.append(f"{place} has {table.num_rows} rows; at least {MIN_ROWS} are needed")
    labels = _classes(table, spec.data.label, spec, place, problems, required=need_labels)
    predictions = None
    if spec.data.prediction in table.column_names and spec.data.prediction not in spec.schema.names:
        predictions = _classes(table, spec.data.prediction, spec, place, problems, required=False)
    order, served_at = _times(table, spec, place, problems)
    odd: list[str] = []
    columns = [
        _feature(table.column(f.name), f, place, problems, odd)
        for f in spec.schema.features
        if f.name in table.column_names
    ]
    warnings.extend(f"{role}: {text}" for text in odd)
    if labels is not None and not problems:
        _check_labels(labels, place, spec, role, need_labels, problems, warnings)
    if problems:
        return None, problems
    used = {*spec.schema.names, spec.data.label, spec.data.prediction, *spec.schema.slices}
    used |= {spec.data.time} if spec.data.time else set()
    if extra := [c for c in table.column_names if c not in used]:
        warnings.append(f"{role}: columns that are no features are ignored: {_listed(extra)}")
    segments = {
        key: pc.cast(table.column(key), pa.string()).to_pylist()
        for key in spec.schema.slices
        if key in table.column_names and key not in spec.schema.names
    }
    if role == "trusted" and (
        lost := [k for k in spec.schema.slices if k not in table.column_names]
    ):
        warnings.append(
            f"trusted: without the columns {_listed(lost)} no gate looks at these slices"
        )
    return Dataset(
        role=role,
        features=np.column_stack(columns).astype(np.float32)[order],
        labels=None if labels is None else labels[order],
        predictions=None if predictions is None else predictions[order],
        served_at=served_at,
        segments={k: [v[i] for i in order.tolist()] for k, v in segments.items()},
        warnings=tuple(warnings),
    ), []


def _feature(
    column: pa.ChunkedArray, f: Feature, place: str, problems: list[str], warnings: list[str]
) -> NDArray[np.float32]:
    nothing = np.full(len(column), np.nan, np.float32)
    if f.kind == "category":
        return _category(column, f, place, problems, warnings)
    kind = column.type
    if pa.types.is_dictionary(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        try:
            column = pc.cast(pc.cast(column, pa.string()), pa.float64())
        except pa.ArrowInvalid:
            examples = _listed(
                [str(v) for v in pc.unique(pc.cast(column, pa.string()))[:EXAMPLES].to_pylist()]
            )
            problems.append(f"{place}: {f.name} is declared as {f.kind}, holds text ({examples})")
            return nothing
    elif not _numeric(kind):
        problems.append(f"{place}: {f.name} is declared as {f.kind} and holds {kind}")
        return nothing
    values = pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        out = np.asarray(values, np.float32)
    known = ~np.isnan(out)
    if not known.any():
        warnings.append(f"{f.name} has no value at all")
        return nothing
    if (infinite := int(np.isinf(out).sum())) > 0:
        problems.append(f"{place}: {f.name} is infinite (as float32) in {infinite:,} rows")
    low = f.minimum is not None and int((out[known] < f.minimum).sum())
    high = f.maximum is not None and int((out[known] > f.maximum).sum())
    if low or high:
        warnings.append(f"{f.name}: {int(low) + int(high):,} values outside its declared range")
    return out


def _numeric(kind: pa.DataType) -> bool:
    is_ = pa.types
    numbers = (is_.is_floating, is_.is_integer, is_.is_boolean, is_.is_decimal, is_.is_null)
    return any(check(kind) for check in numbers)


def _category(
    column: pa.ChunkedArray, f: Feature, place: str, problems: list[str], warnings: list[str]
) -> NDArray[np.float32]:
    out = np.full(len(column), np.nan, np.float32)
    try:
        texts = pc.cast(column, pa.string()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        problems.append(f"{place}: {f.name} is declared as a category and holds {column.type}")
        return out
    index = {v: i for i, v in enumerate(f.values)}
    unseen: dict[str, int] = {}
    for i, text in enumerate(texts):
        if text is None:
            continue
        code = index.get(text, -1)
        out[i] = code
        if code < 0:
            unseen[text] = unseen.get(text, 0) + 1
    count = sum(unseen.values())
    if count > MANY_UNSEEN * max(1, len(texts)):
        problems.append(
            f"{place}: {count:,} of {len(texts):,} values of {f.name} are not declared"
            f" ({_listed(list(unseen))}; declared: {_listed(list(f.values))})"
        )
    elif count:
        warnings.append(
            f"{f.name}: {count:,} values that are not declared ({_listed(list(unseen))})"
        )
    return out


def _classes(
    table: pa.Table, name: str, spec: ModelSpec, place: str, problems: list[str], *, required: bool
) -> NDArray[np.int32] | None:
    """A column of class names as indices; values outside the classes are a problem."""
    if name not in table.column_names:
        if required:
            problems.append(
                f"{place} has no column {name!r}: it needs labels ([data] label names their column)"
            )
        return None
    try:
        texts = pc.cast(table.column(name), pa.string()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        problems.append(
            f"{place}: {name} holds {table.column(name).type}, class names were expected"
        )
        return None
    index = {c: i for i, c in enumerate(spec.schema.classes)}
    # 1.0 is how a column of whole numbers with missing values comes out of pandas
    index |= {f"{c}.0": i for c, i in list(index.items()) if c.lstrip("-").isdigit()}
    unknown: dict[str, int] = {}
    out = np.full(len(texts), -1, np.int32)
    for i, text in enumerate(texts):
        if text is None:
            continue
        code = index.get(text)
        if code is None:
            unknown[text] = unknown.get(text, 0) + 1
        else:
            out[i] = code
    if unknown:
        problems.append(
            f"{place}: {sum(unknown.values()):,} values of {name} are no classes"
            f" ({_listed(list(unknown))}; classes are {_listed(list(spec.schema.classes))})"
        )
    return out


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
        warnings.append(f"{role}: no row has the label {_listed(absent)}")


def _times(
    table: pa.Table, spec: ModelSpec, place: str, problems: list[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The order of the rows in time, and their times in that order."""
    rows = np.arange(table.num_rows, dtype=np.int64)
    name = spec.data.time
    if name is None:
        return rows, rows * 1_000_000
    if name not in table.column_names:
        problems.append(f"{place} has no column {name!r} ([data] time)")
        return rows, rows
    column = table.column(name)
    try:
        if (
            pa.types.is_timestamp(column.type)
            or pa.types.is_date(column.type)
            or pa.types.is_string(column.type)
            or pa.types.is_large_string(column.type)
        ):
            times = pc.cast(pc.cast(column, pa.timestamp("us"), safe=False), pa.int64())
        else:  # seconds since 1970
            seconds = pc.cast(column, pa.float64())
            times = pc.cast(pc.round(pc.multiply(seconds, 1e6)), pa.int64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        problems.append(
            f"{place}: {name} holds {column.type}; times, or seconds since 1970, were expected"
        )
        return rows, rows
    if times.null_count:
        problems.append(f"{place}: {name} is missing in {times.null_count:,} rows")
        return rows, rows
    values = times.to_numpy().astype(np.int64)
    order = np.argsort(values, kind="stable").astype(np.int64)
    return order, values[order]


def _texts(codes: NDArray[np.int32], classes: Sequence[str]) -> pa.Array:
    return pa.array([classes[c] if c >= 0 else None for c in codes.tolist()], pa.string())


def _listed(values: Sequence[str], most: int = EXAMPLES) -> str:
    shown = ", ".join(str(v) for v in values[:most])
    return f"{shown}, ... ({len(values)} in all)" if len(values) > most else shown
