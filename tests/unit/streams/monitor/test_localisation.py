"""Localisation of a loss: the slice that explains it, or none."""

from __future__ import annotations

import numpy as np
from sliced_errors import REFERENCE_ROWS, World, labelled, reference

from redistill.streams.monitor.localisation import Localised, localise
from redistill.streams.monitor.slice_memory import LabelledRows


def where(n: int, seed: int, **harm: object) -> tuple[Localised, list[str]]:
    rng = np.random.default_rng(seed)
    world = World.drawn(rng, 0.1)
    _, expected = reference(world.rows(rng, REFERENCE_ROWS))
    rows = labelled(world.rows(rng, n, **harm), expected)  # type: ignore[arg-type]
    return localise(rows, len(expected.slices)), [s.name for s in expected.slices]


def test_a_slice_that_is_the_whole_cause_is_named_with_what_is_outside() -> None:
    found, names = where(400, 0, harmed=("fifth", 3), harm="flip")
    assert found.slice is not None
    assert names[found.slice.index] == "fifth=v3"
    assert found.slice.share is not None
    assert found.slice.share > 0.7
    assert found.outside is not None
    assert found.outside.low < 0 < found.outside.high
    assert found.outside.n == 400 - found.slice.n
    assert found.ranked[0] == found.slice
    assert len(found.ranked) <= 5


def test_a_loss_of_all_rows_is_everywhere() -> None:
    named = 0
    for seed in range(20):
        found, _ = where(400, seed, harm="+20")
        named += found.slice is not None
        assert found.ranked  # slices are ranked all the same
        assert found.ranked[0].share is not None
    assert named <= 1


def test_too_few_labels_name_nothing() -> None:
    found, _ = where(12, 1, harmed=("twentieth", 3), harm="flip")
    assert found.slice is None
    assert localise(LabelledRows.none(2), 5) == Localised(None, None, ())


def test_rows_without_an_excess_are_ranked_without_shares() -> None:
    none = LabelledRows(
        np.zeros(100, np.uint8),
        np.arange(100),
        np.full(100, 0.1, np.float32),
        np.zeros((100, 1), np.int8),
        np.full(100, -1, np.int8),
    )
    assert localise(none, 1) == Localised(None, None, ())
