"""Foreign text on one line: names and sentences that somebody else chose. Pure."""

from __future__ import annotations

import unicodedata

__all__ = ["one_line"]


def one_line(text: str, longest: int) -> str:
    """A foreign text on one line, without characters that steer a terminal or turn a text around,
    cut at its length.
    It is not escaped.

    Examples
    --------
    >>> one_line("region\\n\\u202eEU  ok", 60), one_line("abcdef", 4)
    ('region EU ok', 'abc…')
    """
    shown = "".join(" " if unicodedata.category(c)[0] == "C" else c for c in text)
    shown = " ".join(shown.split())
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"
