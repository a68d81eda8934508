"""Streams on which detection is measured: the suites of ``make bench-detection``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import scenarios
from detectbench import real
from numpy.typing import NDArray
from scenarios import EXTRA, SCENARIOS, START, Change, Drawn, Rows, Scenario, flips, make

__all__ = ["SUITES", "Case"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kind of stream, drawn anew for each seed."""

    name: str
    suite: str
    draw: Callable[[int], Drawn]
    harm: tuple[tuple[int, int], ...] = ()
    """Rows (first, end) in which the model is worse by 2 points and more."""
    start: int = START
    """Row from which on something has changed: an alarm from here on is not false."""
    scores: tuple[str, ...] = ("score_a", "score_b")
    label_delay: int = 500
    cause: str | None = None
    """``column=value`` of the slice that is the cause of all."""


def _of(scenario: Scenario, suite: str, rows: int | None = None) -> Case:
    return Case(
        name=scenario.name,
        suite=suite,
        draw=lambda seed: make(scenario, seed, rows),
        harm=scenario.harm,
        label_delay=scenario.label_delay,
    )


def _table(drawn: Drawn, change: Callable[[pa.Table], pa.Table]) -> Drawn:
    stream = change(drawn.stream)
    wrong = stream["label"].to_numpy(zero_copy_only=False) != stream["prediction"].to_numpy()
    return dataclasses.replace(drawn, stream=stream, wrong=np.asarray(wrong, bool))


def _without_labels(drawn: Drawn, gone: NDArray[np.bool_]) -> Drawn:
    """The truth stays, some labels never come."""
    label = pa.array(drawn.stream["label"].to_numpy(), mask=gone)
    at = drawn.stream.column_names.index("label")
    return dataclasses.replace(drawn, stream=drawn.stream.set_column(at, "label", label))


def _plain(change: Change, name: str, rows: int = 20_000, always: Change | None = None) -> Scenario:
    return Scenario(name, "further", change, always, rows=rows)


def _biased(seed: int) -> Drawn:
    """A label of a predicted negative comes once in ten."""
    drawn = make(_plain(scenarios.nothing, "biased labels"), seed)
    rng = np.random.default_rng([seed, 5])
    negative = drawn.stream["prediction"].to_numpy() == 0
    return _without_labels(drawn, negative & (rng.random(len(negative)) < 0.9))


def _stops(seed: int) -> Drawn:
    """No label comes from row 8,000 on."""
    drawn = make(_plain(scenarios.nothing, "feed stops"), seed)
    return _without_labels(drawn, np.arange(len(drawn.wrong)) >= 8_000)


def _disordered(scenario: Scenario) -> Callable[[int], Drawn]:
    """One row in twenty comes twice, and rows change places with others up to 200 rows away."""

    def draw(seed: int) -> Drawn:
        drawn = make(scenario, seed)
        rng = np.random.default_rng([seed, 6])
        n = len(drawn.wrong)
        place = np.arange(n) + np.where(rng.random(n) < 0.3, rng.integers(-200, 200, n), 0)
        rows = np.argsort(place, kind="stable")
        again = rng.random(n) < 0.05
        picks = np.sort(np.concatenate([np.arange(n), np.flatnonzero(again)]))[:n]
        return _table(drawn, lambda table: table.take(pa.array(rows[picks])))

    return draw


def _between(*stretches: tuple[int, int], share: float) -> Change:
    def apply(rows: Rows, rng: np.random.Generator) -> None:
        on = np.zeros(len(rows.x), bool)
        for first, end in stretches:
            on |= (rows.t >= first) & (rows.t < end)
        rows.flip |= on & (rng.random(len(rows.x)) < share)

    return apply


def _holiday(rows: Rows, rng: np.random.Generator) -> None:
    """For a week (10,080 rows) other people come, who are as easy to judge."""
    on = (rows.t >= START) & (rows.t < START + 10_080)
    rows.x[on, 8:] += 1.0
    rows.x[on, :6] += 0.3 * scenarios.WEIGHTS[:6] / np.linalg.norm(scenarios.WEIGHTS[:6])
    rows.region[on] = rng.choice(4, int(on.sum()), p=[0.1, 0.2, 0.3, 0.4])


def _slow(rows: Rows, rng: np.random.Generator) -> None:
    """Six points of error more over 40,000 rows."""
    p = np.clip((rows.t - START) / 40_000, 0, 1) * 0.076
    rows.flip |= rng.random(len(rows.x)) < p


def _wide(seed: int) -> Drawn:
    """Fifty features and fifty slices in each of two columns, and nothing changes."""
    rng = np.random.default_rng([seed, 50])

    def table(n: int) -> tuple[pa.Table, NDArray[np.bool_]]:
        x = rng.normal(size=(n, 48)).astype(np.float32)
        shop, town = rng.integers(0, 50, n), rng.geometric(0.08, n).clip(1, 50) - 1
        hard = 0.04 + 0.12 * (shop % 5 == 0) + 0.06 * (town % 3 == 0)
        label = rng.integers(0, 2, n)
        wrong = rng.random(n) < hard
        score = np.clip(0.5 + (0.5 - hard) * rng.random(n), 0.5, 1).astype(np.float32)
        prediction = np.where(wrong, 1 - label, label)
        columns = {f"x{i}": x[:, i] for i in range(48)}
        columns |= {"shop": [f"s{v}" for v in shop], "town": [f"t{v}" for v in town]}
        columns |= {"label": label, "prediction": prediction}
        columns |= {"score_a": np.where(prediction == 1, score, 1 - score)}
        columns |= {"score_b": 1 - columns["score_a"]}
        return pa.table(columns), wrong

    (reference, before), (stream, wrong) = table(20_000), table(20_000)
    return Drawn(reference, stream, before, wrong)


def _further() -> list[Case]:
    end = START + 10_000
    two = _between((START, START + 1_500), (START + 2_500, end), share=0.2)
    shifted = _plain(flips(0.1272), "disordered")
    reverts = _plain(_between((START, START + 2_500), share=0.2), "reverts")

    def case(name: str, draw: Callable[[int], Drawn], *harm: tuple[int, int]) -> Case:
        return Case(name=name, suite="further", draw=draw, harm=harm)

    def drawn(scenario: Scenario) -> Callable[[int], Drawn]:
        return lambda seed: make(scenario, seed)

    return [
        case("labels biased to predicted positives", _biased),
        case("label feed stops", _stops),
        case("duplicates and disorder", _disordered(_plain(scenarios.nothing, "disorder"))),
        case("duplicates and disorder, +10", _disordered(shifted), (START, end)),
        case(
            "two drifts, 1,000 rows apart",
            drawn(_plain(two, "two drifts")),
            (START, START + 1_500),
            (START + 2_500, end),
        ),
        case("drift that reverts", drawn(reverts), (START, START + 2_500)),
        case("50 features, 2 x 50 slices", _wide),
        case("very slow drift", drawn(_plain(_slow, "slow", 60_000)), (START + 17_000, 60_000)),
        case("holiday week", drawn(_plain(_holiday, "holiday", 30_000))),
        case(
            "errors in runs, 60,000 rows",
            drawn(_plain(scenarios.nothing, "runs", 60_000, scenarios.runs(0.6, 40))),
        ),
    ]


SIZES = {"1%": 0.01, "5%": 0.05, "10%": 0.1, "20%": 0.2, "50%": 0.5}


def _slices() -> list[Case]:
    """One slice of 1 to 50% of the rows is harmed: turned round, or 20 points worse."""

    def draw(size: float, share: float, name: str) -> Callable[[int], Drawn]:
        def of(seed: int) -> Drawn:
            rng = np.random.default_rng([seed, sum(name.encode())])
            others = np.array([0.31, 0.23, 0.19, 0.15, 0.12]) * (1 - size)

            def table(n: int, *, changes: bool) -> tuple[pa.Table, NDArray[np.bool_]]:
                rows = scenarios.draw(rng, n)
                cell = rng.choice(6, n, p=[size, *others])
                if changes:
                    on = (rows.t >= START) & (cell == 0)
                    rows.flip |= on & (rng.random(n) < share)
                plain, wrong = scenarios.table(rows)
                return plain.append_column("cell", pa.array([f"c{v}" for v in cell])), wrong

            (reference, before), (stream, wrong) = (table(20_000, changes=c) for c in (False, True))
            return Drawn(reference, stream, before, wrong)

        return of

    return [
        Case(
            name=f"{size} {word}",
            suite="slices",
            draw=draw(SIZES[size], share, f"{size} {word}"),
            harm=((START, START + 10_000),),
            cause="cell=c0",
        )
        for word, share in (("flipped", 0.9), ("+20", 0.255))
        for size in SIZES
    ]


def _real() -> list[Case]:
    return [
        Case(
            name=f"{data}: {change}",
            suite="real",
            draw=lambda seed, data=data, change=change: real.draw(data, change, seed),
            harm=((START, real.ROWS),) if change in real.HARMFUL else (),
            scores=real.scores(data),
        )
        for data in real.DATA
        for change in (*real.HARMFUL, *real.HARMLESS)
    ]


SUITES: Mapping[str, list[Case]] = {
    "scenarios": [_of(s, "scenarios") for s in SCENARIOS if s.name not in EXTRA],
    "runs and known drops": [_of(s, "runs and known drops") for s in SCENARIOS if s.name in EXTRA],
    "further": _further(),
    "slices": _slices(),
    "real": _real(),
}
