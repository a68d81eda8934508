"""Streams of real rows with the real errors of a model: data sets that River and scikit-learn bring
along, so that nothing is fetched.

A logistic regression learns from 40% of a data set; reference and stream are drawn from the others,
rows that it never saw, in runs of rows that are alike, since real errors come in runs.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scenarios import START, Drawn

__all__ = ["DATA", "HARMFUL", "HARMLESS", "ROWS", "draw", "scores"]

ROWS = 20_000
REFERENCE_ROWS = 10_000
DATA = ("phishing", "bananas", "segments", "digits")
HARMFUL = ("columns swapped", "noise", "other labels", "hard classes")
HARMLESS = ("nothing", "unused column moves")


@cache
def _loaded(data: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Features, scaled, and classes, shuffled with a fixed seed."""
    if data == "digits":
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
    else:
        from river import datasets

        name = {"phishing": "Phishing", "bananas": "Bananas", "segments": "ImageSegments"}[data]
        rows = list(getattr(datasets, name)())
        x = np.array([[float(v) for v in features.values()] for features, _ in rows])
        y = np.unique([str(label) for _, label in rows], return_inverse=True)[1]
    order = np.random.default_rng(0).permutation(len(x))
    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-9)
    return x[order], np.asarray(y, np.int64)[order]


def scores(data: str) -> tuple[str, ...]:
    """Names of the columns of scores."""
    return tuple(f"score_{i}" for i in range(int(_loaded(data)[1].max()) + 1))


@cache
def _model(data: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights ``(F + 1, C)`` of a softmax regression of the first 40%, and those of columns."""
    x, y = _loaded(data)
    n, classes = int(0.4 * len(x)), int(y.max()) + 1
    a = np.c_[_expanded(x[:n], data), np.ones(n)]
    w = np.zeros((a.shape[1], classes))
    target = np.eye(classes)[y[:n]]
    for _ in range(400):
        p = _softmax(a @ w)
        w -= 1.0 * (a.T @ (p - target) / n + 1e-3 * w)
    return w, np.abs(w[:-1]).sum(axis=1)


def _expanded(x: NDArray[np.float64], data: str) -> NDArray[np.float64]:
    """Two features are no task for a line: squares and products beside them."""
    if data != "bananas":
        return x
    a, b = x.T
    return np.c_[x, a * a, b * b, a * b, a * a * b, a * b * b]


def _softmax(z: NDArray[np.float64]) -> NDArray[np.float64]:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def _runs(rng: np.random.Generator, x: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """Rows with replacement; in every fourth stretch of 20 rows half are the nearest of one."""
    picks = rng.integers(0, len(x), n)
    for at in range(0, n - 20, 20):
        if rng.random() < 0.25:
            near = np.argsort(((x - x[picks[at]]) ** 2).sum(axis=1))[:30]
            own = at + np.flatnonzero(rng.random(20) < 0.5)
            picks[own] = rng.choice(near, len(own))
    return picks


def draw(data: str, change: str, seed: int) -> Drawn:
    """Reference and stream; from ``START`` on the change is in force."""
    rng = np.random.default_rng([seed, DATA.index(data), (*HARMFUL, *HARMLESS).index(change)])
    x, y = _loaded(data)
    w, _ = _model(data)
    classes = int(y.max()) + 1
    rest = slice(int(0.4 * len(x)), None)

    def answered(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return _softmax(np.c_[_expanded(rows, data), np.ones(len(rows))] @ w)

    def table(
        rows: NDArray[np.float64], label: NDArray[np.int64], unused: NDArray[np.float64]
    ) -> tuple[pa.Table, NDArray[np.bool_]]:
        p = answered(rows)
        prediction = p.argmax(axis=1)
        columns = {f"x{i}": rows[:, i].astype(np.float32) for i in range(rows.shape[1])}
        columns |= {"unused": unused.astype(np.float32), "label": label, "prediction": prediction}
        columns |= {f"score_{i}": p[:, i].astype(np.float32) for i in range(classes)}
        return pa.table(columns), prediction != label

    picks = _runs(rng, x[rest], REFERENCE_ROWS)
    reference, before = table(x[rest][picks], y[rest][picks], rng.normal(size=REFERENCE_ROWS))
    picks = _runs(rng, x[rest], ROWS)
    on = np.arange(ROWS) >= START
    if change == "hard classes":
        wrong = answered(x[rest]).argmax(axis=1) != y[rest]
        hard = np.bincount(y[rest], wrong, classes) / np.maximum(np.bincount(y[rest]), 1)
        p = 0.05 + hard[y[rest]]
        picks = np.where(on, rng.choice(len(p), ROWS, p=p / p.sum()), picks)
    rows, label, unused = x[rest][picks].copy(), y[rest][picks].copy(), rng.normal(size=ROWS)
    if change == "columns swapped":
        a, b = np.argsort(-_model(data)[1][: x.shape[1]])[:2]
        rows[np.ix_(on, [a, b])] = rows[np.ix_(on, [b, a])]
    elif change == "noise":
        rows[on] += rng.normal(scale=0.7, size=(int(on.sum()), x.shape[1]))
    elif change == "other labels":
        turned = on & (rng.random(ROWS) < 0.08)
        label[turned] = (label[turned] + 1) % classes
    elif change == "unused column moves":
        unused[on] += 2.0
    stream, after = table(rows, label, unused)
    return Drawn(reference, stream, before, after)
