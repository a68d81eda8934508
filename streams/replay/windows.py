"""Windows of a replay that wait for their labels, and their accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from redistill.streams.replay.label_flow import Asked
from redistill.streams.replay.late_labels import Labels

__all__ = ["ReplayWindow", "WaitingWindows"]


@dataclass(slots=True, eq=False)
class ReplayWindow:
    """A window of accuracy: closed rows wait here for their labels."""

    first: int
    last: int
    closed: bool = False
    predicted: list[NDArray[np.bool_]] = field(default_factory=list)
    """Which of its rows have a prediction, in order."""
    row: list[NDArray[np.int64]] = field(default_factory=list)
    """Rows whose label came."""
    error: list[NDArray[np.uint8]] = field(default_factory=list)

    @property
    def labelled(self) -> int:
        """Rows whose label came."""
        return sum(map(len, self.row))

    def strata(self, rate: float, asked: Sequence[Asked]) -> list[tuple[int, int, int]]:
        """Its rows by the probability that their label is there: those that are right, labelled
        ones, and all with a prediction.

        Parameters
        ----------
        rate
            Of the draw at random.
        asked
            Bursts; those after the window's last row bring nothing in time.
        """
        missed = np.full(self.last + 1 - self.first, 1 - rate)
        for burst in asked:
            if burst.at - 1 <= self.last:
                missed[max(0, burst.first - self.first) : max(0, burst.end - self.first)] *= (
                    1 - burst.p
                )
        different, stratum = np.unique(missed, return_inverse=True)
        n = len(different)
        rows = np.bincount(stratum[np.concatenate(self.predicted)], minlength=n)
        of_label = stratum[np.concatenate(self.row) - self.first] if self.row else stratum[:0]
        wrong = np.concatenate(self.error) if self.error else np.zeros(0)
        labelled = np.bincount(of_label, minlength=n)
        errors = np.bincount(of_label, weights=wrong, minlength=n).astype(int)
        columns = zip((labelled - errors).tolist(), labelled.tolist(), rows.tolist(), strict=True)
        return [s for s in columns if s[2]]


class WaitingWindows:
    """Windows of accuracy whose labels are not all there yet.

    Parameters
    ----------
    rate
        Of the draw of labels at random.
    delay
        Rows after which a label arrives.
    """

    def __init__(self, rate: float, delay: int) -> None:
        self.rate = rate
        self.delay = delay
        self.windows: dict[int, ReplayWindow] = {}
        self.bursts: list[Asked] = []

    def serve(self, first: int, numbers: NDArray[np.int64], predicted: NDArray[np.bool_]) -> None:
        """Rows from ``first`` on were served, each in the window of its number."""
        for number in np.unique(numbers).tolist():
            where = np.flatnonzero(numbers == number)
            window = self.windows.setdefault(number, ReplayWindow(first + int(where[0]), 0))
            window.last = first + int(where[-1])
            window.predicted.append(predicted[where])

    def close(self, numbers: Iterable[int]) -> None:
        """These windows get no more rows."""
        for number in numbers:
            if (window := self.windows.get(number)) is not None:
                window.closed = True

    def ask(self, bursts: Iterable[Asked]) -> None:
        """More rows were asked for."""
        self.bursts += bursts

    def came(self, labels: Labels) -> None:
        """Labels came; what feeds the test of one slice only says nothing of a window."""
        for number in np.unique(labels.window).tolist():
            window = self.windows.get(number)
            if window is None:
                continue
            in_time = labels.arrival <= window.last + self.delay
            mine = (labels.window == number) & (labels.only.codes < 0) & in_time
            window.row.append(labels.row[mine])
            window.error.append(labels.error[mine])

    def due(
        self, now: int, *, everything: bool = False
    ) -> list[tuple[int, ReplayWindow, list[tuple[int, int, int]]]]:
        """Windows whose labels can be there by row ``now``: the row at which they were, the window
        and its strata."""
        found = []
        for number in sorted(self.windows):
            window = self.windows[number]
            row = window.last + self.delay
            if not everything and (not window.closed or row > now):
                break
            del self.windows[number]
            found.append((min(row, now), window, window.strata(self.rate, self.bursts)))
        oldest = min((w.first for w in self.windows.values()), default=now)
        self.bursts = [b for b in self.bursts if b.end > oldest]
        return found
