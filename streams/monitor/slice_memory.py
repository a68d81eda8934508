"""Memory of labelled rows with their slices and expected errors, from which a slice's change is
dated and a loss is localised: bounded, whatever the stream is long."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LabelledRows", "SliceMemory"]

RECENT = 8_192
"""Rows that are remembered at least, once there are so many; twice as many at most."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledRows:
    """Labelled rows in the order in which their labels came, with where they belong."""

    error: NDArray[np.uint8]  # (n,) 1 = wrong
    served_at: NDArray[np.int64]  # (n,) microseconds since 1970
    expected: NDArray[np.float32]  # (n,) expected error
    slices: NDArray[np.int8]  # (n, C) index of the tested slice per column; -1: none
    asked: NDArray[np.int8]  # (n,) index of the slice that asked for the row; -1: it is random

    def __len__(self) -> int:
        return len(self.error)

    @property
    def random(self) -> NDArray[np.bool_]:
        """``(n,)`` rows that are random ones of the model."""
        return self.asked < 0

    @property
    def tested(self) -> NDArray[np.int8]:
        """``(n, C)`` slices whose tests the rows feed: those in which they are, and of a row that a
        slice asked for only that one."""
        asked = self.asked[:, None]
        return np.where((asked < 0) | (self.slices == asked), self.slices, np.int8(-1))

    def outside(self, *slices: int) -> LabelledRows:
        """The rows that are in none of some slices."""
        return self[~np.asarray(np.isin(self.slices, slices).any(axis=1))]

    def __getitem__(self, which: slice | NDArray[np.bool_] | NDArray[np.intp]) -> LabelledRows:
        return LabelledRows(
            self.error[which],
            self.served_at[which],
            self.expected[which],
            self.slices[which],
            self.asked[which],
        )

    @classmethod
    def none(cls, columns: int) -> LabelledRows:
        """No rows."""
        return cls(
            np.zeros(0, np.uint8),
            np.zeros(0, np.int64),
            np.zeros(0, np.float32),
            np.zeros((0, columns), np.int8),
            np.zeros(0, np.int8),
        )


@dataclass(frozen=True, slots=True, eq=False)
class SliceMemory:
    """The newest labelled rows, numbered from the first that there ever was. A value."""

    rows: LabelledRows
    total: int = 0
    """Rows that there ever were."""

    @property
    def first(self) -> int:
        """Number of the first row that is held."""
        return self.total - len(self.rows)

    def upto(self, end: int, since: int = 0) -> LabelledRows:
        """Rows that were remembered when ``end`` rows had come, from number ``since`` on: the same
        however the rows were cut into calls."""
        begin = max(since, _start(end), self.first)
        return self.rows[begin - self.first : end - self.first]

    def with_rows(self, rows: LabelledRows) -> SliceMemory:
        """With new rows at the end; nothing is forgotten before ``trimmed``."""
        old = self.rows
        both = LabelledRows(
            np.concatenate([old.error, rows.error]),
            np.concatenate([old.served_at, rows.served_at]),
            np.concatenate([old.expected, rows.expected]),
            np.concatenate([old.slices, rows.slices]),
            np.concatenate([old.asked, rows.asked]),
        )
        return SliceMemory(both, self.total + len(rows))

    def trimmed(self) -> SliceMemory:
        """Without what no later look needs."""
        return replace(self, rows=self.upto(self.total))

    def plain(self) -> dict[str, Any]:
        """For the stored state: arrays as bytes."""
        r = self.rows
        return {
            "total": self.total,
            "n": len(r),
            "error": np.packbits(r.error).tobytes(),
            "served_at": _packed(np.diff(r.served_at, prepend=0)),
            "expected": _packed(r.expected),
            "slices": _packed(r.slices.T),
            "asked": _packed(r.asked),
        }

    @classmethod
    def of(cls, plain: dict[str, Any], columns: int) -> SliceMemory:
        """Read what ``plain`` told.

        Raises
        ------
        ValueError, zlib.error
            If the arrays do not fit each other.
        """
        n = plain["n"]

        served_at = np.cumsum(_unpacked(plain["served_at"], np.int64))
        expected = _unpacked(plain["expected"], np.float32)
        asked = _unpacked(plain["asked"], np.int8)
        if {len(served_at), len(expected), len(asked)} != {n}:
            raise ValueError(f"{n} rows were expected")
        rows = LabelledRows(
            np.unpackbits(np.frombuffer(plain["error"], np.uint8), count=n),
            served_at,
            expected,
            _unpacked(plain["slices"], np.int8).reshape(columns, n).T,
            asked,
        )
        return cls(rows, plain["total"])


def _start(end: int) -> int:
    return RECENT * max(0, end // RECENT - 1)


def _packed(values: NDArray[Any]) -> bytes:
    return zlib.compress(np.ascontiguousarray(values).tobytes(), 1)


def _unpacked(data: bytes, kind: Any) -> NDArray[Any]:
    return np.frombuffer(zlib.decompress(data), kind)
