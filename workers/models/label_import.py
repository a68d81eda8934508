"""Labels from a file: each row becomes a ``label.v1`` event, or is rejected with its reason.

Importing the same file again changes nothing: a label is known by its id, source and time, and
where the file has no times all its labels have the time at which the file (of a folder: the part
file) was last changed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from redistill.rowcells import Kind
from redistill.rowcsv import RowFileError
from redistill.rowfiles import Batch, RowFile, open_rows
from redistill.rownames import Names, nearly, number_of
from redistill.rowtimes import times
from redistill.rowvalues import numbers, texts
from redistill.streams.wire.events import LABEL_AHEAD, LABEL_EARLIEST, LabelObserved
from redistill.times import utc
from redistill.workers.errors import UsageError

__all__ = ["BATCH", "Columns", "LabelBatch", "RejectedRow", "count", "read"]

BATCH = 5_000
"""Rows that are read and sent at once: bounds memory, however long the file is."""
_SHORTENED = re.compile(r"\d(\.\d+)?E\+\d+", re.A)
"""A long number as a spreadsheet writes it: most digits are lost."""
_SERIAL = (1_900, 300_000)
"""Numbers between which a time is a year, a month such as 202603 or a day of a spreadsheet."""
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
class RejectedRow:
    """A row that is no label."""

    row: int
    """From 1, without the header."""
    id: str
    label: str
    reason: str


@dataclass(frozen=True, slots=True)
class LabelBatch:
    """Some rows of a file."""

    rows: int
    labels: list[LabelObserved]
    rejects: list[RejectedRow]


def count(path: Path) -> int | None:
    """Rows of a file where they are known without reading it.

    Raises
    ------
    UsageError
        The file cannot be read.
    """
    return _opened(path).rows


def read(
    path: Path,
    columns: Columns,
    *,
    model: str,
    source: str,
    now: datetime,
    classes: Sequence[str] | None = None,
    retract: bool = False,
) -> Iterator[LabelBatch]:
    """Read a Parquet or CSV file, or a folder of part files, in batches.

    Parameters
    ----------
    now
        A label that was observed more than ``LABEL_AHEAD`` later, or before ``LABEL_EARLIEST``,
        is rejected, as stream workers would.
    classes
        Of the registered model: any other label is rejected; ``None``: nobody knows them.
    retract
        The rows take labels back in place of giving them.

    Raises
    ------
    UsageError
        The file cannot be read, or a column is not there; the message names those that are.
    """
    file = _opened(path)
    names = None if classes is None else Names(classes)
    kinds = _kinds(file, columns, names, retract)
    try:
        for batch in file.batches(kinds, BATCH):
            rows = _Rows(batch, columns, names, now, retract)
            given = [rows.label(i, model, source) for i in range(len(batch))]
            yield LabelBatch(
                len(batch),
                [x for x in given if isinstance(x, LabelObserved)],
                [rows.reject(i, x) for i, x in enumerate(given) if isinstance(x, str)],
            )
    except RowFileError as error:
        raise UsageError(str(error)) from error


def _opened(path: Path) -> RowFile:
    try:
        return open_rows(path)
    except RowFileError as error:
        raise UsageError(str(error)) from error


def _kinds(file: RowFile, columns: Columns, names: Names | None, retract: bool) -> dict[str, Kind]:
    """How the columns are read that are needed; they are there."""
    # Where all classes are numbers, words such as NA are missing labels, else they may be classes.
    label: Kind = "id" if names is None else "code" if names.numeric else "text"
    wanted: dict[str | None, Kind] = {
        columns.inclusion: "number",
        columns.confidence: "number",
        columns.time: "time",
        None if retract else columns.label: label,
        columns.id: "id",
    }
    kinds = {name: kind for name, kind in reversed(wanted.items()) if name is not None}
    if missing := [n for n in kinds if n not in file.columns]:
        raise UsageError(
            f"{file.name} has no column {', '.join(map(repr, missing))};"
            f" it has {', '.join(file.columns[:20])}{nearly(missing, file.columns)}"
        )
    if lists := [n for n in kinds if not file.is_single(n)]:
        raise UsageError(
            f"column {lists[0]!r} of {file.name} is {file.type_of(lists[0])}: one value per row was"
            " expected"
        )
    return kinds


class _Rows:
    """The columns of some rows, and each row as a label."""

    def __init__(
        self, batch: Batch, columns: Columns, names: Names | None, now: datetime, retract: bool
    ) -> None:
        self.batch = batch
        self.names = names
        self.latest = now + LABEL_AHEAD
        self.retract = retract
        self.ids = texts(batch[columns.id])
        self.labels = None if retract else texts(batch[columns.label])
        self.id = self.ids.strings()
        self.text = [None] * len(batch) if self.labels is None else self.labels.strings()
        self.time = columns.time
        self.times = None if columns.time is None else times(batch[columns.time])
        self.shares = {
            key: (batch[column], *numbers(batch[column]))
            for key, column in (
                ("confidence", columns.confidence),
                ("inclusion", columns.inclusion),
            )
            if column is not None
        }

    def label(self, i: int, model: str, source: str) -> LabelObserved | str:
        """A row as a label, or why it is none."""
        row_id, text = self.id[i], self.text[i]
        if i in self.ids.refused:
            return f"the id {self.ids.refused[i]}"
        if row_id is None or not row_id.strip():
            return "the id is missing"
        if _SHORTENED.fullmatch(row_id):
            return "the id was shortened by a spreadsheet: format its column as text, save it again"
        if len(row_id) > MAX_ID:
            return f"the id has {len(row_id)} characters, {MAX_ID} are allowed"
        if self.labels is not None and i in self.labels.refused:
            return f"the label {self.labels.refused[i]}"
        if not self.retract and (text is None or not text.strip()):
            return "the label is missing"
        if text is not None and len(text) > MAX_LABEL:
            return f"the label has {len(text)} characters, {MAX_LABEL} are allowed"
        if "\0" in row_id or "\0" in (text or ""):
            return "a text contains NUL, which no database stores"
        if text is not None and self.names is not None:
            known = self.names.find(text)
            if known < 0:
                return f"{text!r} is no class of the model"
            text = self.names.names[known]
        observed = self._observed(i)
        if isinstance(observed, str):
            return observed
        shares: dict[str, float | None] = {}
        for key in self.shares:
            if isinstance(share := self._share(key, i), str):
                return share
            shares[key] = share
        if shares.get("inclusion") == 0:
            return "the inclusion probability is 0"
        return LabelObserved(
            id=row_id,
            model=model,
            label=text,
            observed_at=observed,
            source=source,
            confidence=shares.get("confidence"),
            op="retract" if self.retract else "upsert",
            inclusion_probability=shares.get("inclusion"),
            arrival="import",
        )

    def _observed(self, i: int) -> datetime | str:
        """When the label became known, or what is wrong with that."""
        if self.times is None:
            return datetime.fromtimestamp(self.batch.modified(i), UTC)
        if i in self.times.refused:
            return f"the time is {self.times.refused[i]}"
        if not self.times.known[i]:
            return "the time is missing"
        observed = utc(int(self.times.us[i]))
        if _SERIAL[0] <= observed.timestamp() < _SERIAL[1] and self._is_number(i):
            return (
                f"the time is {observed.timestamp():g}: that many seconds after 1970 nothing was"
                " labelled; if it is a year or a day of a spreadsheet, write ISO 8601"
            )
        if observed > self.latest:
            return f"the time {observed.isoformat()} lies in the future"
        if observed < LABEL_EARLIEST:
            return f"the time {observed.isoformat()} lies before 1970"
        return observed

    def _is_number(self, i: int) -> bool:
        """Whether a time was written as one."""
        cell = self.batch[self.time][i].as_py() if self.time else None
        return isinstance(cell, (int, float, Decimal)) or number_of(str(cell)) is not None

    def _share(self, key: str, i: int) -> float | str | None:
        """A share, or what is wrong with it."""
        column, values, wrong = self.shares[key]
        if wrong is not None and wrong[i]:
            return f"the {key} {str(column[i].as_py())[:MAX_ID]!r} is no number"
        value = float(values[i])
        if math.isnan(value):
            return None
        return value if 0 <= value <= 1 else f"the {key} {value} is not between 0 and 1"

    def reject(self, i: int, reason: str) -> RejectedRow:
        """A row that is no label."""
        place = self.batch.where(i)
        if " of " in place:  # a row of a part file
            reason = f"{reason} ({place})"
        shown = [(text[i] or "")[:MAX_ID] for text in (self.id, self.text)]
        return RejectedRow(self.batch.first + i + 1, shown[0], shown[1], reason)
