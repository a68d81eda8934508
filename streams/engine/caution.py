"""Caution: how records are taken where a process died, so that one that kills is set aside and
none that does not.

A death says nothing about its cause: a record that no decoder survives, ``kill -9``, no memory.
After one at an offset what follows is taken in small pieces, each stored before the next is in
hand. After two at one offset records are taken singly, and SQL is told of each before it is read.
Whoever finds that two processes in a row died with the same single record in hand sets it aside;
one such death would be too little: while records are taken singly, one is nearly always in hand,
and any kill from outside would cost a good one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from redistill.streams.errors import WireError
from redistill.streams.store.batch import Partition
from redistill.streams.store.tries import Mark, StoredOffset

__all__ = ["PIECE_RECORDS", "Caution", "Level", "Tries"]

PIECE_RECORDS = 500
"""Of one partition, in hand at once. A piece costs a flush, some 10 ms; taken singly it costs some
seconds."""
PIECES_OFFSETS = 20_000
"""Taken in pieces after a death: what a process holds that is not stored, usually. A record beyond
kills once more, and is nearer then."""
ALONE_DEATHS = 2
"""Deaths with one record alone in hand, until it is set aside."""
ASIDE_DEATHS = 1
"""Further deaths, until it is set aside without its bytes: unpacking its batch is what kills."""


class Level(IntEnum):
    """How records are taken. Its number is that of the deaths that lead to it."""

    FREELY = 0
    IN_PIECES = 1
    SINGLY = 2


@dataclass(frozen=True, slots=True)
class Caution:
    """What one partition needs, from where its reading began.

    Examples
    --------
    >>> caution = Caution(start=100, deaths=2)
    >>> [caution.level(offset).name for offset in (100, 599, 600, 20_600)]
    ['SINGLY', 'SINGLY', 'IN_PIECES', 'FREELY']
    """

    start: int
    deaths: int = 0
    """Of processes that had taken records from there on."""
    alone: int | None = None

    def level(self, offset: int) -> Level:
        """How the record at an offset is to be taken."""
        wary = self.start
        if self.deaths >= Level.SINGLY:
            wary += PIECE_RECORDS
            if offset < wary:
                return Level.SINGLY
        return Level.IN_PIECES if self.deaths and offset < wary + PIECES_OFFSETS else Level.FREELY

    def condemns(self, offset: int) -> bool:
        """Whether the record at an offset is set aside unread."""
        return offset == self.start == self.alone and self.deaths >= Level.SINGLY + ALONE_DEATHS


class Tries:
    """The cautions of one worker's partitions, and the tries that are counted as its own."""

    def __init__(self) -> None:
        self._cautions: dict[Partition, Caution] = {}
        self._alone: dict[Partition, int] = {}
        self.standing: dict[Partition, int] = {}
        """By partition, the offset at which SQL counts a try of this process."""

    def begin(self, partition: Partition, start: int, stored: StoredOffset | None) -> None:
        """A partition is read from an offset on."""
        self._alone.pop(partition, None)
        stands = self.standing.pop(partition, None)
        if stored is None:
            self._cautions[partition] = Caution(start)
            return
        tries = stored.tries
        if stands == stored.next_offset:  # one of them is this process, which reads it again
            self.standing[partition] = stands
            tries = max(0, tries - 1)
        self._cautions[partition] = Caution(start, tries, stored.alone)

    def level(self, partition: Partition, offset: int) -> Level:
        """How the record at an offset is to be taken."""
        return self._cautions[partition].level(offset)

    def marks(self, places: Iterable[tuple[Partition, int]]) -> list[Mark]:
        """What SQL has to be told before the records at some offsets are taken."""
        out = []
        for partition, offset in places:
            caution = self._cautions[partition]
            deaths = caution.deaths if offset == caution.start else caution.level(offset)
            tries = None if partition in self.standing else deaths + 1
            singly = caution.level(offset) is Level.SINGLY
            alone = singly and self._alone.get(partition) != offset
            if tries is not None or alone:
                out.append(Mark(partition, offset, tries, alone))
        return out

    def marked(self, marks: Iterable[Mark]) -> None:
        """SQL was told."""
        for m in marks:
            self.standing[m.partition] = m.next_offset
            if m.alone:
                self._alone[m.partition] = m.next_offset

    def after(self, partition: Partition, next_offset: int) -> int:
        """``tries`` of an offset to which a flush moves.

        Where records are taken freely more are in hand by then: it is this process. Elsewhere
        nothing is: it is the caution that whoever comes goes on with, and each piece is marked.
        """
        return max(1, self.level(partition, next_offset))

    def flushed(self, partition: Partition, next_offset: int) -> None:
        """SQL has moved to that offset."""
        if self.level(partition, next_offset) is Level.FREELY:
            self.standing[partition] = next_offset
        else:
            self.standing.pop(partition, None)

    def unopened(self, partition: Partition) -> bool:
        """Whether a condemned record is set aside without its bytes."""
        deaths = self._cautions[partition].deaths
        return deaths >= Level.SINGLY + ALONE_DEATHS + ASIDE_DEATHS

    def condemned(self, partition: Partition, offset: int) -> WireError | None:
        """Why the record at an offset is set aside; ``None``: it is not."""
        caution = self._cautions[partition]
        if not caution.condemns(offset):
            return None
        return WireError(
            "kills",
            f"{caution.deaths - Level.SINGLY} processes in a row ended with this record in hand and"
            " no other: it was set aside unread",
        )
