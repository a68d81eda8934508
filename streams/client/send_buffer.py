"""Send buffer: records on their way to the broker, bounded in bytes, remembered until they are
acknowledged.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from redistill.streams.client.batcher import Outgoing

__all__ = ["SendBuffer"]


@dataclass(slots=True)
class _Waiting:
    number: int
    record: Outgoing


class SendBuffer:
    """A bounded queue per topic. Thread-safe: encoders put, the sender takes and settles.

    Parameters
    ----------
    max_bytes
        Bytes of records that are kept, those being sent included; a record that does not fit is
        refused.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.abandoned = False
        self.bytes = 0
        self.rows = 0
        self._flying = 0  # bytes taken and not yet settled
        self._last = 0
        self._queues: dict[str, deque[_Waiting]] = {}
        self._open: dict[int, _Waiting] = {}  # by number, hence in order
        self.changed = threading.Condition()

    def put(self, record: Outgoing) -> bool:
        """Keep a record; ``False`` if there is no room for it, or nobody who would send it."""
        with self.changed:
            if self.abandoned or self.bytes + record.size > self.max_bytes:
                return False
            self._last += 1
            waiting = _Waiting(self._last, record)
            self._open[waiting.number] = waiting
            self._queues.setdefault(record.topic, deque()).append(waiting)
            self.bytes += record.size
            self.rows += record.rows
            self.changed.notify_all()
            return True

    def take(self, held_back: Iterable[str], flying_bytes: int) -> tuple[int, Outgoing] | None:
        """The next record to send, of a topic that is not held back.

        Parameters
        ----------
        held_back
            Topics that failed a moment ago.
        flying_bytes
            Most bytes that may be on their way at once.
        """
        with self.changed:
            queues = [q for t, q in self._queues.items() if q and t not in held_back]
            if not queues:
                return None
            queue = min(queues, key=lambda q: q[0].number)
            size = queue[0].record.size
            if self._flying and self._flying + size > flying_bytes:
                return None
            waiting = queue.popleft()
            self._flying += size
            return waiting.number, waiting.record

    def settle(self, number: int, count: Callable[[Outgoing], object]) -> None:
        """A record that was taken is done with: sent, or given up. ``count`` gets it, unless it was
        abandoned before, and while nobody sees yet that it is settled: who waits for that looks at
        the counts next.
        """
        with self.changed:
            if (waiting := self._open.pop(number, None)) is None:
                return
            record = waiting.record
            count(record)
            self._flying -= record.size
            self.bytes -= record.size
            self.rows -= record.rows
            self.changed.notify_all()

    def give_back(self, number: int) -> None:
        """A record that was taken could not be sent: it is the next of its topic again."""
        with self.changed:
            if (waiting := self._open.get(number)) is None:
                return
            self._flying -= waiting.record.size
            queue = self._queues[waiting.record.topic]
            earlier = sum(1 for w in queue if w.number < number)
            queue.insert(earlier, waiting)
            self.changed.notify_all()

    def abandon(self, gone: Callable[[int], None]) -> None:
        """Give up what is left and what is put later; ``gone`` gets the rows, if there are any."""
        with self.changed:
            self.abandoned = True
            rows, self.rows, self.bytes, self._flying = self.rows, 0, 0, 0
            self._open.clear()
            self._queues.clear()
            self.changed.notify_all()
        if rows:
            gone(rows)

    def last(self) -> int:
        """Number of the newest record."""
        with self.changed:
            return self._last

    def is_settled(self, number: int) -> bool:
        """Whether all records up to a number are done with."""
        with self.changed:
            return not self._open or next(iter(self._open)) > number

    def wait(self, seconds: float) -> None:
        """Wait until something changes."""
        with self.changed:
            self.changed.wait(seconds)
