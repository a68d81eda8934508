"""Aborted transactions of a fetch: which of its batches nobody may count.

A broker that is asked for committed records still sends the batches of transactions that were
aborted, and beside them a list of these: the producer, and the first offset of each in this
partition. From there on that producer's batches are void, up to the next marker of its own; other
producers' batches may lie between. So reading may begin within a transaction, and end there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

__all__ = ["AbortedTransactions"]


class AbortedTransactions:
    """Follows the batches of one fetch, in the order of the log.

    Parameters
    ----------
    transactions
        ``(producer id, first offset)`` of each, in any order, as the broker listed them.

    Examples
    --------
    >>> aborted = AbortedTransactions([(7, 2), (9, 4)])
    >>> aborted.void(7, 3), aborted.void(9, 3), aborted.void(9, 4)
    (True, False, True)
    >>> aborted.end(7, 5)
    >>> aborted.void(7, 6), aborted.void(9, 7)
    (False, True)
    """

    def __init__(self, transactions: Iterable[tuple[int, int]] = ()) -> None:
        self._ahead = deque(sorted(transactions, key=lambda t: t[1]))
        self._under_way: set[int] = set()

    def void(self, producer: int, last: int) -> bool:
        """Whether the transactional batch of a producer that ends at this offset was aborted."""
        self._begin(last)
        return producer in self._under_way

    def end(self, producer: int, last: int) -> None:
        """A marker of the producer, at this offset, ends its transaction, however it ended."""
        self._begin(last)
        self._under_way.discard(producer)

    def _begin(self, last: int) -> None:
        while self._ahead and self._ahead[0][1] <= last:
            self._under_way.add(self._ahead.popleft()[0])
