"""Words and fields of findings about slices."""

from __future__ import annotations

import numpy as np
from sliced_errors import REFERENCE_ROWS, World, labelled, reference

from redistill.streams.monitor.slice_findings import where_and_why
from redistill.streams.monitor.slice_memory import LabelledRows


def test_words_say_the_place_the_rest_and_both_parts_with_their_intervals() -> None:
    rng = np.random.default_rng(0)
    world = World.drawn(rng, 0.1)
    base, expected = reference(world.rows(rng, REFERENCE_ROWS))
    rows = labelled(world.rows(rng, 500, harmed=("fifth", 1), harm="flip"), expected)
    fields, words = where_and_why(rows, expected, reference=base.rate)
    assert words.startswith("in fifth=v1: error ")
    assert " beyond what was expected; of that " in words
    assert " because harder rows came (estimated), +" in words
    assert words.endswith(" because it got worse on like rows (measured)")
    shares = [s.share for s in fields["slices"]]
    assert shares[0] > 0.7
    assert fields["outside"].basis == fields["got_worse"].basis == "measured"
    assert fields["mix_moved"].n == fields["got_worse"].n == 500


def test_no_rows_say_nothing() -> None:
    rng = np.random.default_rng(0)
    _, expected = reference(World.drawn(rng, 0.1).rows(rng, 2_000))
    assert where_and_why(LabelledRows.none(5), expected, reference=0.1) == ({}, "")
