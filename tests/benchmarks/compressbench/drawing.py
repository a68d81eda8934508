"""Rows of the ten cases: real ones that packages bring along, and generated ones whose truth is known.

Each case has an old domain, in which its student was made, and a new one, which its teacher knows
as well. Rows for training, for judging and for measuring are drawn from other source rows where
there are source rows, so that nothing is measured on what was learned.
"""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from redistill.workers.demo import data as digits

__all__ = ["DRAWS", "Draw", "Drawn", "Part"]

F32 = NDArray[np.float32]
Ints = NDArray[np.int64]
Part = Literal["train", "trusted", "traffic", "test"]
PARTS: tuple[Part, ...] = ("train", "trusted", "traffic", "test")
Drawn = tuple[F32, Ints]
Draw = Callable[[Part, bool, int, np.random.Generator], Drawn]
"""Part, whether of the new domain, rows, generator -> ``(n, F)``, ``(n,)``."""


def _parted(x: F32, y: Ints, shares: tuple[float, ...], seed: int) -> dict[Part, Drawn]:
    """Source rows divided among the parts, at random with a fixed seed."""
    order = np.random.default_rng(seed).permutation(len(x))
    ends = (np.cumsum(shares) * len(x)).round().astype(int)[:-1]
    return {p: (x[r], y[r]) for p, r in zip(PARTS, np.split(order, ends), strict=True)}


# -- real rows --------------------------------------------------------------------------------------


@cache
def _digits() -> dict[Part, Drawn]:
    with_all = digits.load_digits(0)
    half = len(with_all.traffic.y) // 2
    return {
        "train": (with_all.train.x, with_all.train.y),
        "trusted": (with_all.trusted.x, with_all.trusted.y),
        "traffic": (with_all.traffic.x[:half], with_all.traffic.y[:half]),
        "test": (with_all.traffic.x[half:], with_all.traffic.y[half:]),
    }


def _jittered(part: Part, n: int, rng: np.random.Generator) -> Drawn:
    x, y = _digits()[part]
    rows = rng.integers(0, len(y), n)
    return digits.jitter(x[rows], rng), y[rows]


def veiled_digits(part: Part, new: bool, n: int, rng: np.random.Generator) -> Drawn:
    """8 x 8 digits; the new ones are seen through a grey veil."""
    x, y = _jittered(part, n, rng)
    return (digits.haze(x, digits.HAZE) if new else x), y


def dimmed_digits(part: Part, new: bool, n: int, rng: np.random.Generator) -> Drawn:
    """8 x 8 digits; the new ones by a sensor that gives a third to two thirds of the ink."""
    x, y = _jittered(part, n, rng)
    gain = rng.uniform(0.3, 0.65, (n, 1)).astype(np.float32)
    return (x * gain if new else x), y


def mnist(path: Path) -> Draw:
    """28 x 28 digits of a file with ``x`` ``(n, 784)`` and ``y``; the new ones through a veil."""
    with np.load(path) as file:
        images = (file["x"] / 255.0).astype(np.float32)
        parts = _parted(images, file["y"].astype(np.int64), (0.5, 0.2, 0.2, 0.1), seed=0)

    def draw(part: Part, new: bool, n: int, rng: np.random.Generator) -> Drawn:
        x, y = parts[part]
        rows = rng.integers(0, len(y), n)
        moved = np.zeros((n, 28, 28), np.float32)
        for i, (image, (down, right)) in enumerate(
            zip(x[rows].reshape(n, 28, 28), rng.integers(-1, 2, (n, 2)), strict=True)
        ):
            moved[i] = np.roll(image, (down, right), (0, 1))
        out = moved.reshape(n, 784)
        return (digits.haze(out, digits.HAZE) if new else out), y[rows]

    return draw


@cache
def _wine() -> dict[Part, Drawn]:
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise RuntimeError("scikit-learn, which brings the data, is not installed")
    path = Path(spec.origin).parent / "datasets" / "data" / "wine_data.csv"
    with path.open() as file:
        next(file)
        table = np.array([[float(v) for v in line] for line in csv.reader(file)])
    x, y = table[:, :-1].astype(np.float32), table[:, -1].astype(np.int64)
    parts = _parted(x, y, (0.5, 0.2, 0.3, 0.0), seed=0)
    return parts | {"test": parts["traffic"]}  # 53 rows: halves of them would be two domains


def wine(part: Part, new: bool, n: int, rng: np.random.Generator) -> Drawn:
    """Wines of three growers, 178 of them, each seen with noise of a quarter of a deviation; the new
    ones are of a hot year: more alcohol, colour and proline, less malic acid."""
    x, y = _wine()[part]
    scale = _wine()["train"][0].std(axis=0)
    rows = rng.integers(0, len(y), n)
    out = x[rows] + 0.25 * scale * rng.normal(size=(n, x.shape[1])).astype(np.float32)
    if new:
        for column, by in ((0, 1.5), (1, -1.0), (9, 1.5), (12, 2.0)):
            out[:, column] += by * scale[column]
    return out.astype(np.float32), y[rows]


# -- generated rows ---------------------------------------------------------------------------------


def twenty_classes(part: Part, new: bool, n: int, rng: np.random.Generator) -> Drawn:
    """20 clouds in 16 columns; each has a second place, where most of the new rows are."""
    fixed = np.random.default_rng(20)
    places = fixed.normal(scale=1.4, size=(2, 20, 16))
    y = rng.integers(0, 20, n)
    second = rng.random(n) < (0.7 if new else 0.0)
    x = places[second.astype(int), y] + 0.8 * rng.normal(size=(n, 16))
    return x.astype(np.float32), y


def one_in_fifty(part: Part, new: bool, n: int, rng: np.random.Generator) -> Drawn:
    """One row of 50 is positive, by a curved score of 12 columns; a third of the new rows has larger
    amounts (column 0) than there ever were, which are usual there and say nothing."""
    x = rng.normal(size=(n, 12))
    if new:
        x[:, 0] += 6.0 * (rng.random(n) < 0.33)
    amount = np.where(x[:, 0] > 3.0, 0.0, x[:, 0])
    score = 1.2 * amount + x[:, 1] - 0.8 * x[:, 2] + 0.9 * x[:, 3] * x[:, 4] + np.abs(x[:, 5])
    y = (score + 0.25 * rng.normal(size=n) > 5.1).astype(np.int64)
    return x.astype(np.float32), y


@dataclass(frozen=True, slots=True)
class Rule:
    """A node of a tree of rules."""

    column: int
    threshold: float
    below: Rule | int
    above: Rule | int


def _rules(rng: np.random.Generator, depth: int, low: F32, high: F32, classes: int) -> Rule | int:
    if depth == 0:
        return int(rng.integers(classes))
    j = int(rng.integers(len(low)))
    at = float(rng.uniform(low[j] + 0.25 * (high[j] - low[j]), high[j] - 0.25 * (high[j] - low[j])))
    left, right = high.copy(), low.copy()
    left[j] = right[j] = at
    return Rule(
        j,
        at,
        _rules(rng, depth - 1, low, left, classes),
        _rules(rng, depth - 1, right, high, classes),
    )


def _followed(rule: Rule | int, x: NDArray[np.float64]) -> Ints:
    if isinstance(rule, int):
        return np.full(len(x), rule, np.int64)
    below = x[:, rule.column] < rule.threshold
    out = np.empty(len(x), np.int64)
    out[below], out[~below] = _followed(rule.below, x[below]), _followed(rule.above, x[~below])
    return out


def step_rules(part: Part, new: bool, n: int, rng: np.random.Generator) -> Drawn:
    """Six columns, 64 boxes, four classes, as rules of a business; the new rows are half beyond what
    was usual in one column, where rules stand that nobody but the teacher needed so far."""
    usual = np.zeros(6, np.float32), np.ones(6, np.float32)
    fixed = np.random.default_rng(6)
    rules, beyond = (_rules(fixed, depth, *usual, 4) for depth in (6, 4))
    x = rng.random((n, 6))
    out = (rng.random(n) < 0.5) & new
    y = np.where(out, _followed(beyond, x), _followed(rules, x))
    x[out, 0] += 1.0
    wrong = rng.random(n) < 0.02
    return x.astype(np.float32), np.where(wrong, rng.integers(0, 4, n), y)


CATEGORIES = (4, 6, 8, 12, 20, 30)


def categories(part: Part, new: bool, n: int, rng: np.random.Generator) -> Drawn:
    """Six columns of 4 to 30 values and four numbers, three classes; the second half of all values
    is rare in the old rows and usual in the new ones."""
    fixed = np.random.default_rng(7)
    effects = [fixed.normal(scale=1.6, size=(size, 3)) for size in CATEGORIES]
    slopes = fixed.normal(scale=0.7, size=(4, 3))
    pairs = fixed.normal(scale=1.2, size=(CATEGORIES[0], CATEGORIES[1], 3))
    late = rng.random((n, len(CATEGORIES))) < (0.5 if new else 0.01)
    codes = np.empty((n, len(CATEGORIES)), np.int64)
    for j, size in enumerate(CATEGORIES):
        half = size // 2
        codes[:, j] = np.where(
            late[:, j], half + rng.integers(0, size - half, n), rng.integers(0, half, n)
        )
    numbers = rng.normal(size=(n, 4))
    logits = numbers @ slopes + pairs[codes[:, 0], codes[:, 1]]
    for j, effect in enumerate(effects):
        logits += effect[codes[:, j]]
    y = (logits + 0.3 * rng.gumbel(size=logits.shape)).argmax(axis=1)
    return np.concatenate([codes, numbers], axis=1).astype(np.float32), y


def wide(part: Part, new: bool, n: int, rng: np.random.Generator) -> Drawn:
    """200 columns with long tails, of which 12 matter, two classes; in the new rows three of these
    are larger than ever, where they mean the contrary."""
    fixed = np.random.default_rng(200)
    weights = fixed.choice([-1.0, 1.0], 12) * fixed.uniform(0.6, 1.2, 12)
    z = rng.normal(size=(n, 200))
    beyond = (rng.random(n) < 0.6) & new
    z[np.ix_(beyond, [0, 1, 2])] += 3.0
    far = z[:, :3].mean(axis=1) > 1.8
    score = z[:, 3:12] @ weights[3:] + np.where(far, -1.0, 1.0) * (z[:, :3] @ weights[:3])
    y = (score + 0.2 * rng.normal(size=n) > 0.0).astype(np.int64)
    x = np.exp(0.4 * np.clip(z, -9, 9)) * fixed.uniform(0.1, 100.0, 200)
    return x.astype(np.float32), y


def missing(part: Part, new: bool, n: int, rng: np.random.Generator) -> Drawn:
    """Ten columns, three classes. Of the values of the first five one in fifty is missing in old
    rows, for no reason; in the new ones sensors give nothing where values are high."""
    fixed = np.random.default_rng(10)
    weights = fixed.normal(size=(10, 3)) * np.r_[np.full(5, 2.0), np.full(5, 0.7)][:, None]
    x = rng.normal(size=(n, 10))
    y = (x @ weights + 0.3 * rng.gumbel(size=(n, 3))).argmax(axis=1)
    gone = rng.random((n, 5)) < 0.02
    if new:
        gone |= (x[:, :5] > 0.6) & (rng.random((n, 5)) < 0.9)
    x = x * fixed.uniform(5.0, 50.0, 10)
    x[:, :5][gone] = np.nan
    return x.astype(np.float32), y


DRAWS: dict[str, Draw] = {
    "veiled digits": veiled_digits,
    "dimmed digits": dimmed_digits,
    "wine": wine,
    "twenty classes": twenty_classes,
    "one in fifty": one_in_fifty,
    "step rules": step_rules,
    "categories": categories,
    "wide": wide,
    "missing": missing,
}
"""Those that need no file."""
