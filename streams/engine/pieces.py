"""Pieces of a chunk, where its records are not to be taken together."""

from __future__ import annotations

from redistill.streams.engine.fetched import Chunk
from redistill.streams.wire.envelope import Record
from redistill.streams.wire.recordset import RecordSet

__all__ = ["cut", "unopened"]


def cut(chunk: Chunk, most: int) -> list[Chunk]:
    """The first records of a chunk, so many at most, and what is left of it, in order.

    What had to be unpacked for them stays unpacked; the batches behind are not touched.
    """
    records, end, _ = next(chunk.read())
    rest = [chunk._replace(first=end)] if end < chunk.end else []
    first = Chunk(chunk.first, end, len(records), chunk.size, records)
    if len(records) <= most:
        return [first, *rest]
    cut_at = int(records.offset[most])  # what was never in the log goes with what is before it
    return [
        first._replace(end=cut_at, records=most, batches=records.part(0, most)),
        first._replace(
            first=cut_at, records=len(records) - most, batches=records.part(most, len(records))
        ),
        *rest,
    ]


def unopened(chunk: Chunk) -> list[Chunk]:
    """The first offset of a chunk, as a record without its bytes, and the rest as it came."""
    end = chunk.first + 1
    records = RecordSet.of([Record("", -1, chunk.first, 0, None, None, [])])
    rest = [chunk._replace(first=end)] if end < chunk.end else []
    return [Chunk(chunk.first, end, 1, 0, records), *rest]
