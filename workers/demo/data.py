"""Data of the demo: handwritten digits as a stream, split, jittered and spoiled. Numpy only.

The rows are scikit-learn's copy of the UCI digits (1,797 images of 8 x 8 pixels), read from its
file by path: importing scikit-learn would cost every process two seconds.
"""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from redistill.workers.errors import UsageError

__all__ = [
    "CLASSES",
    "F32",
    "FEATURES",
    "HAZE",
    "HOLIDAY_PRIORS",
    "PIXELS",
    "TRAIN_IMAGES",
    "Digits",
    "class_weights",
    "digits_file",
    "draw",
    "haze",
    "jitter",
    "load_digits",
    "spoil",
    "swapped",
]

SIDE = 8  # pixels
PIXELS = SIDE * SIDE
CLASSES = tuple(str(d) for d in range(10))
FEATURES = tuple(f"p{i}" for i in range(PIXELS))

TRAIN_IMAGES, TRUSTED_IMAGES = 750, 450
"""How the 1,797 source images are divided; the rest (597) is traffic. No image is in two parts."""

HAZE = 0.65
"""Strength of the grey veil in the story: a student that never saw one loses half of its accuracy,
the teacher two points."""
VEIL_GREY = 0.6
"""Grey of the veil: what every pixel becomes at strength 1."""

HOLIDAY_PRIORS: Mapping[int, float] = {0: 0.35, 1: 0.30, 6: 0.14}
"""Another mix of digits, which harms nobody; the classes that are not named share the rest."""

SWAPS: Mapping[int, int] = {4: 9, 9: 4, 1: 7, 7: 1, 3: 8, 8: 3}
"""What a careless labeller confuses."""

F32 = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Images:
    """Source images of one part."""

    x: F32  # (n, 64), 0 = paper, 1 = ink
    y: NDArray[np.int64]  # (n,) digit


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Digits:
    """The three parts, divided by source image."""

    train: Images
    """What models are trained on, and the pool for replay."""
    trusted: Images
    """Never trained on, never served: the trusted gate and the base error."""
    traffic: Images
    """What the services are asked about, with new jitter each time."""


def digits_file() -> Path:
    """Where scikit-learn keeps the digits.

    Raises
    ------
    UsageError
        scikit-learn is not installed, or its file has moved.
    """
    spec = importlib.util.find_spec("sklearn")  # finds the package without importing it
    if spec is None or spec.origin is None:
        raise UsageError("the demo's digits ship with scikit-learn: pip install 'redistill[demo]'")
    path = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not path.is_file():
        raise UsageError(
            f"scikit-learn is installed, but {path} is not there: install another version of it"
        )
    return path


def load_digits(seed: int, *, path: Path | None = None) -> Digits:
    """Read the digits and divide them by source image, at random.

    Parameters
    ----------
    seed
        Of the division; the same seed gives the same three parts in every process.
    path
        ``digits.csv.gz``: 64 pixels of 0 to 16 and the digit in each line; ``None``:
        scikit-learn's.
    """
    with gzip.open(path or digits_file(), "rt", encoding="ascii") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    x, y = table[:, :PIXELS] / 16.0, table[:, PIXELS].astype(np.int64)
    order = np.random.default_rng([seed, 0]).permutation(len(x))
    ends = (TRAIN_IMAGES, TRAIN_IMAGES + TRUSTED_IMAGES)
    parts = [Images(x=x[rows], y=y[rows]) for rows in np.split(order, ends)]
    return Digits(train=parts[0], trusted=parts[1], traffic=parts[2])


def jitter(x: F32, rng: np.random.Generator) -> F32:
    """Turn, scale and shift each image a little, as a hand and a scanner do (bilinear; outside is
    paper).

    Rotation within 5 degrees, scale within 4%, shift within .35 pixels, each uniform and each image
    its own.

    Parameters
    ----------
    x
        ``(n, 64)`` in 0..1.

    Returns
    -------
    numpy.ndarray
        ``(n, 64) float32`` in 0..1.
    """
    n = len(x)
    angle = np.deg2rad(rng.uniform(-5.0, 5.0, n))
    scale = 1.0 / rng.uniform(0.96, 1.04, n)
    shift = rng.uniform(-0.35, 0.35, (2, n))
    centre = (SIDE - 1) / 2
    rows, columns = (g.ravel() - centre for g in np.mgrid[:SIDE, :SIDE].astype(np.float64))
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    # where each target pixel comes from, plus one: the paper around the image is one pixel wide
    source_row = np.outer(cos, rows) - np.outer(sin, columns) + shift[0][:, None] + centre + 1
    source_column = np.outer(sin, rows) + np.outer(cos, columns) + shift[1][:, None] + centre + 1
    padded = np.zeros((n, SIDE + 2, SIDE + 2), np.float32)
    padded[:, 1:-1, 1:-1] = x.reshape(n, SIDE, SIDE)
    source_row = np.clip(source_row, 0.0, SIDE + 0.999)
    source_column = np.clip(source_column, 0.0, SIDE + 0.999)
    top, left = source_row.astype(np.intp), source_column.astype(np.intp)
    down, right = source_row - top, source_column - left
    image = np.arange(n)[:, None]
    out = (
        padded[image, top, left] * (1 - down) * (1 - right)
        + padded[image, top, left + 1] * (1 - down) * right
        + padded[image, top + 1, left] * down * (1 - right)
        + padded[image, top + 1, left + 1] * down * right
    )
    return np.asarray(np.clip(out, 0.0, 1.0), np.float32)


def haze(x: F32, strength: float | F32) -> F32:
    """Lay a grey veil over the images: ``x * (1 - s) + .6 * s``.

    Parameters
    ----------
    x
        ``(n, 64)``.
    strength
        One for all, or ``(n, 1)``.

    Examples
    --------
    >>> haze(np.zeros((1, 64), np.float32), 0.5)[0, 0].round(2)
    np.float32(0.3)
    """
    return (x * (1 - strength) + VEIL_GREY * strength).astype(np.float32)


def class_weights(priors: Mapping[int, float]) -> NDArray[np.float64]:
    """Share of each digit: the named ones as given, the others evenly what is left.

    Examples
    --------
    >>> class_weights({0: 0.35, 1: 0.30, 6: 0.14}).round(2).tolist()
    [0.35, 0.3, 0.03, 0.03, 0.03, 0.03, 0.14, 0.03, 0.03, 0.03]
    """
    rest = (1.0 - sum(priors.values())) / (len(CLASSES) - len(priors))
    return np.array([priors.get(d, rest) for d in range(len(CLASSES))])


def draw(
    images: Images, n: int, rng: np.random.Generator, *, priors: Mapping[int, float] | None = None
) -> tuple[F32, NDArray[np.int64]]:
    """Draw rows with replacement, each with jitter of its own.

    Parameters
    ----------
    priors
        Shares of digits; ``None``: as in the images.

    Returns
    -------
    tuple
        ``(n, 64) float32`` and ``(n,) int64``.
    """
    if priors is None:
        rows = rng.integers(0, len(images.y), n)
    else:
        wanted = rng.choice(len(CLASSES), n, p=class_weights(priors))
        pools = [np.flatnonzero(images.y == d) for d in range(len(CLASSES))]
        rows = np.array([rng.choice(pools[d]) for d in wanted], np.intp)
    return jitter(images.x[rows], rng), images.y[rows]


def swapped(digits: Sequence[int] | NDArray[np.int64]) -> list[int]:
    """What the careless labeller says in place of the truth.

    Examples
    --------
    >>> swapped([4, 9, 1, 5])
    [9, 4, 7, 5]
    """
    return [SWAPS.get(int(d), int(d)) for d in digits]


def spoil(x: F32, rng: np.random.Generator) -> F32:
    """What the teacher is hardened against: each row gets one kind of damage, a quarter stays
    clean.

    Noise, veil, salt, blur, stripes and gradient, each of a random strength. The range holds the
    story's veil, so the teacher can cope with it; the student never sees any of this.
    """
    n = len(x)
    out = x.copy()
    kind = rng.integers(0, 6, n)
    kind[rng.random(n) < 0.25] = -1  # clean
    strength = rng.random((n, 1)).astype(np.float32)
    noise = rng.standard_normal((n, PIXELS)).astype(np.float32)
    out[kind == 0] += (noise * (0.05 + 0.45 * strength))[kind == 0]
    out[kind == 1] = haze(x, 0.1 + 0.7 * strength)[kind == 1]
    salted = rng.random((n, PIXELS)) < 0.05 + 0.30 * strength
    salt = np.where(salted, rng.random((n, PIXELS)) < 0.5, x).astype(np.float32)
    out[kind == 2] = salt[kind == 2]
    out[kind == 3] = _blur(x)[kind == 3]
    out[kind == 4] = _stripes(x, rng)[kind == 4]
    ramp = np.linspace(0.0, 1.0, SIDE, dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi, (n, 1)).astype(np.float32)
    across, along = np.meshgrid(ramp - 0.5, ramp - 0.5)
    slope = np.cos(angle) * across.ravel() + np.sin(angle) * along.ravel() + 0.5
    out[kind == 5] = (x + (0.2 + 0.8 * strength) * (slope - x * slope))[kind == 5]
    return np.clip(out, 0.0, 1.0).astype(np.float32)


def _blur(x: F32) -> F32:
    """Mean of each pixel with its eight neighbours (paper outside)."""
    padded = np.zeros((len(x), SIDE + 2, SIDE + 2), np.float32)
    padded[:, 1:-1, 1:-1] = x.reshape(-1, SIDE, SIDE)
    total = sum(padded[:, i : i + SIDE, j : j + SIDE] for i in range(3) for j in range(3))
    return np.asarray(total / 9, np.float32).reshape(len(x), PIXELS)


def _stripes(x: F32, rng: np.random.Generator) -> F32:
    """One to three rows of ink across each image."""
    out = x.reshape(-1, SIDE, SIDE).copy()
    lines = rng.integers(0, SIDE, (len(x), 3))
    many = rng.integers(1, 4, len(x))
    for k in range(3):
        chosen = np.flatnonzero(many > k)
        out[chosen, lines[chosen, k]] = 1.0
    return out.reshape(len(x), PIXELS)
