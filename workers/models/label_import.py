"""Labels from a file: each row becomes a ``label.v1`` event, or is rejected with its reason.

Importing the same file again changes nothing: a label is known by its id, source and time, and where the file
has no times all its labels have the time at which the file was last changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from redistill.streams.wire.events import LABEL_AHEAD, LabelObserved
from redistill.workers.errors import UsageError

BATCH = 5_000
"""Rows that are read and sent at once: bounds memory, however long the file is."""
MAX_ID = 200
MAX_LABEL = 1_000
"""Characters of a label; what is longer is no class of anything."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Which column holds what; ``None``: the file has no such column."""

    id: str = "id"
    label: str = "label"
    time: str | None = None
    confidence: str | None = None
    inclusion: str | None = None
    """Probability with which the row was drawn to be labelled."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that is no label."""

    row: int
    """From 1, without the header."""
    id: str
    label: str
    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a file."""

    rows: int
    labels: list[LabelObserved]
    rejects: list[Reject]


def count(path: Path) -> int | None:
    """Rows of a file where they are known without reading it."""
    return pq.read_metadata(path).num_rows if _is_parquet(path) else None


def read(
    path: Path,
    columns: Columns,
    *,
    model: str,
    source: str,
    now: datetime,
    classes: Sequence[str] | None = None,
    retract: bool = False,
) -> Iterator[Batch]:
    """Read a Parquet or CSV file in batches.

    Parameters
    ----------
    now
        A label that was observed more than ``LABEL_AHEAD`` later is rejected, as stream workers would.
    classes
        Of the registered model: any other label is rejected; ``None``: nobody knows them.
    retract
        The rows take labels back in place of giving them.

    Raises
    ------
    UsageError
        The file cannot be read, or a column is not there; the message names those that are.
    """
    try:
        modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        known = None if classes is None else frozenset(classes)
        seen = 0
        for table in _tables(path, columns):
            rows = table.to_pylist()
            labels: list[LabelObserved] = []
            rejects: list[Reject] = []
            for row in rows:
                seen += 1
                given = _label(row, columns, model, source, known, now, modified, retract)
                if isinstance(given, str):
                    shown = [str(row[c] or "")[:MAX_ID] for c in (columns.id, columns.label)]
                    rejects.append(Reject(seen, shown[0], shown[1], given))
                else:
                    labels.append(given)
            yield Batch(len(rows), labels, rejects)
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as {_kind(path)}: {error}") from error


def _label(
    row: dict[str, Any],
    columns: Columns,
    model: str,
    source: str,
    classes: frozenset[str] | None,
    now: datetime,
    modified: datetime,
    retract: bool,
) -> LabelObserved | str:
    """A row as a label, or why it is none."""
    row_id = row[columns.id]
    if row_id is None or row_id == "":
        return "the id is missing"
    if len(row_id) > MAX_ID:
        return f"the id has {len(row_id)} characters, {MAX_ID} are allowed"
    label = None if retract else row[columns.label]
    if not retract and (label is None or label == ""):
        return "the label is missing"
    if label is not None and len(label) > MAX_LABEL:
        return f"the label has {len(label)} characters, {MAX_LABEL} are allowed"
    if "\0" in row_id or "\0" in (label or ""):
        return "a text contains NUL, which no database stores"
    if label is not None and classes is not None and label not in classes:
        whole = label.removesuffix(
            ".0"
        )  # how a column of whole numbers with gaps comes out of pandas
        if whole not in classes:
            return f"{label!r} is no class of the model"
        label = whole
    observed = modified
    if columns.time is not None:
        observed = row[columns.time]
        if observed is None:
            return "the time is missing or cannot be read"
        if observed > now + LABEL_AHEAD:
            return f"the time {observed.isoformat()} lies in the future"
    shares: dict[str, float | None] = {}
    for key, column in (("confidence", columns.confidence), ("inclusion", columns.inclusion)):
        given: Any = None if column is None else row[column]
        try:
            value = None if given in (None, "") else float(given)
        except ValueError:
            return f"the {key} {given[:MAX_ID]!r} is no number"
        if value is not None and not (0 <= value <= 1):
            return f"the {key} {value} is not between 0 and 1"
        shares[key] = value
    if shares["inclusion"] == 0:
        return "the inclusion probability is 0"
    return LabelObserved(
        id=row_id,
        model=model,
        label=label,
        observed_at=observed,
        source=source,
        confidence=shares["confidence"],
        op="retract" if retract else "upsert",
        inclusion_probability=shares["inclusion"],
    )


def _tables(path: Path, columns: Columns) -> Iterator[pa.Table]:
    """The needed columns in batches, as strings, and times in UTC."""
    wanted = [columns.id, columns.label, columns.time, columns.confidence, columns.inclusion]
    names = [c for c in wanted if c is not None]
    if _is_parquet(path):
        with pq.ParquetFile(path) as file:
            _check(path, names, file.schema_arrow.names)
            for batch in file.iter_batches(BATCH, columns=list(dict.fromkeys(names))):
                yield _cast(pa.table(batch), columns)
        return
    with pcsv.open_csv(path) as probe:
        header = probe.schema.names
    _check(path, names, header)
    # Ids such as 007 must stay texts.
    options = pcsv.ConvertOptions(
        column_types={name: pa.string() for name in header},
        include_columns=list(dict.fromkeys(names)),
        strings_can_be_null=True,
    )
    with pcsv.open_csv(path, convert_options=options) as reader:
        for batch in reader:
            for start in range(0, batch.num_rows, BATCH):
                yield _cast(pa.table(batch.slice(start, BATCH)), columns)


def _cast(table: pa.Table, columns: Columns) -> pa.Table:
    out = {}
    for name in table.column_names:
        column = table.column(name)
        if name == columns.time:
            out[name] = _times(column)
        else:  # shares too: each row says what is wrong with its own
            out[name] = pc.cast(column, pa.string())
    return pa.table(out)


def _times(column: pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Times in UTC; without a zone they are taken to be in UTC; what cannot be read is null."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        given = column if kind.tz is not None else pc.assume_timezone(column, "UTC")
        return pc.cast(given, pa.timestamp("us", "UTC"), safe=False)
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):  # seconds since 1970
        micros = pc.cast(pc.round(pc.multiply(pc.cast(column, pa.float64()), 1e6)), pa.int64())
        return pc.cast(micros, pa.timestamp("us", "UTC"))
    texts = pc.cast(column, pa.string()).to_pylist()
    return pa.array([_moment(t) for t in texts], pa.timestamp("us", "UTC"))


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _check(path: Path, names: Sequence[str], there: Sequence[str]) -> None:
    if missing := [n for n in dict.fromkeys(names) if n not in there]:
        raise UsageError(
            f"{path} has no column {', '.join(map(repr, missing))}; it has {', '.join(there[:20])}"
        )


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in (".parquet", ".pq")


def _kind(path: Path) -> str:
    return "Parquet" if _is_parquet(path) else "CSV"
