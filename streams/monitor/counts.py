"""Counts of columns, the hot loop: rows are sorted once per column, then edges are looked up among
them.

A column is a feature, the prediction, or the confidence (the largest score). What is kept per
column are whole numbers: valid values, and for every edge how many values lie below it. Adding
those of some rows and of others gives those of both, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from redistill.streams.wire.block import Codes, PredictionBlock

__all__ = ["Counts", "EdgeLayout", "columns", "confidence", "count", "count_subwindows"]


@dataclass(frozen=True, slots=True, eq=False)
class EdgeLayout:
    """Edges of all columns, flat: column ``j`` owns ``offsets[j]:offsets[j+1]``."""

    edges: tuple[NDArray[np.float32], ...]  # C arrays, each strictly growing
    offsets: NDArray[np.int64]  # (C + 1,)

    @classmethod
    def of(cls, edges: list[NDArray[np.float32]]) -> EdgeLayout:
        """Lay out the edges of ``C`` columns."""
        sizes = np.array([len(e) for e in edges], np.int64)
        return cls(tuple(edges), np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]))

    @property
    def columns(self) -> int:
        """Number of columns."""
        return len(self.edges)


class Counts(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Counts of some rows; all arrays have one entry per column but ``below``, which has one per
    edge.

    Counts of ``P`` subwindows of one size have an axis of ``P`` before that; ``counts[i]`` are
    those of subwindow ``i``. A value.
    """

    rows: int
    valid: NDArray[np.int64]  # (C,) values that are neither missing nor infinite
    below: NDArray[np.int64]  # (E,) values below each edge
    low: NDArray[np.float32]  # (C,) smallest value, inf if none
    high: NDArray[np.float32]  # (C,) largest value, -inf if none
    wrong: NDArray[np.int64]  # (C,) values of a wrong type (they are missing in `valid`)

    @classmethod
    def stacked(cls, subwindows: Sequence[Counts]) -> Counts:
        """Counts of subwindows of one size, with an axis of subwindows."""
        arrays = {
            name: np.concatenate([getattr(p, name) for p in subwindows]).reshape(
                len(subwindows), -1
            )
            for name in cls.__struct_fields__[1:]
        }
        return cls(rows=subwindows[0].rows, **arrays)

    def __getitem__(self, i: int) -> Counts:
        return Counts(
            rows=self.rows,
            valid=self.valid[i],
            below=self.below[i],
            low=self.low[i],
            high=self.high[i],
            wrong=self.wrong[i],
        )

    def copy(self) -> Counts:
        """The same in arrays of its own: one subwindow alone, not all that it was counted with."""
        return Counts(
            rows=self.rows,
            valid=self.valid.copy(),
            below=self.below.copy(),
            low=self.low.copy(),
            high=self.high.copy(),
            wrong=self.wrong.copy(),
        )

    def plus(self, other: Counts) -> Counts:
        """Counts of the rows of both."""
        return Counts(
            rows=self.rows + other.rows,
            valid=self.valid + other.valid,
            below=self.below + other.below,
            low=np.minimum(self.low, other.low),
            high=np.maximum(self.high, other.high),
            wrong=self.wrong + other.wrong,
        )


def count(values: NDArray[np.float32], layout: EdgeLayout) -> Counts:
    """Count some rows.

    Parameters
    ----------
    values
        ``(C, n) float32``, NaN = missing; not infinite (see ``columns``).
    """
    return count_subwindows(values[:, None], layout)[0]


def count_subwindows(values: NDArray[np.float32], layout: EdgeLayout) -> Counts:
    """Count subwindows of one size: one step for all of them costs little more than for one.

    Parameters
    ----------
    values
        ``(C, P, n) float32``, NaN = missing; not infinite (see ``columns``).
    """
    c, subwindows, n = values.shape
    ordered = np.sort(values, axis=2)  # NaN last
    valid = np.full((c, subwindows), n, np.int64)
    if n and not np.isnan(ordered[:, :, -1]).any():
        low, high = ordered[:, :, 0], ordered[:, :, -1]
    else:
        valid -= np.count_nonzero(np.isnan(values), axis=2)
        low = np.fmin.reduce(values, axis=2, initial=np.inf)
        high = np.fmax.reduce(values, axis=2, initial=-np.inf)
    below = np.empty((subwindows, int(layout.offsets[-1])), np.int64)
    at = 0
    for edges, column, sizes in zip(layout.edges, ordered, valid.tolist(), strict=True):
        end = at + len(edges)
        for i, size in enumerate(sizes):
            below[i, at:end] = column[i, :size].searchsorted(edges)
        at = end
    return Counts(
        rows=n,
        valid=np.ascontiguousarray(valid.T),
        below=below,
        low=np.ascontiguousarray(low.T),
        high=np.ascontiguousarray(high.T),
        wrong=np.zeros((subwindows, c), np.int64),
    )


def confidence(block: PredictionBlock) -> NDArray[np.float32]:
    """The largest score of each row, ``(n,) float32``; NaN where there is none."""
    scores = block.scores
    if scores is None or scores.shape[1] == 0:
        return np.full(len(block), np.nan, np.float32)
    best = np.fmax.reduce(scores, axis=1)
    best[np.isinf(best)] = np.nan
    return np.asarray(best, np.float32)


def columns(
    block: PredictionBlock, names: tuple[str, ...], classes: tuple[str, ...]
) -> NDArray[np.float32]:
    """A block as the columns that are counted.

    Parameters
    ----------
    names
        Features in the profile's order; a feature that the block does not have is missing in every
        row.
    classes
        Classes in the profile's order; another class becomes -1.

    Returns
    -------
    numpy.ndarray
        ``(F + 2, n) float32``: features, then the prediction (index of its class, or the number
        itself), then the confidence. Infinite values are NaN.
    """
    n, f = len(block), len(names)
    out = np.empty((f + 2, n), np.float32)
    if names == block.feature_names:
        out[:f] = block.features.T
    else:
        where = {name: i for i, name in enumerate(block.feature_names)}
        for j, name in enumerate(names):
            i = where.get(name)
            out[j] = np.nan if i is None else block.features[:, i]
    out[f] = _prediction(block.prediction, classes)
    out[f + 1] = confidence(block)
    infinite = np.isinf(out)
    if infinite.any():
        out[infinite] = np.nan
    return out


def _prediction(
    prediction: Codes | NDArray[np.float64], classes: tuple[str, ...]
) -> NDArray[np.float32]:
    if not isinstance(prediction, Codes):
        return prediction.astype(np.float32)
    index = {name: i for i, name in enumerate(classes)}
    table = np.array([index.get(v, -1) for v in prediction.values] + [np.nan], np.float32)
    return table[prediction.codes]  # -1 = missing = the last entry
