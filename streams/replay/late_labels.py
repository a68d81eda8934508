"""Labels of a replay on their way from their rows to the monitor, and the rows that may still be
asked for one. Columns of plain numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redistill.streams.monitor.label_requests import LONGEST_ROWS
from redistill.streams.monitor.outcomes import Outcomes
from redistill.streams.wire.block import Codes

__all__ = ["Labels", "RecentRows", "ServedRows"]

_Picks = NDArray[np.int64] | NDArray[np.bool_] | slice


def _joined(parts: Sequence[Codes]) -> Codes:
    """Columns of strings, one after the other."""
    values = {v: None for part in parts for v in part.values}
    index = {v: i for i, v in enumerate(values)}
    codes = [np.array([*(index[v] for v in p.values), -1], np.int32)[p.codes] for p in parts]
    return Codes(np.concatenate(codes), tuple(values))


def _picked(columns: Mapping[str, Codes], picks: _Picks) -> dict[str, Codes]:
    return {name: Codes(c.codes[picks], c.values) for name, c in columns.items()}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ServedRows:
    """Rows that follow each other, with what their labels would say."""

    first: int
    error: NDArray[np.uint8]  # (n,) 1 = wrong
    labelled: NDArray[np.bool_]  # (n,) the file has label and prediction
    served_at: NDArray[np.int64]  # (n,) microseconds since 1970
    confidence: NDArray[np.float32]  # (n,)
    window: NDArray[np.int64]  # (n,) number of the window
    drawn: NDArray[np.bool_]  # (n,) by the draw at random
    slices: dict[str, Codes]

    def __len__(self) -> int:
        return len(self.error)

    @property
    def end(self) -> int:
        """Number of the row after the last."""
        return self.first + len(self)

    def cut(self, start: int, end: int) -> ServedRows:
        """Rows ``start:end`` of these."""
        own = slice(start, end)
        return ServedRows(
            first=self.first + start,
            error=self.error[own],
            labelled=self.labelled[own],
            served_at=self.served_at[own],
            confidence=self.confidence[own],
            window=self.window[own],
            drawn=self.drawn[own],
            slices=_picked(self.slices, own),
        )

    @staticmethod
    def joined(parts: Sequence[ServedRows]) -> ServedRows:
        """Rows one after the other; at least one part."""

        return ServedRows(
            first=parts[0].first,
            slices={k: _joined([p.slices[k] for p in parts]) for k in parts[0].slices},
            error=np.concatenate([p.error for p in parts]),
            labelled=np.concatenate([p.labelled for p in parts]),
            served_at=np.concatenate([p.served_at for p in parts]),
            confidence=np.concatenate([p.confidence for p in parts]),
            window=np.concatenate([p.window for p in parts]),
            drawn=np.concatenate([p.drawn for p in parts]),
        )

    def within(self, place: str | None) -> NDArray[np.bool_]:
        """Which rows lie in a slice, ``COLUMN=VALUE``; ``None``: all."""
        if place is None:
            return np.ones(len(self), np.bool_)
        column, _, value = place.partition("=")
        codes = self.slices.get(column)
        if codes is None or value not in codes.values:
            return np.zeros(len(self), np.bool_)
        return np.asarray(codes.codes == codes.values.index(value))

    def labels(
        self,
        picks: NDArray[np.bool_],
        *,
        arrival: int | None,
        delay: int,
        p_include: NDArray[np.float64],
        only: str | None = None,
    ) -> Labels:
        """Labels of picked rows set out; a row without one is asked in vain.

        Parameters
        ----------
        arrival
            Row in which they come; ``None``: ``delay`` after their own.
        p_include
            ``(n,)`` probability of each row to be picked, by all draws so far.
        only
            Slice whose test alone they feed.
        """
        i = np.flatnonzero(picks & self.labelled)
        row = self.first + i
        return Labels(
            arrival=row + delay if arrival is None else np.full(len(i), arrival),
            row=row,
            error=self.error[i],
            served_at=self.served_at[i],
            confidence=self.confidence[i],
            window=self.window[i],
            p_include=p_include[i],
            random=self.drawn[i],
            only=Codes(np.full(len(i), -1 if only is None else 0, np.int32), (only or "",)),
            slices=_picked(self.slices, i),
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Labels:
    """Labels on their way, or that have come."""

    arrival: NDArray[np.int64]  # (n,) row in which each comes
    row: NDArray[np.int64]
    error: NDArray[np.uint8]
    served_at: NDArray[np.int64]
    confidence: NDArray[np.float32]
    window: NDArray[np.int64]
    p_include: NDArray[np.float64]
    random: NDArray[np.bool_]  # the draw at random would have brought it
    only: Codes  # of a request for one slice: which
    slices: dict[str, Codes]

    def __len__(self) -> int:
        return len(self.row)

    def take(self, picks: _Picks) -> Labels:
        """Some of them."""
        arrays = {n: getattr(self, n)[picks] for n in _ARRAYS}
        only = Codes(self.only.codes[picks], self.only.values)
        return Labels(only=only, slices=_picked(self.slices, picks), **arrays)

    def split(self, before: int) -> tuple[Labels, Labels]:
        """Those that come before a row, and the rest; they are in the order in which they come."""
        i = int(np.searchsorted(self.arrival, before))
        return self.take(slice(None, i)), self.take(slice(i, None))

    @staticmethod
    def joined(parts: Sequence[Labels]) -> Labels:
        """All of them, in the order in which they come; of those that come at once, older rows
        first. At least one part."""
        if len(parts) == 1:
            return parts[0]
        whole = Labels(
            only=_joined([p.only for p in parts]),
            slices={k: _joined([p.slices[k] for p in parts]) for k in parts[0].slices},
            **{n: np.concatenate([getattr(p, n) for p in parts]) for n in _ARRAYS},
        )
        return whole.take(np.lexsort((whole.row, whole.arrival)))

    def outcomes(self, received_at: NDArray[np.int64]) -> Outcomes:
        """As the monitor takes them."""
        return Outcomes(
            error=self.error,
            served_at=self.served_at,
            received_at=received_at,
            confidence=self.confidence,
            uniform=self.only.codes < 0,
            p_include=self.p_include,
            slices=self.slices,
            slice_only=self.only,
        )


_ARRAYS = ("arrival", "row", "error", "served_at", "confidence", "window", "p_include", "random")


class RecentRows:
    """The last rows that were served, as far as a burst looks back."""

    def __init__(self) -> None:
        self._parts: list[ServedRows] = []
        self._taken: list[NDArray[np.bool_]] = []
        self._p: list[NDArray[np.float64]] = []

    def append(
        self, rows: ServedRows, taken: NDArray[np.bool_], p_include: NDArray[np.float64]
    ) -> None:
        """Rows were served, of some of which the label is known or asked for."""
        self._parts.append(rows)
        self._taken.append(taken)
        self._p.append(p_include)
        while self._parts[0].end <= rows.end - LONGEST_ROWS:
            del self._parts[0], self._taken[0], self._p[0]

    def take(self) -> tuple[ServedRows, NDArray[np.bool_], NDArray[np.float64]]:
        """All of them as one, which of them are taken, and with which probability; the latter two
        may be changed in place."""
        if len(self._parts) > 1:
            rows = ServedRows.joined(self._parts)
            old = max(0, len(rows) - LONGEST_ROWS)
            self._parts = [rows.cut(old, len(rows))]
            self._taken = [np.concatenate(self._taken)[old:]]
            self._p = [np.concatenate(self._p)[old:]]
        return self._parts[0], self._taken[0], self._p[0]
