"""Words for "missing": what they are, and where one is a class."""

from __future__ import annotations

import pytest

from redistill.streams.monitor.missing_words import is_missing, is_null_word


@pytest.mark.parametrize("word", ["nan", "None", "NULL", "<NA>", " NaN ", "n/a"])
def test_a_word_for_missing_is_one_unless_a_class_has_its_name(word: str) -> None:
    assert is_null_word(word)
    assert is_missing(word, ("repay", "default"))
    assert not is_missing(word, ())
    assert not is_missing(word, ("repay", word))


@pytest.mark.parametrize("value", ["a new class", "0", "-", None, 1.5, True])
def test_anything_else_is_a_label(value: object) -> None:
    assert not is_missing(value, ("repay", "default"))
