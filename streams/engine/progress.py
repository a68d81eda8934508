"""Progress of a worker: how far each of its partitions was read since the last batch was closed."""

from __future__ import annotations

from collections.abc import Callable

from redistill.streams.store.batch import Gap, Partition, Progress

__all__ = ["ReadProgress"]


class ReadProgress:
    """The partitions of one worker, from their assignment on."""

    def __init__(self) -> None:
        self._open: dict[Partition, Progress] = {}

    def assign(self, partition: Partition, topic: str, *, stored: int | None, start: int) -> None:
        """A partition is ours from now on.

        Parameters
        ----------
        partition, topic
            Which, and its topic's name at the broker.
        stored
            ``next_offset`` in SQL; ``None``: never read.
        start
            Where reading begins: ``stored``, or else the log's start; before it, if the log lost
            its end.
        """
        self._open[partition] = Progress(
            topic=topic,
            expected=stored,
            first_offset=start,
            next_offset=start,
            rewound=0 if stored is None else max(0, stored - start),
        )

    def __contains__(self, partition: Partition) -> bool:
        return partition in self._open

    def __getitem__(self, partition: Partition) -> Progress:
        return self._open[partition]

    def next_offset(self, partition: Partition) -> int | None:
        """The next offset to take; ``None``: the partition is not ours."""
        progress = self._open.get(partition)
        return None if progress is None else progress.next_offset

    def lost(self, partition: Partition, first: int, last: int) -> Gap:
        """Skip offsets that left the log before they were read (both ends inclusive)."""
        progress = self._open[partition]
        if last >= progress.next_offset:
            progress.skipped += last + 1 - progress.next_offset
            progress.next_offset = last + 1
        return Gap(partition=partition, topic=progress.topic, first=first, last=last)

    def close(self, changed: Callable[[Partition], bool]) -> dict[Partition, Progress]:
        """What has to be stored of the partitions that were read, or of which something changed;
        from now on it counts as stored.
        """
        closed: dict[Partition, Progress] = {}
        for partition, progress in self._open.items():
            new = progress.expected is None
            begin = progress.first_offset if new else progress.expected
            if new or progress.next_offset != begin or changed(partition):
                closed[partition] = progress
        for partition, progress in closed.items():
            self._open[partition] = Progress(
                topic=progress.topic,
                expected=progress.next_offset,
                first_offset=progress.first_offset,
                next_offset=progress.next_offset,
            )
        return closed

    def clear(self) -> None:
        """Forget every partition."""
        self._open.clear()
