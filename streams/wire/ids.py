"""Ids of many rows as one buffer: what nearly all of them are needed for is their hash."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ids"]


class Ids(Sequence[str]):
    """``n`` texts in Arrow's layout; each becomes a string when somebody asks for it.

    Parameters
    ----------
    data
        ``(B,) uint8`` UTF-8, one text behind the other.
    ends
        ``(n + 1,) int64``: text ``i`` is ``data[ends[i]:ends[i + 1]]``.

    Examples
    --------
    >>> ids = Ids.of(["a", "bc", "é"])
    >>> ids[1], list(ids[1:]), ids.take([2, 0])
    ('bc', ['bc', 'é'], ['é', 'a'])
    """

    __slots__ = ("data", "ends")

    def __init__(self, data: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self.data = data
        self.ends = ends

    @classmethod
    def of(cls, texts: Sequence[str]) -> Ids:
        """The same as strings; ``Ids`` are returned as they are."""
        if isinstance(texts, Ids):
            return texts
        whole = "".join(texts)
        raw = whole.encode()
        n = len(texts)
        sizes: Iterable[int] = (
            map(len, texts) if len(raw) == len(whole) else (len(t.encode()) for t in texts)
        )
        ends = np.zeros(n + 1, np.int64)
        np.cumsum(np.fromiter(sizes, np.int64, n), out=ends[1:])
        return cls(np.frombuffer(raw, np.uint8), ends)

    @classmethod
    def joined(cls, parts: Sequence[Sequence[str]]) -> Ids:
        """All of some, in their order."""
        columns = [cls.of(p) for p in parts]
        sizes = [np.diff(c.ends) for c in columns]
        ends = np.zeros(sum(map(len, sizes)) + 1, np.int64)
        np.cumsum(np.concatenate(sizes), out=ends[1:])
        data = np.concatenate([c.data[c.ends[0] : c.ends[-1]] for c in columns])
        return cls(data, ends)

    def take(self, rows: Iterable[int]) -> list[str]:
        """Some of them as strings."""
        return [self[i] for i in rows]

    def __len__(self) -> int:
        return len(self.ends) - 1

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> Ids: ...
    def __getitem__(self, i: int | slice) -> str | Ids:
        if isinstance(i, slice):
            start, stop, step = i.indices(len(self))
            if step != 1:
                return Ids.of(self.take(range(start, stop, step)))
            return Ids(self.data, self.ends[start : max(start, stop) + 1])
        n = len(self)
        if not -n <= i < n:
            raise IndexError(i)
        i %= n
        return self.data[self.ends[i] : self.ends[i + 1]].tobytes().decode()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and list(self) == list(other)

    def __repr__(self) -> str:
        return f"Ids.of({list(self)!r})"
