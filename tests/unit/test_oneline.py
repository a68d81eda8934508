"""Foreign text on one line: nothing that steers a terminal or turns a text around is left."""

from __future__ import annotations

import pytest

from redistill.oneline import one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\r\nb\tc", "a b c"),
        ("\x1b[31mred\x07", "[31mred"),
        ("\u202eevil\u2066", "evil"),
        ("", ""),
        ("äöü 漢字", "äöü 漢字"),
    ],
)
def test_text_is_on_one_line(text: str, shown: str) -> None:
    assert one_line(text, 60) == shown


def test_text_is_cut_at_its_length() -> None:
    assert one_line("a" * 61, 60) == "a" * 59 + "…"
    assert one_line("a" * 60, 60) == "a" * 60
