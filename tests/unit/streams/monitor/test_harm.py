"""The test of harm: exact outcomes on seeded streams, its promise, and what tempering is for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from standing_harm import RISES, Before, drawn, said_by

from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.harm import HarmChange, HarmTest
from redistill.streams.monitor.sequential import upward
from redistill.times import DAY, HOUR


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
        (5222, "resolved", 119),
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


@pytest.mark.parametrize("labels_per_alarm", [1_000, 7_000, 20_000])
@pytest.mark.parametrize("rise", RISES, ids=lambda rise: f"{rise[0]:.0%}-{rise[1]:.0%}")
def test_harm_that_stands_is_not_called_over_whatever_the_alarm_budget(
    rise: tuple[float, float], labels_per_alarm: float
) -> None:
    base = BaseError.from_errors(drawn("independent", np.full(20_000, rise[0]), 0))
    errors = drawn("independent", np.full(20_000, rise[1]), 2)
    said = said_by(HarmTest(base, tolerance=0.01, labels_per_alarm=labels_per_alarm), errors)
    assert said.count("open") == 1
    assert said.count("resolved") == 0
    before = said_by(Before(base, tolerance=0.01, labels_per_alarm=labels_per_alarm), errors)
    assert before.count("resolved") > 10 or rise == (0.06, 0.54)


@pytest.mark.parametrize("kind", ["runs of 8", "runs of 30"])
def test_runs_of_right_rows_rarely_end_harm_that_stands(kind: str) -> None:
    base = BaseError.from_errors(drawn(kind, np.full(20_000, 0.15), 0))
    errors = drawn(kind, np.full(40_000, 0.24), 1)
    ends = [
        said_by(make(base, tolerance=0.01, labels_per_alarm=1_000), errors).count("resolved")
        for make in (HarmTest, Before)
    ]
    assert ends[0] <= 2
    assert ends[1] >= 30


@pytest.mark.parametrize("known", [True, None], ids=["by the reference", "by the labels"])
def test_quiet_nights_do_not_end_harm_that_stands(known: bool | None) -> None:
    # labels so many that the inflation over 1,000 rows shows nothing of the night
    night = np.arange(60_000) * 10_000_000 % DAY < 8 * HOUR
    rng = np.random.default_rng(0)
    reference = rng.random(60_000) < np.where(night, 0.02, 0.2)
    errors = rng.random(60_000) < np.where(night, 0.02, 0.4)
    flat = BaseError.from_errors(reference.astype(int), ordered=False)

    def ends(daily: bool | None) -> int:
        base = dataclasses.replace(flat, daily=daily)
        test = HarmTest(base, tolerance=0.01, labels_per_alarm=7_000)
        test.memory.errors = reference.astype(int).tolist()  # what the labels before told
        test.memory.times = [(i - 60_000) * 10_000_000 for i in range(60_000)]
        return [
            change.status
            for i, e in enumerate(errors.astype(int).tolist())
            if (change := test.update(e, i * 10_000_000)) is not None
        ].count("resolved")

    assert ends(known) == 0
    assert ends(False) >= 3


@pytest.mark.parametrize(
    ("rise", "most"), [((0.15, 0.24), 1_600), ((0.15, 0.19), 2_700), ((0.06, 0.54), 250)]
)
def test_harm_that_is_over_is_called_so(rise: tuple[float, float], most: float) -> None:
    waited = []
    for seed in range(8):
        base = BaseError.from_errors(drawn("independent", np.full(20_000, rise[0]), seed))
        rate = np.repeat(rise[::-1], [2_000, 6_000])
        test = HarmTest(base, tolerance=0.01, labels_per_alarm=7_000)
        said = said_by(test, drawn("independent", rate, 50 + seed))
        waited += [i - 2_000 for i, what in enumerate(said) if what == "resolved" and i >= 2_000][
            :1
        ]
    assert len(waited) >= 7
    assert np.median(waited) < most


def lull(rows: int, seed: int = 5) -> tuple[HarmTest, list[HarmChange]]:
    """Health until row 2,000; harm, a stretch of right rows, and harm again."""
    rng = np.random.default_rng(seed)
    errors = np.r_[rng.random(2_000) < 0.1, rng.random(600) < 0.5]
    errors = np.r_[errors, np.zeros(rows, bool), rng.random(600) < 0.5].astype(int)
    test = HarmTest(independent(), tolerance=0.02, labels_per_alarm=1e5)
    changes = [test.update(e, i) for i, e in enumerate(errors.tolist())]
    return test, [c for c in changes if c is not None and c.status != "update"]


def test_harm_that_opens_again_is_dated_to_where_it_began_if_it_never_ended() -> None:
    _, changes = lull(50)
    assert [c.status for c in changes] == ["open", "resolved", "open"]
    first, _, again = changes
    assert (again.low, again.high) == (first.low, first.high)
    assert 1_980 <= again.low <= again.high <= 2_020
    assert again.n > 640
    assert again.rate == pytest.approx(0.5, abs=0.05)


def test_harm_that_began_before_the_last_reset_is_dated_there() -> None:
    # a lull so long that the harm was over, and the next began before that was said
    test = HarmTest(independent(), tolerance=0.02, labels_per_alarm=1e5)
    rng = np.random.default_rng(5)
    errors = np.r_[rng.random(2_000) < 0.1, rng.random(600) < 0.14, rng.random(3_000) < 0.1]
    run(test, errors)
    assert not test.open
    assert test.behind > 0
    test.behind, test.seen = test.behind + test.seen, 0  # a reset in the middle of what follows
    test.mixture = test._up()
    rows = [*([1, 0] * 12), None, *([1, 0] * 60)]
    at, opened = 6_000, None
    for e in rows:
        if e is None:
            test.behind, test.seen = test.behind + test.seen, 0
            test.mixture = test._up()
            continue
        change = test.update(e, at)
        at += 1
        opened = opened or change
    assert opened is not None
    assert opened.status == "open"
    assert 5_580 <= opened.low <= opened.high <= 6_010  # the reset was at 6,024
    assert opened.n >= 24


def test_harm_after_health_is_dated_to_its_own_beginning() -> None:
    _, changes = lull(2_000)
    assert [c.status for c in changes] == ["open", "resolved", "open"]
    assert 4_590 <= changes[-1].low <= changes[-1].high <= 4_610


def test_memory_outlives_resets_and_stays_bounded() -> None:
    test, _ = lull(50)
    assert len(test.memory) > 3_200
    assert test.ended is not None


@pytest.mark.parametrize("was_open", [True, False])
def test_another_test_dates_harm_by_what_was_before_it(was_open: bool) -> None:
    rng = np.random.default_rng(5)
    first = HarmTest(independent(), tolerance=0.02, labels_per_alarm=1e5)
    run(first, np.r_[rng.random(2_000) < 0.1, np.tile([1, 0], 100 if was_open else 8)])
    assert first.open == was_open
    second = HarmTest(independent(seed=1), tolerance=0.03, labels_per_alarm=1e5)
    second.follow(first)
    opened = next(
        change
        for i in range(400)
        if (change := second.update(int(rng.random() < 0.5), 2_200 + i)) is not None
    )
    assert 1_980 <= opened.low <= opened.high <= 2_020


def test_every_change_tells_whose_statistic_it_shows() -> None:
    for i, (change, opened) in enumerate(told_by(HarmTest)):
        assert change.test == ("upward" if change.status == "open" else "downward"), i
        assert change.threshold == (1e5 if change.status == "open" else 1e4)
        assert (change.value >= change.threshold) == opened or change.status == "update"
        assert (change.null > 0.13) == (change.test == "downward")


def told_by(make: type[HarmTest]) -> list[tuple[HarmChange, bool]]:
    rng = np.random.default_rng(1)
    errors = rng.random(4_500) < np.repeat([0.1, 0.3, 0.1], 1_500)
    test = make(independent(), tolerance=0.02, labels_per_alarm=1e5)
    changes = [test.update(e, i) for i, e in enumerate(errors.astype(int).tolist())]
    found = [c for c in changes if c is not None]
    assert [c.status for c in found][:2] == ["open", "update"]
    assert found[-1].status == "resolved"
    return [(c, c.status != "update") for c in found]
