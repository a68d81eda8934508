"""Labels and predictions of two files compared, and categories as a model takes them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from redistill.rowcells import NULL_WORDS
from redistill.rownames import Names, by_value
from redistill.rowvalues import Texts, is_number, is_text, numbers, texts
from redistill.streams.wire.block import Codes, Feature
from redistill.textform import category_index

__all__ = ["MAX_VALUES", "answers", "codes_of", "indices", "is_null_word", "wrong_rows"]

MAX_VALUES = 1_000
"""Values of a category that are told apart; rarer ones count as one."""


def codes_of(found: Texts) -> Codes:
    """Texts as a column of a block."""
    return Codes(found.codes, found.values)


def answers(array: pa.Array | pa.ChunkedArray, names: Names | None) -> Texts:
    """A column of labels or predictions: the name that each value stands for. Blank is missing,
    and so are words such as ``NaN`` where the classes are known and none is called so.

    Parameters
    ----------
    names
        Classes that are known; ``None``: values that are equal get the same text.
    """
    name = by_value if names is None else names.name

    def named(text: str) -> str | None:
        return None if not text.strip() or is_null_word(text, names) else name(text)

    return texts(array).mapped(named)


def is_null_word(text: str, names: Names | None) -> bool:
    """Whether a text is a word such as ``NaN`` where the classes are known and none is called so.

    Examples
    --------
    >>> is_null_word("NaN", Names(["no"])), is_null_word("NA", Names(["NA"]))
    (True, False)
    """
    if names is None or not names.names or text.strip().lower() not in NULL_WORDS:
        return False
    return bool(text.strip()) and names.find(text) < 0


def wrong_rows(
    label: pa.Array, prediction: pa.Array, names: Names
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Compare labels with predictions: numbers as numbers (1 equals 1.0 and true), else the classes
    that they name; where those are not known, texts of one type as they stand.

    Returns
    -------
    tuple
        ``(n,)`` 1 where they differ, and ``(n,)`` whether both are known.
    """
    if is_number(label.type) and is_number(prediction.type):
        a, b = numbers(label)[0], numbers(prediction)[0]
        known = np.isfinite(a) & np.isfinite(b)  # infinity is no class of anything
        return ((a != b) & known).astype(np.uint8), known
    alike = names.names or (is_text(label.type) and is_text(prediction.type))
    x, y = (answers(column, names if alike else None) for column in (label, prediction))
    index = {value: i for i, value in enumerate(y.values)}
    same = np.array([index.get(v, -2) for v in x.values] + [-2], np.int64)[x.codes]
    known = (x.codes >= 0) & (y.codes >= 0)
    return ((same != y.codes) & known).astype(np.uint8), np.asarray(known)


def indices(codes: Codes, feature: Feature) -> NDArray[np.float32]:
    """A category column as indices into the feature's values: unseen -1, missing NaN."""
    index = category_index(feature.values)
    table = np.array([index.get(v, -1) for v in codes.values] + [np.nan], np.float32)
    return table[codes.codes]
