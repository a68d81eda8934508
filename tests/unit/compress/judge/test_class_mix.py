from __future__ import annotations

import numpy as np
import pytest

from redistill.compress.judge.class_mix import class_mix


def draw(
    rng: np.random.Generator, n: int, mix: list[float], recall: list[float]
) -> tuple[np.ndarray, np.ndarray]:
    y = rng.choice(len(mix), n, p=mix)
    return y, rng.random(n) < np.array(recall)[y]


def test_new_mix_explains_what_it_costs_and_leaves_no_rest() -> None:
    rng = np.random.default_rng(0)
    mix = class_mix(
        draw(rng, 2_000, [0.8, 0.2], [0.95, 0.6]), draw(rng, 1_000, [0.3, 0.7], [0.95, 0.6]), 2
    )
    assert mix is not None
    assert mix.chance < 1e-6
    assert mix.moved == pytest.approx(0.5, abs=0.05)
    assert mix.explained.value == pytest.approx(17.5, abs=3.0)
    assert mix.rest.low is not None
    assert mix.rest.high is not None
    assert mix.rest.low < 0.0 < mix.rest.high


def test_worse_answers_within_the_classes_are_the_rest() -> None:
    rng = np.random.default_rng(1)
    mix = class_mix(
        draw(rng, 2_000, [0.5, 0.5], [0.9, 0.9]), draw(rng, 1_000, [0.5, 0.5], [0.9, 0.5]), 2
    )
    assert mix is not None
    assert mix.chance > 0.001
    assert mix.rest.low is not None
    assert mix.rest.low > 10.0
    assert abs(mix.explained.value) < 2.0


def test_intervals_cover_as_often_as_they_say() -> None:
    explained = rest = 0
    for k in range(1_000):
        rng = np.random.default_rng([k, 1])
        before = draw(rng, 600, [0.7, 0.2, 0.1], [0.95, 0.8, 0.5])
        now = draw(rng, 300, [0.3, 0.3, 0.4], [0.9, 0.75, 0.5])
        mix = class_mix(before, now, 3)
        assert mix is not None
        truth = 100 * (0.4 * 0.95 - 0.1 * 0.8 - 0.3 * 0.5)
        explained += (
            abs(mix.explained.value - truth) <= (mix.explained.high or 0) - mix.explained.value
        )
        truth = 100 * (0.3 * 0.05 + 0.3 * 0.05)
        rest += abs(mix.rest.value - truth) <= (mix.rest.high or 0) - mix.rest.value
    assert min(explained, rest) >= 0.92 * 1_000


def test_counts_that_differ_by_chance_are_called_so() -> None:
    rng = np.random.default_rng(3)
    pairs = [(draw(rng, 500, [0.5, 0.3, 0.2], [1, 1, 1]), draw(rng, 300, [0.5, 0.3, 0.2], [1, 1, 1])) for _ in range(300)]  # fmt: skip
    rare = sum(m.chance < 0.05 for p, q in pairs if (m := class_mix(p, q, 3)) is not None)
    assert 4 <= rare <= 30


def test_without_rows_there_is_nothing_to_compare() -> None:
    none, some = (np.empty(0, int), np.empty(0, bool)), (np.zeros(3, int), np.ones(3, bool))
    assert class_mix(none, some, 2) is None
    assert class_mix(some, none, 2) is None
    one = class_mix(some, some, 2)
    assert one is not None
    assert one.chance == 1.0
