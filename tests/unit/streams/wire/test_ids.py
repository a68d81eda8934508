"""Ids in one buffer behave as the strings they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redistill.streams.wire.ids import Ids

texts = st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=20)


@given(texts)
def test_column_is_the_list_it_was_made_of(words: list[str]) -> None:
    column = Ids.of(words)
    assert list(column) == words
    assert column == words
    assert len(column) == len(words)
    assert column.ends[-1] == len("".join(words).encode())
    assert Ids.of(column) is column


@given(texts, st.slices(20))
def test_slices_are_those_of_a_list(words: list[str], part: slice) -> None:
    column = Ids.of(words)[part]
    assert isinstance(column, Ids)
    assert list(column) == words[part]


@given(texts, texts, texts)
def test_joined_columns_stand_in_order(a: list[str], b: list[str], c: list[str]) -> None:
    whole = Ids.of(["x", *b, "y"])[1:-1]  # its buffer holds more than it shows
    assert Ids.joined([Ids.of(a), whole, c]) == [*a, *b, *c]


def test_slice_of_whole_rows_shares_the_buffer() -> None:
    column = Ids.of(["a", "bc", "d"])
    assert column[1:].data is column.data


def test_index_outside_raises_as_in_a_list() -> None:
    column = Ids.of(["a", "é"])
    assert (column[-1], column[-2]) == ("é", "a")
    for i in (2, -3):
        with pytest.raises(IndexError):
            column[i]
    assert column.take([1, 1, 0]) == ["é", "é", "a"]


def test_column_equals_sequences_of_strings_only() -> None:
    column = Ids.of(["a", "b"])
    assert column == ("a", "b")
    assert column != ["a"]
    assert column != "ab"
    assert column != 3
    assert repr(column) == "Ids.of(['a', 'b'])"
    assert Ids(np.frombuffer(b"", np.uint8), np.zeros(1, np.int64)) == []
