"""The test of harm: exact outcomes on seeded streams, its promise, and what tempering is for."""

from __future__ import annotations

import numpy as np
import pytest

from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.harm import FOLD, RECENT, HarmTest, Memory
from redistill.streams.monitor.sequential import upward


def independent(n: int = 20_000, rate: float = 0.1, seed: int = 0) -> BaseError:
    return BaseError.from_errors((np.random.default_rng(seed).random(n) < rate).astype(int))


def run(test: HarmTest, errors: np.ndarray) -> list[tuple[int, str, float, int]]:
    changes = []
    for i, e in enumerate(errors.astype(int).tolist()):
        change = test.update(e, i)
        if change is not None:
            changes.append((i, change.status, change.rate, change.n))
    return changes


def test_opens_updates_and_resolves_at_the_rows_of_the_published_recipe() -> None:
    rng = np.random.default_rng(0)
    reference = rng.random(20_000) < 0.1
    stream = np.r_[rng.random(3000) < 0.1, rng.random(2000) < 0.16, rng.random(3000) < 0.1]
    test = HarmTest(
        BaseError.from_errors(reference.astype(int)),
        tolerance=0.02,
        labels_per_alarm=1e5,
        share=0.1,
    )
    found = run(test, stream)
    assert [(i, status, n) for i, status, _, n in found] == [
        (3755, "open", 794),
        (4549, "update", 1588),
        (5178, "resolved", 75),
    ]
    assert found[0][2] == pytest.approx(0.15365, abs=1e-5)


def test_is_silent_on_a_stationary_stream_ten_times_its_promise_apart() -> None:
    test = HarmTest(independent(), tolerance=0.02, labels_per_alarm=1e5, share=1.0)
    errors = np.random.default_rng(9).random(100_000) < 0.1
    assert run(test, errors) == []


def test_does_not_open_on_a_loss_below_the_tolerance() -> None:
    test = HarmTest(independent(), tolerance=0.05, labels_per_alarm=1e4)
    errors = np.random.default_rng(3).random(20_000) < 0.125
    opened = [c for c in run(test, errors) if c[1] == "open"]
    assert all(rate >= 0.1 + 0.05 - 0.01 for _, _, rate, _ in opened)


def test_strictness_needs_more_evidence_for_the_same_drop() -> None:
    errors = np.random.default_rng(4).random(4_000) < 0.2
    first = [
        run(HarmTest(independent(), tolerance=0.04, labels_per_alarm=1e5, strictness=o), errors)[0][
            0
        ]
        for o in (0.0, 0.5)
    ]
    assert first[0] < first[1]


def test_a_model_without_errors_does_not_page_for_three_wrong_labels() -> None:
    test = HarmTest(
        BaseError.from_errors(np.zeros(20_000, int)), tolerance=0.01, labels_per_alarm=1e4
    )
    errors = np.r_[np.zeros(50), np.ones(3), np.zeros(50)]
    assert run(test, errors) == []
    assert run(test, np.ones(10))[0][1] == "open"


def test_a_run_of_right_rows_is_no_recovery_when_the_level_was_overestimated() -> None:
    # the opening saw 10 wrong of 16; the drop is to 70%, so 17 right rows in a row are not that
    # rare
    rng = np.random.default_rng(1)
    stream = rng.random(4_500) < np.repeat([0.1, 0.3, 0.1], 1_500)
    found = run(HarmTest(independent(), tolerance=0.02, labels_per_alarm=1e5), stream)
    ends = [i for i, status, _, _ in found if status == "resolved"]
    assert len(ends) == 1
    assert ends[0] > 3_000


def test_labels_of_rows_served_before_the_change_are_no_evidence_of_recovery_or_relapse() -> None:
    test = HarmTest(independent(), tolerance=0.02, labels_per_alarm=1e5)
    rng = np.random.default_rng(5)
    said = [test.update(int(rng.random() < 0.1), at) for at in range(3_000)]
    assert not any(said)
    at = 3_000
    while not test.open:  # the world shifts
        test.update(int(rng.random() < 0.6), at)
        at += 1
    late = [test.update(0, served) for served in range(2_000, 3_000)]  # right, from before
    assert not any(late)
    assert test.open
    for _ in range(500):
        test.update(int(rng.random() < 0.6), at)
        at += 1
    shifted = range(3_000, at)
    while test.open:  # it shifts back
        test.update(int(rng.random() < 0.1), at)
        at += 1
    late = [test.update(1, served) for served in shifted]  # wrong, from the time in between
    assert not any(late)
    assert not test.open


def test_tempering_prevents_alarms_on_streams_whose_errors_come_in_runs() -> None:
    rng = np.random.default_rng(6)

    def clumped(n: int) -> np.ndarray:
        return np.repeat(rng.random(n // 6) < 0.1, 6)

    reference, stream = clumped(24_000), clumped(60_000)
    tempered = BaseError.from_errors(reference.astype(int))
    naive = BaseError.from_errors(reference.astype(int), ordered=False)
    opened = [
        sum(
            c[1] == "open"
            for c in run(HarmTest(base, tolerance=0.02, labels_per_alarm=1e6), stream)
        )
        for base in (tempered, naive)
    ]
    assert opened[0] == 0
    assert opened[1] >= 10


def test_delay_formula_is_near_the_simulated_mean() -> None:
    base = independent()
    mixture = upward(base.upper, smallest=0.02, threshold=1e4, share=1.0, curve=base.inflation)
    predicted = mixture.delay(0.2)
    rng = np.random.default_rng(7)
    delays = []
    for _ in range(30):
        test = HarmTest(base, tolerance=0.02, labels_per_alarm=1e4)
        run(test, rng.random(1_000) < 0.1)
        delays.append(run(test, rng.random(3_000) < 0.2)[0][0])
    assert np.mean(delays) == pytest.approx(predicted, rel=0.25)


def test_retune_keeps_the_evidence() -> None:
    test = HarmTest(independent(), tolerance=0.02, labels_per_alarm=1e4)
    run(test, np.random.default_rng(8).random(100) < 0.15)
    before = test.mixture.value
    test.retune(labels_per_alarm=1e5, share=0.1)
    assert test.mixture.value == before
    assert test.mixture.threshold == 1e5


def test_copy_is_independent() -> None:
    test = HarmTest(independent(), tolerance=0.02, labels_per_alarm=1e4)
    run(test, np.random.default_rng(8).random(500) < 0.2)
    twin = test.copy()
    errors = np.random.default_rng(9).random(3_000) < 0.1
    value, size = test.mixture.value, len(test.memory)
    first = run(twin, errors)
    assert (test.mixture.value, len(test.memory)) == (value, size)
    assert run(test, errors) == first


def test_memory_folds_old_outcomes_without_losing_counts() -> None:
    memory, n = Memory(), 3 * RECENT
    errors = (np.random.default_rng(0).random(n) < 0.3).astype(int)
    for i, e in enumerate(errors.tolist()):
        memory.append(e, i)
    counts, folded, times = memory.entries()
    assert counts.sum() == len(memory) == n
    assert folded.sum() == errors.sum()
    assert counts[0] == FOLD
    assert times[0] == 0
    last = memory.entries(RECENT + 100)
    assert last[0].sum() == pytest.approx(RECENT + 100, abs=FOLD)
