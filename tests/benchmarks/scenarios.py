"""Generated streams with a known truth: benign, harmless and harmful drift of a binary classifier
with 10.7% error.

Twelve numeric features, of which six matter, and two categories. Every stream has 20,000 rows and
changes at row 10,000.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

ROWS = 20_000
START = 10_000
REFERENCE_ROWS = 20_000
WEIGHTS = np.array([1.2, -1.0, 0.8, 0.7, -0.6, 0.5, 0, 0, 0, 0, 0, 0])
STUDENT = WEIGHTS + np.array([0.08, 0.06, -0.1, 0.05, 0.08, -0.06, 0.03, 0, 0, 0, 0, 0])
REGIONS = np.array(["EU", "US", "APAC", "LATAM"])
CHANNELS = np.array(["web", "app", "shop"])
REGION_EFFECT = np.array([0.3, -0.3, 0.1, 0.0])


@dataclass
class Rows:
    """Rows before the student sees them; scenarios change them in place."""

    x: NDArray[np.float64]  # (n, 12)
    region: NDArray[np.int64]
    channel: NDArray[np.int64]
    noise: NDArray[np.float64]  # of the label's logit
    flip: NDArray[np.bool_]  # labels that are turned round
    weights: NDArray[np.float64]  # (n, 12) of the world
    seen: NDArray[np.float64] | None = None
    """What the student sees of ``x``, if something else; NaN = missing."""
    new_region: NDArray[np.bool_] | None = None
    """Rows whose region arrives as a value never seen."""
    t: NDArray[np.int64] = field(default_factory=lambda: np.arange(0))


def draw(rng: np.random.Generator, n: int) -> Rows:
    """Rows of the healthy world."""
    return Rows(
        x=rng.normal(size=(n, 12)),
        region=rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1]),
        channel=rng.integers(0, 3, n),
        noise=rng.logistic(size=n) * 0.402,
        flip=np.zeros(n, bool),
        weights=np.tile(WEIGHTS, (n, 1)),
        t=np.arange(n),
    )


def table(rows: Rows) -> tuple[pa.Table, NDArray[np.bool_]]:
    """The rows with the student's answers, and where it is wrong."""
    signal = (rows.x * rows.weights).sum(axis=1) + REGION_EFFECT[rows.region]
    label = (signal + rows.noise > 0) ^ rows.flip
    seen = rows.x if rows.seen is None else rows.seen
    region = REGIONS[rows.region].astype(object)
    effect = REGION_EFFECT[rows.region]
    if rows.new_region is not None:
        region[rows.new_region] = "MOON"
        effect = np.where(rows.new_region, 0.0, effect)
    logit = np.nan_to_num(seen) @ STUDENT + effect
    score = 1 / (1 + np.exp(-np.clip(logit * 2.2, -30, 30)))
    prediction = score > 0.5
    columns = {
        f"x{i}": pa.array(seen[:, i].astype(np.float32), from_pandas=True) for i in range(12)
    }
    columns |= {
        "region": pa.array(region.tolist()),
        "channel": pa.array(CHANNELS[rows.channel].tolist()),
        "label": pa.array(label.astype(np.int64)),
        "prediction": pa.array(prediction.astype(np.int64)),
        "score_a": pa.array(score.astype(np.float32)),
        "score_b": pa.array((1 - score).astype(np.float32)),
    }
    return pa.table(columns), label != prediction


Change = Callable[[Rows, np.random.Generator], None]


@dataclass(frozen=True)
class Scenario:
    """One kind of stream."""

    name: str
    group: str
    """benign, harmless or harmful."""
    change: Change
    always: Change | None = None
    """What the reference and the whole stream have in common."""
    harm: tuple[tuple[int, int], ...] = ()
    """Rows (first, end) in which the model is worse by 2 points and more."""
    label_delay: int = 500
    rows: int = ROWS


def nothing(rows: Rows, rng: np.random.Generator) -> None:
    """No change."""


def season(period: int, amplitude: float) -> Change:
    """Three features, one of them relevant, follow a cycle."""

    def apply(rows: Rows, rng: np.random.Generator) -> None:
        wave = amplitude * np.sin(2 * np.pi * rows.t / period)
        rows.x[:, [5, 6, 7]] += wave[:, None] * np.array([0.5, 1, 1])

    return apply


def outliers(rows: Rows, rng: np.random.Generator) -> None:
    """Bursts of 50 rows with features ten times as large."""
    for at in range(START, len(rows.x) - 50, 2_500):
        rows.x[at : at + 50, 6:10] *= 10


def noisy_labels(rows: Rows, rng: np.random.Generator) -> None:
    """One burst of 30 rows with random labels."""
    burst = slice(START, START + 30)
    rows.flip[burst] = rng.random(30) < 0.5


def runs(strength: float, length: int) -> Change:
    """Errors come in runs: the labels' noise grows and falls slowly (AR(1) in its logarithm)."""

    def apply(rows: Rows, rng: np.random.Generator) -> None:
        steps = rng.normal(size=len(rows.x)) * np.sqrt(1 - np.exp(-2 / length))
        log, keep = np.empty(len(rows.x)), np.exp(-1 / length)
        value = 0.0
        for i, s in enumerate(steps):
            value = keep * value + s
            log[i] = value
        rows.noise *= np.exp(strength * log)

    return apply


def clusters(rows: Rows, rng: np.random.Generator) -> None:
    """Short storms: 8 to 25 rows nearly all wrong, about one in 700 rows."""
    for at in np.flatnonzero(rng.random(len(rows.x)) < 1 / 700):
        rows.flip[at : at + rng.integers(8, 26)] = True


def after(change: Callable[[Rows, NDArray[np.bool_], np.random.Generator], None]) -> Change:
    """A change of all rows from START on."""

    def apply(rows: Rows, rng: np.random.Generator) -> None:
        change(rows, rows.t >= START, rng)

    return apply


def flips(share: float) -> Change:
    """The concept changes abruptly: a share of the labels turns."""

    def apply(rows: Rows, rng: np.random.Generator) -> None:
        rows.flip |= (rows.t >= START) & (rng.random(len(rows.x)) < share)

    return apply


def ramp(length: int, share: float) -> Change:
    """More and more rows follow the new concept."""

    def apply(rows: Rows, rng: np.random.Generator) -> None:
        p = np.clip((rows.t - START) / length, 0, 1) * share
        rows.flip |= rng.random(len(rows.x)) < p

    return apply


def incremental(rows: Rows, rng: np.random.Generator) -> None:
    """The weights turn slowly, over 8,000 rows."""
    p = np.clip((rows.t - START) / 8_000, 0, 1)[:, None]
    target = WEIGHTS.copy()
    target[[0, 1]] = [-0.2, 0.3]
    rows.weights = (1 - p) * rows.weights + p * target


def recurring(rows: Rows, rng: np.random.Generator) -> None:
    """The new concept comes for 3,000 rows, goes for 2,000, comes again."""
    on = ((rows.t >= START) & (rows.t < START + 3_000)) | (rows.t >= START + 5_000)
    rows.flip |= on & (rng.random(len(rows.x)) < 0.2)


def shift_irrelevant(rows: Rows, on: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """A feature that does not matter moves by 1.5 standard deviations."""
    rows.x[on, 8] += 1.5


def easier(rows: Rows, on: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """Rows lie further from the boundary."""
    rows.x[on, :6] *= 1.25


def priors(rows: Rows, on: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """Another mix of classes: the features move along the boundary's normal."""
    rows.x[on, :6] += 0.5 * WEIGHTS[:6] / np.linalg.norm(WEIGHTS[:6])


def harder(rows: Rows, on: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """Covariates move to where the student is weak."""
    rows.x[on, :6] *= 0.62
    rows.x[on, 9] += 1.0


def unit(rows: Rows, on: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """One feature arrives in another unit."""
    rows.seen = rows.x.copy()
    rows.seen[on, 5] = rows.seen[on, 5] * 1.8 + 3.2


def missing(rows: Rows, on: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """The two most important features are missing in 40% of the rows."""
    rows.seen = rows.x.copy()
    gone = on & (rng.random(len(on)) < 0.4)
    rows.seen[np.ix_(gone, [0, 1])] = np.nan


def unseen(rows: Rows, on: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """A new region in 30% of the rows, where another concept holds."""
    rows.new_region = on & (rng.random(len(on)) < 0.3)
    rows.flip |= rows.new_region & (rng.random(len(on)) < 0.48)


def slice_flipped(rows: Rows, on: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """One slice of 5% of the rows turns round."""
    rows.flip |= on & (rows.region == 3) & (rows.channel != 0) & (rng.random(len(on)) < 0.75)


def saturated(rows: Rows, on: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """A quantized student clips a feature that grew."""
    rows.x[on, 0] = rows.x[on, 0] * 1.8 + 0.4
    rows.seen = rows.x.copy()
    rows.seen[on, 0] = np.clip(rows.seen[on, 0], -0.6, 0.6)


ALL = ((START, ROWS),)
SCENARIOS = (
    Scenario("stationary", "benign", nothing),
    Scenario("daily season", "benign", nothing, season(1_440, 0.6)),
    Scenario("weekly season", "benign", nothing, season(10_080, 1.0)),
    Scenario("outlier bursts", "benign", outliers),
    Scenario("label noise burst", "benign", noisy_labels),
    Scenario("errors in runs", "benign", nothing, runs(0.6, 40)),
    Scenario("storms of errors", "benign", nothing, clusters),
    Scenario("irrelevant feature +1.5", "harmless", after(shift_irrelevant)),
    Scenario("easier mix", "harmless", after(easier)),
    Scenario("prior shift", "harmless", after(priors)),
    Scenario("abrupt concept", "harmful", flips(0.334), harm=ALL),
    Scenario("abrupt, mild", "harmful", flips(0.036), harm=ALL),
    Scenario("abrupt +5", "harmful", flips(0.0636), harm=ALL),
    Scenario("abrupt +10", "harmful", flips(0.1272), harm=ALL),
    Scenario("gradual", "harmful", ramp(4_000, 0.334), harm=((START + 300, ROWS),)),
    Scenario("incremental", "harmful", incremental, harm=((START + 1_500, ROWS),)),
    Scenario(
        "recurring",
        "harmful",
        recurring,
        harm=((START, START + 3_000), (START + 5_000, ROWS)),
    ),
    Scenario("harmful covariates", "harmful", after(harder), harm=ALL),
    Scenario("unit 1.8x + 3.2", "harmful", after(unit), harm=ALL),
    Scenario("missing 40%", "harmful", after(missing), harm=ALL),
    Scenario("unseen category 30%", "harmful", after(unseen), harm=ALL),
    Scenario("slice flipped", "harmful", after(slice_flipped), harm=ALL),
    Scenario("slow decay", "harmful", ramp(10_000, 0.24), harm=((START + 1_000, ROWS),)),
    Scenario("labels 2,000 late", "harmful", flips(0.2), harm=ALL, label_delay=2_000),
    Scenario("saturated student", "harmful", after(saturated), harm=ALL),
    Scenario("runs, then +10", "harmful", flips(0.1272), runs(0.6, 40), harm=ALL),
)
EXTRA = {"errors in runs", "storms of errors", "abrupt +5", "abrupt +10", "runs, then +10"}
"""Scenarios beyond the mix for which the bars were set."""


@dataclass(frozen=True)
class Drawn:
    """A stream, its reference, and the truth."""

    reference: pa.Table
    stream: pa.Table
    reference_wrong: NDArray[np.bool_]
    wrong: NDArray[np.bool_]


def make(scenario: Scenario, seed: int, rows: int | None = None) -> Drawn:
    """Draw a scenario."""
    rng = np.random.default_rng([seed, sum(scenario.name.encode())])
    n = rows or scenario.rows
    reference, stream = draw(rng, REFERENCE_ROWS), draw(rng, n)
    for part in (reference, stream):
        if scenario.always is not None:
            scenario.always(part, rng)
    scenario.change(stream, rng)
    a, a_wrong = table(reference)
    b, b_wrong = table(stream)
    return Drawn(a, b, a_wrong, b_wrong)
