"""Names and numbers as people write them: which number, which declared name a text means."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

__all__ = ["LONGEST_NUMBER", "Names", "by_value", "nearly", "number_of"]

LONGEST_NUMBER = 40
"""Digits before or after the point beyond which a text is compared as text, not as a number."""

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.I | re.A)
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.I)
_BETWEEN = re.compile(r"[\s_.:/-]+")
_FLAGS = {"true": 1.0, "false": 0.0}


def nearly(missing: Sequence[str], there: Sequence[str]) -> str:
    """What to add where columns are missing: those that differ by spaces, punctuation or
    capitals only, or by how an accent is composed.

    Examples
    --------
    >>> nearly(["label", "x"], ["id", " label", "X"]), nearly(["x"], ["y"])
    ("; ' label' and 'X' are there, with other spaces, punctuation or capitals", '')
    >>> nearly(["my_income"], ["my income"])
    "; 'my income' is there, with other spaces, punctuation or capitals"
    >>> nearly(["caf\\u00e9"], ["cafe\\u0301"]) > ""
    True
    """
    wanted = set(map(_loosely, missing)) - {""}
    alike = [repr(name) for name in there if _loosely(name) in wanted][:3]
    if not alike:
        return ""
    verb = "is" if len(alike) == 1 else "are"
    return f"; {' and '.join(alike)} {verb} there, with other spaces, punctuation or capitals"


def _loosely(name: str) -> str:
    """A name without what is easily mistaken in it: spaces around it, what stands between its words
    (converters write ``my_income`` for ``my income``), capitals, how accents are composed."""
    return _BETWEEN.sub(" ", unicodedata.normalize("NFKC", name).casefold()).strip()


def number_of(text: str) -> float | None:
    """A text as a number: NaN if it is blank or ``nan``, ``None`` if it is none.

    Examples
    --------
    >>> number_of(" 1e3"), number_of("TRUE"), number_of("-inf"), number_of("n/a"), number_of("1_0")
    (1000.0, 1.0, -inf, None, None)
    """
    word = text.strip().lower()
    if word in ("", "nan"):
        return math.nan
    if word in _FLAGS:
        return _FLAGS[word]
    return float(word) if _NUMBER.fullmatch(word) or _INFINITE.fullmatch(word) else None


def by_value(text: str) -> str:
    """What texts of one value have in common: ``1``, ``1.0``, ``01`` and ``True`` are the same.

    Examples
    --------
    >>> by_value("01.50"), by_value("False"), by_value("1e2"), by_value(" Yes")
    ('1.5', '0', '100', ' Yes')
    """
    word = text.strip().lower()
    if word in _FLAGS:
        return str(int(_FLAGS[word]))
    if len(word) > LONGEST_NUMBER or not _NUMBER.fullmatch(word):
        return text
    number = Decimal(word)
    if not number:
        return "0"
    if abs(number.adjusted()) > LONGEST_NUMBER:
        return text
    return f"{number.normalize():f}"


class Names:
    """Declared names, such as classes: a text is looked up as it stands, then by its value.

    Examples
    --------
    >>> names = Names(["False", "True"])
    >>> names.find("true"), names.find("1"), names.find("maybe"), names.name("0.0")
    (1, 1, -1, 'False')
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._index = {name: i for i, name in enumerate(self.names)}
        values = [by_value(name) for name in self.names]
        often = Counter(values)  # names that differ in their writing only are told apart by it
        self._by_value = {v: i for i, v in enumerate(values) if often[v] == 1}
        self.numeric = bool(names) and all(_NUMBER.fullmatch(v) for v in values)
        """All of them are numbers or booleans: a column of them is no column of words."""

    def find(self, text: str) -> int:
        """Index of the name that a text stands for; -1 if there is none."""
        i = self._index.get(text)
        return self._by_value.get(by_value(text), -1) if i is None else i

    def name(self, text: str) -> str:
        """The name that a text stands for, else the text."""
        i = self.find(text)
        return text if i < 0 else self.names[i]
