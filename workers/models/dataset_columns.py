"""Columns of a file that ``[data]`` names, batch by batch: as jobs want them, and what is wrong
with each.

A problem names the file, the column, the value and the first row that has it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from redistill.rowcells import Kind
from redistill.rowfiles import Batch
from redistill.rownames import Names
from redistill.rowtimes import times
from redistill.rowvalues import Texts, float32, numbers, texts
from redistill.streams.wire.block import Feature
from redistill.textform import category_index

__all__ = ["CategoryColumn", "ClassColumn", "NumberColumn", "SliceColumn", "TimeColumn", "listed"]

MANY_UNSEEN = 0.5
"""Above this share of undeclared values the column is not the one that was declared."""
EXAMPLES = 3
SHOWN = 80
"""Characters of a value in a message: a cell may hold megabytes."""


WRITTEN = "; numbers are written as 1234.5, without separators of thousands, percent or currency"
_FOREIGN_NUMBER = re.compile(r"[$€£]?\s*[+-]?\d[\d.,'\s]*\s*[%$€£]?")


class _Odd:
    """Values that cannot be used: how many, some of them, and where the first is."""

    def __init__(self) -> None:
        self.count = 0
        self.examples: dict[str, None] = {}
        self.first = ""

    def add(self, batch: Batch, name: str, rows: NDArray[np.bool_] | None) -> None:
        if rows is None or not rows.any():
            return
        found = np.flatnonzero(rows)
        self.count += len(found)
        self.first = self.first or batch.where(int(found[0]))
        if len(self.examples) <= EXAMPLES:
            values = batch[name].take(found[:1_000]).unique()
            self.examples |= {str(v)[:40]: None for v in values.to_pylist()}

    def __str__(self) -> str:
        first = f", the first in {self.first}" if self.count > 1 else f", {self.first}"
        return f"({listed(list(self.examples))}) in {self.count:,} rows{first}"


class _Refused:
    """Values without a text: the first of them."""

    def __init__(self) -> None:
        self.first = ""

    def add(self, batch: Batch, refused: dict[int, str]) -> None:
        if refused and not self.first:
            row, why = min(refused.items())
            self.first = f"{why} ({batch.where(row)})"


class NumberColumn:
    """A feature that is a number."""

    def __init__(self, feature: Feature) -> None:
        self.name, self.feature = feature.name, feature
        self.kind: Kind = "number"
        self.words, self.infinite = _Odd(), _Odd()
        self.known = self.outside = 0

    def add(self, batch: Batch) -> NDArray[np.float32]:
        """``(n,)`` NaN where missing, or no number that float32 holds."""
        f = self.feature
        values, words = numbers(batch[f.name])
        self.words.add(batch, f.name, words)
        out, infinite = float32(values)
        self.infinite.add(batch, f.name, infinite)
        self.known += int((~np.isnan(out)).sum())
        with np.errstate(invalid="ignore"):
            if f.minimum is not None:
                self.outside += int((out < f.minimum).sum())
            if f.maximum is not None:
                self.outside += int((out > f.maximum).sum())
        return out

    def judge(self, place: str, problems: list[str], warnings: list[str]) -> None:
        """Say what was wrong in all rows."""
        f = self.feature
        if self.words.count:
            hint = WRITTEN if any(map(_FOREIGN_NUMBER.fullmatch, self.words.examples)) else ""
            problems.append(
                f"{place}: {f.name} is declared as {f.kind}, holds text {self.words}{hint}"
            )
            return
        if not self.known:
            warnings.append(f"{f.name} has no value at all")
        if self.infinite.count:
            warnings.append(
                f"{f.name} is infinite (as float32) in {self.infinite.count:,} rows, the first in"
                f" {self.infinite.first}: missing there, and of a wrong type in live rows"
            )
        if self.outside:
            warnings.append(f"{f.name}: {self.outside:,} values outside its declared range")


class CategoryColumn:
    """A feature that is one of declared values."""

    def __init__(self, feature: Feature) -> None:
        self.name, self.feature = feature.name, feature
        self.kind: Kind = "text"
        self.index = category_index(feature.values)
        self.refused = _Refused()
        self.unseen: dict[str, int] = {}
        self.rows = 0

    def add(self, batch: Batch) -> NDArray[np.float32]:
        """``(n,)`` indices into the declared values; unseen -1, missing NaN."""
        found = texts(batch[self.feature.name])
        self.refused.add(batch, found.refused)
        self.rows += len(batch)
        _count(found, lambda text: text not in self.index, self.unseen)
        table = [float(self.index.get(v, -1)) for v in found.values]
        return np.array([*table, np.nan], np.float32)[found.codes]

    def judge(self, place: str, problems: list[str], warnings: list[str]) -> None:
        """Say what was wrong in all rows."""
        f, count = self.feature, sum(self.unseen.values())
        if self.refused.first:
            problems.append(f"{place}: {f.name} {self.refused.first}")
        elif count > MANY_UNSEEN * max(1, self.rows):
            problems.append(
                f"{place}: {count:,} of {self.rows:,} values of {f.name} are not declared"
                f" ({listed(list(self.unseen))}; declared: {listed(list(f.values))})"
            )
        elif count:
            warnings.append(
                f"{f.name}: {count:,} values that are not declared ({listed(list(self.unseen))})"
            )


class ClassColumn:
    """A column of class names."""

    def __init__(self, name: str, names: Names) -> None:
        self.name, self.names = name, names
        self.kind: Kind = "code" if names.numeric else "text"
        self.refused = _Refused()
        self.unknown: dict[str, int] = {}
        self.codes: list[NDArray[np.int32]] = []

    def add(self, batch: Batch) -> None:
        """Read these rows; blank is missing."""
        found = texts(batch[self.name]).mapped(lambda text: text if text.strip() else None)
        self.refused.add(batch, found.refused)
        _count(found, lambda text: self.names.find(text) < 0, self.unknown)
        self.codes.append(found.index_in(self.names))

    def judge(self, place: str, problems: list[str]) -> NDArray[np.int32]:
        """``(n,)`` indices into the classes, -1 = none; values outside them are a problem."""
        if self.refused.first:
            problems.append(f"{place}: {self.name} {self.refused.first}")
        if self.unknown:
            problems.append(
                f"{place}: {sum(self.unknown.values()):,} values of {self.name} are no classes"
                f" ({listed(list(self.unknown))}; classes are {listed(self.names.names)})"
            )
        return np.concatenate([np.zeros(0, np.int32), *self.codes])


class TimeColumn:
    """The column of times; each row has one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.kind: Kind = "time"
        self.missing = 0
        self.wrong = ""
        self.us: list[NDArray[np.int64]] = []

    def add(self, batch: Batch) -> None:
        """Read these rows."""
        found = times(batch[self.name])
        if found.refused and not self.wrong:
            row, why = min(found.refused.items())
            self.wrong = f"{why} ({batch.where(row)})"
        self.missing += int((~found.known).sum()) - len(found.refused)
        self.us.append(found.us)

    def judge(self, place: str, problems: list[str]) -> NDArray[np.int64]:
        """``(n,)`` microseconds since 1970."""
        if self.wrong:
            problems.append(f"{place}: {self.name} holds {self.wrong}")
        if self.missing:
            problems.append(f"{place}: {self.name} is missing in {self.missing:,} rows")
        return np.concatenate([np.zeros(0, np.int64), *self.us])


class SliceColumn:
    """A column of slices that is no feature."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.kind: Kind = "text"
        self.refused = _Refused()
        self.values: list[str | None] = []

    def add(self, batch: Batch) -> None:
        """Read these rows."""
        found = texts(batch[self.name])
        self.refused.add(batch, found.refused)
        self.values.extend(found.strings())

    def judge(self, place: str, problems: list[str]) -> list[str | None]:
        """``n`` texts."""
        if self.refused.first:
            problems.append(f"{place}: {self.name} {self.refused.first}")
        return self.values


def _count(found: Texts, odd: Callable[[str], bool], counts: dict[str, int]) -> None:
    """Add up, in place, how often texts of a kind occur."""
    often = np.bincount(found.codes[found.codes >= 0], minlength=len(found.values))
    for text, n in zip(found.values, often.tolist(), strict=True):
        if odd(text):
            name = text[:SHOWN]
            counts[name] = counts.get(name, 0) + n


def listed(values: Sequence[str], most: int = EXAMPLES) -> str:
    """The first of them, and how many there are."""
    shown = ", ".join(str(v) for v in values[:most])
    return f"{shown}, ... ({len(values)} in all)" if len(values) > most else shown
