"""Memory of labelled errors, from which a change is dated: bounded, whatever the stream is long."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["FOLD", "RECENT", "Memory"]

RECENT = 8_192
"""Outcomes that are remembered one by one."""
FOLD = 32
"""Older ones are remembered as sums of this many."""
MAX_FOLDS = 8_192
"""Sums that are kept: 262,144 outcomes beyond the recent ones. A change further back is dated to
their beginning."""


class Memory:
    """Labelled errors of a version: recent ones one by one, older ones in blocks of 32."""

    __slots__ = ("errors", "folded_errors", "folded_times", "times")

    def __init__(self) -> None:
        self.errors: list[int] = []
        self.times: list[int] = []
        self.folded_errors: list[int] = []
        self.folded_times: list[int] = []

    def __len__(self) -> int:
        """Labelled rows that are remembered."""
        return len(self.errors) + FOLD * len(self.folded_errors)

    def copy(self) -> Memory:
        """An independent copy."""
        other = Memory()
        for name in self.__slots__:
            setattr(other, name, getattr(self, name).copy())
        return other

    def append(self, error: int, at: int) -> None:
        """Take one outcome; ``at`` is the time at which its row was served, microseconds."""
        self.errors.append(error)
        self.times.append(at)
        if len(self.errors) >= 2 * RECENT:
            e = np.array(self.errors[:RECENT]).reshape(-1, FOLD)
            self.folded_errors += e.sum(axis=1).tolist()
            self.folded_times += self.times[:RECENT:FOLD]
            del self.errors[:RECENT], self.times[:RECENT]
            del self.folded_errors[:-MAX_FOLDS], self.folded_times[:-MAX_FOLDS]

    def entries(
        self, last: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Counts, errors and times of the remembered rows, oldest first; of the ``last`` rows only,
        if given.

        Where ``last`` reaches into the blocks of 32 it is rounded up to whole blocks.
        """
        singles = len(self.errors) if last is None else min(last, len(self.errors))
        folds = len(self.folded_errors)
        if last is not None:
            folds = min(folds, -(-max(0, last - singles) // FOLD))
        first_single, first_fold = len(self.errors) - singles, len(self.folded_errors) - folds
        counts = np.concatenate([np.full(folds, FOLD), np.ones(singles, np.int64)])
        errors = np.array(self.folded_errors[first_fold:] + self.errors[first_single:], np.int64)
        times = np.array(self.folded_times[first_fold:] + self.times[first_single:], np.int64)
        return counts, errors, times
