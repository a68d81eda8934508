"""Cells without a type, as in CSV files and in names of folders: what a column of them holds.

No type is guessed from the beginning of a file: who knows a column says its kind; of a column that
nobody knows all cells are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from redistill.rowvalues import is_number, is_text, numbers

__all__ = [
    "NULL_WORDS",
    "Kind",
    "Survey",
    "are_whole_floats",
    "guarded",
    "read_cells",
    "whole_floats",
]

Kind = Literal["number", "text", "id", "code", "time"]
"""How a column is read. An id is a text; where all ids of a column were written as floats (pandas
does so where one is missing) they are the whole numbers that they were. A code is the name of a
class where all classes are numbers: it stays as it is written, and words for missing values are
missing."""

NULL_WORDS = (
    *("", "na", "n/a", "nan", "-nan", "null", "none", "nat", "<na>", "\\n"),
    *("#n/a", "#na", "#n/a n/a", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
)
"""Cells, in lower case, that are missing values where a column is not one of texts."""
STRAY_SHARE = 0.01
"""Up to this share of its cells may be no numbers in a column of numbers."""
LONGEST_CELL = 100
"""Characters of a text in a typed column that are looked at to see what it holds."""

_FLOAT_WHOLE = r"^(-?\d+\.0|-?\d(\.\d+)?e\+\d+|-?\d\.\d+E\d+|0|-?[1-9]\d{0,14})$"
"""As Python, R and Java write them; beside them whole numbers that a float holds: of part files
only some were written as floats."""
_GROUPED = r"^[+-]?[1-9]\d{0,2}(\.\d{3})+(,\d*)?$"
_FORMULA = r'(?s)^="(.*)"$'
"""A text that was written so that Excel leaves it as it is."""
_RUN = r"^[=+\-@\t\r]"
"""Texts that a spreadsheet takes for formulas and runs (OWASP, CSV injection)."""
_SIGNED = r"^[+-]\d+(\.\d+)?$"
_DAY = r"^\d{4}-\d{2}-\d{2}([T ]|$)"


def read_cells(
    column: pa.Array, kind: Kind, *, comma: bool = False, grouped: bool = False
) -> pa.Array:
    """Cells as values of a kind: numbers as float64 (or bool) where all of them are some.

    Parameters
    ----------
    column
        ``(n,)`` texts as they stand in the file; a column that has a type is left as it is.
    comma
        ``1,5`` is a number.
    grouped
        ``1.234`` is more than a thousand.
    """
    if not is_text(column.type):
        return column
    if pa.types.is_dictionary(column.type):
        made = read_cells(column.dictionary, kind, comma=comma, grouped=grouped)
        return pa.DictionaryArray.from_arrays(column.indices, made)
    if kind in ("text", "id"):
        return _filled(column)
    words = pc.utf8_trim_whitespace(_bare(column))
    missing = pc.is_in(pc.utf8_lower(words), pa.array(NULL_WORDS))
    words = pc.if_else(missing, None, words)
    if kind in ("code", "time"):
        return words
    if grouped:
        many = pc.match_substring_regex(words, _GROUPED)
        words = pc.if_else(many, pc.replace_substring(words, ".", ""), words)
    if comma:
        words = pc.replace_substring_regex(words, r"^([^.,]*),([^.,]*)$", r"\1.\2")
    for held in (pa.float64(), pa.bool_()):
        try:
            return words.cast(held)
        except pa.ArrowInvalid:
            continue
    return words


def guarded(table: pa.Table) -> pa.Table:
    """Texts as a CSV file for people has them: what a spreadsheet would run as a formula is written
    as ``="text"``, which it shows, and ``read_cells`` reads as the text that it was.

    Examples
    --------
    >>> guarded(pa.table({"id": ["a", "=1+1", "-5"]}))["id"].to_pylist()
    ['a', '="=1+1"', '-5']
    """
    for i, field in enumerate(table.schema):
        if not pa.types.is_string(field.type):
            continue
        column = table.column(i)
        runs = pc.and_(
            pc.match_substring_regex(column, _RUN),
            pc.invert(pc.match_substring_regex(column, _SIGNED)),
        )
        quoted = pc.replace_substring(column, '"', '""')
        shown = pc.binary_join_element_wise('="', quoted, '"', "")
        table = table.set_column(i, field, pc.if_else(runs, shown, column))
    return table


def are_whole_floats(column: pa.Array) -> bool:
    """Whether all cells that are there are whole numbers written as floats."""
    if not is_text(column.type):
        return is_number(column.type)  # of another part, which has types
    if pa.types.is_dictionary(column.type):
        column = column.dictionary.cast(pa.string())
    return pc.all(pc.match_substring_regex(_filled(column), _FLOAT_WHOLE)).as_py() is not False


def whole_floats(column: pa.Array) -> pa.Array:
    """The numbers of such a column."""
    if not is_text(column.type):
        return column
    if pa.types.is_dictionary(column.type):
        return pa.DictionaryArray.from_arrays(column.indices, whole_floats(column.dictionary))
    return _filled(column).cast(pa.float64())


def _filled(column: pa.Array) -> pa.Array:
    column = _bare(column)
    return pc.if_else(pc.equal(column, ""), None, column)


def _bare(column: pa.Array) -> pa.Array:
    """Cells such as ``="007"`` without what guards them."""
    if not pc.any(pc.starts_with(column, '="')).as_py():
        return column
    guards = pc.match_substring_regex(column, _FORMULA)
    bare = pc.replace_substring_regex(column, _FORMULA, r"\1")
    return pc.if_else(guards, pc.replace_substring(bare, '""', '"'), column)


@dataclass(slots=True)
class Survey:
    """What the cells of a column are, counted."""

    known: int = 0
    odd: int = 0
    """Cells that are no numbers."""
    first_odd: int | None = None
    """The row of the first of them."""
    example: str = ""
    """It."""
    times: bool = True
    """All of them are days or moments."""

    def add(self, column: pa.Array, first: int, *, comma: bool, grouped: bool = False) -> None:
        """Count the cells of rows that follow; ``first`` is the number of rows before them."""
        if pa.types.is_dictionary(column.type):  # one long text may stand in many rows
            short = pc.utf8_slice_codeunits(column.dictionary.cast(pa.string()), 0, LONGEST_CELL)
            column = short.take(column.indices)
        made = read_cells(column, "number", comma=comma, grouped=grouped)
        self.known += len(made) - made.null_count
        if not is_text(made.type):
            self.times = self.times and made.null_count == len(made)
            return
        wrong = numbers(made)[1]
        if wrong is not None:
            self.odd += int(wrong.sum())
            if self.first_odd is None:
                row = int(np.argmax(wrong))
                self.first_odd, self.example = first + row, str(made[row])
        self.times = self.times and pc.all(pc.match_substring_regex(made, _DAY)).as_py() is True

    @property
    def kind(self) -> Kind:
        """What the column is read as. One without any value is one of numbers."""
        if self.odd <= STRAY_SHARE * self.known:
            return "number"
        return "time" if self.times else "text"
