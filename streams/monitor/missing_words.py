"""Missing words: what other languages make of a missing value that they write as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redistill.rowcells import NULL_WORDS
from redistill.rownames import Names

__all__ = ["is_missing", "is_null_word"]


def is_null_word(text: Any) -> bool:
    """Whether a label or a prediction says that there is none.

    Examples
    --------
    >>> [is_null_word(text) for text in ("nan", " None ", "no", 0.5)]
    [True, True, False, False]
    """
    return isinstance(text, str) and text.strip().lower() in NULL_WORDS


def is_missing(text: Any, classes: Sequence[str]) -> bool:
    """Whether it says so, and names none of the model's classes. Other words that name no class
    count: the world may have got a class that the model does not know.

    Examples
    --------
    >>> is_missing("none", ("a", "b")), is_missing("none", ("a", "none")), is_missing("c", ("a",))
    (True, False, False)
    """
    return is_null_word(text) and bool(classes) and Names(classes).find(text) < 0
