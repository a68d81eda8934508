"""Two episodes of harm are one if what lies between them is no sign of health."""

from __future__ import annotations

import numpy as np
import pytest

from redistill.streams.monitor.episode import Episode, joined
from redistill.streams.monitor.sequential import Inflation, inflation

FIRST, SECOND = Episode(1_000, 240, 10, 20), Episode(60, 20, 900, 950)
FLAT = ((1.0, 1.0),)


@pytest.mark.parametrize(
    ("between", "one"),
    [
        ((0, 0), True),
        ((30, 0), True),
        ((200, 40), True),
        ((200, 80), True),
        ((300, 20), False),
        ((5_000, 750), False),
    ],
    ids=["nothing", "few", "as bad", "worse", "much better", "health"],
)
def test_rows_between_decide(between: tuple[int, int], one: bool) -> None:
    found = weighed(between, after=between)
    assert (found is not None) == one
    if found is not None:
        assert (found.n, found.errors) == (1_060 + between[0], 260 + between[1])
        assert (found.low, found.high) == (10, 20)
        assert found.rate == found.errors / found.n


def test_labels_on_which_the_recovery_was_called_prove_nothing() -> None:
    assert weighed((5_000, 500), after=(0, 0)) is not None
    assert weighed((5_000, 500), after=(30, 0)) is not None
    assert weighed((5_000, 500), after=(1_000, 100)) is None


def weighed(
    between: tuple[int, int], *, after: tuple[int, int], curve: Inflation = FLAT, share: float = 1.0
) -> Episode | None:
    return joined(FIRST, between, SECOND, after=after, odds=18.0, curve=curve, share=share)


def test_a_quiet_stretch_says_less_where_errors_come_in_runs() -> None:
    runs = inflation(np.repeat(np.random.default_rng(0).random(1_000) < 0.24, 30).astype(int))
    assert weighed((300, 20), after=(300, 20), curve=runs) is not None
    assert weighed((300, 20), after=(300, 20), curve=runs, share=0.01) is None


def test_an_episode_without_a_right_row_can_be_weighed() -> None:
    every = Episode(20, 20, 10, 20)
    quiet = (100, 10)
    assert joined(every, quiet, every, after=quiet, odds=18.0, curve=FLAT, share=1.0) is None
