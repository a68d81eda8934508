"""Record batches of a fetch, as they stood in the log: checked and counted where they arrive, and
unpacked where they are read.

So what waits in the queue is a few large buffers, and the records of a chunk come to life, are
decoded and are gone again while they are in the processor's cache. Batches of transactions that
were aborted are told apart here (aiokafka's own filter is bypassed), and never unpacked.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import cramjam
import numpy as np
import structlog
from aiokafka import codec
from aiokafka.consumer import fetcher as aiokafka_fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords
from crc32c import crc32c

from redistill.streams.engine.aborted import AbortedTransactions
from redistill.streams.errors import WireError
from redistill.streams.wire.envelope import UNREADABLE, Record
from redistill.streams.wire.recordset import Body, RecordSet

__all__ = ["CHUNK_RECORDS", "Chunk", "RawRecords", "RawSet", "chunks"]

log = structlog.get_logger(__name__)

CHUNK_RECORDS, CHUNK_BYTES = 2_000, 1024 * 1024
"""A chunk ends at the batch that reaches one of these."""

MOST_LETTERS = 10_000
"""Dead letters of a batch that cannot be read: its number of records may be wrong too."""

READ_BYTES = 16 * 1024 * 1024
"""Unpacked bytes that are read at once: batches of zeros may be small in the log, and a chunk of
them large."""
MOST_UNPACKED = 128 * 1024 * 1024
"""Bytes that one batch may unpack to: a few kilobytes of zstd would fill any memory."""
_USUAL_UNPACKED = 4 * 1024 * 1024

_LOG_OVERHEAD = 12  # base offset and length
_HEADER = struct.Struct(">qiibIhiqqqhii")
_SMALLEST = 14  # of any format, behind its length
_CRC_FROM = 21
_CODEC, _APPEND_TIME, _TRANSACTIONAL, _CONTROL = 0x07, 0x08, 0x10, 0x20
_SNAPPY = 2
_NOTHING = memoryview(b"")
_UNPACK_INTO = {
    1: cramjam.gzip.decompress_into,
    3: cramjam.lz4.decompress_into,
    4: cramjam.zstd.decompress_into,
}


class RecordBatch(NamedTuple):
    """One batch of the log, not yet decompressed."""

    base_offset: int
    end: int
    """The offset behind it."""
    attributes: int
    records: int
    first_timestamp: int
    max_timestamp: int
    data: memoryview
    aborted: bool = False
    """Of a transaction that was aborted: none of its records counts."""

    def records_from(self, first: int) -> int:
        """How many records it holds from an offset on, as far as it says."""
        return max(0, min(self.records, self.end - max(first, self.base_offset)))

    def body(self) -> Body:
        """Its records; without data, and with the reason, if it cannot be decompressed."""
        data: bytes | memoryview = b""
        fault = ""
        try:
            data = _unpacked(self.attributes & _CODEC, self.data)
        except MemoryError:
            raise  # nothing is wrong with the batch: it is read again
        except Exception as error:  # each codec has errors of its own
            fault = f"a batch that does not decompress, or to more than is read: {error}"
        return Body(
            data=data,
            fault=fault,
            records=min(self.records, self.end - self.base_offset),  # more is a lie
            base_offset=self.base_offset,
            first_timestamp=self.first_timestamp,
            append_time=self.max_timestamp if self.attributes & _APPEND_TIME else None,
        )


def _unpacked(codec_id: int, data: memoryview) -> bytes | memoryview:
    """Decompress a batch; an error, if it is more than ``MOST_UNPACKED``."""
    if codec_id == _SNAPPY:  # 21 times larger at most
        return bytes(codec.snappy_decode(bytes(data)))
    if (into := _UNPACK_INTO.get(codec_id)) is None:
        return data
    try:
        return _within(_USUAL_UNPACKED, into, data)
    except cramjam.DecompressionError:
        return _within(MOST_UNPACKED, into, data)


def _within(size: int, into: Callable[..., int], data: memoryview) -> bytes:
    room = np.empty(size, np.uint8)
    return room[: into(data, room)].tobytes()


class Part(NamedTuple):
    """Part of a chunk, read."""

    records: RecordSet
    end: int
    """The offset behind it."""
    aborted: int
    """Records of aborted transactions that were passed over on the way."""


class Chunk(NamedTuple):
    """Neighbouring batches of one partition."""

    first: int
    """Everything from this offset on is in it, or was not in the log."""
    end: int
    """The offset behind it."""
    records: int
    """As many at most: those before ``first`` are counted too, aborted ones are not."""
    size: int
    """Bytes."""
    batches: list[RecordBatch] | RecordSet
    """``RecordSet``: they were in a format of old, which aiokafka unpacked."""

    @property
    def timestamp(self) -> int:
        """When its first batch was written, as that says (ms since 1970); 0: it does not."""
        if isinstance(self.batches, RecordSet) or not self.batches:
            return 0
        return max(0, self.batches[0].first_timestamp)

    def read(self) -> Iterator[Part]:
        """Its records, from ``first`` on, ``READ_BYTES`` or a batch at once.

        A batch that the broker took though it cannot be read gives records without a value that say
        why, so that each of its offsets becomes a dead letter.
        """
        for part in self._parts():
            records = part.records
            if len(records) and records.offset[0] < self.first:
                later = records.part(int(records.offset.searchsorted(self.first)), len(records))
                part = part._replace(records=later)
            yield part

    def _parts(self) -> Iterator[Part]:
        if isinstance(self.batches, RecordSet):
            yield Part(self.batches, self.end, 0)
            return
        bodies: list[Body] = []
        size = aborted = 0
        for b in self.batches:
            if b.end <= self.first:
                continue
            if b.aborted:
                aborted += b.records_from(self.first)
                continue
            bodies.append(b.body())
            size += len(bodies[-1].data)
            if size >= READ_BYTES:
                yield Part(_read(bodies), b.end, aborted)
                bodies, size, aborted = [], 0, 0
        yield Part(_read(bodies), self.end, aborted)


def _read(bodies: list[Body]) -> RecordSet:
    """Records of some batches; where one of them is broken, of each for itself."""
    with contextlib.suppress(WireError):
        return RecordSet.read(bodies)
    out: list[Record] = []
    for b in bodies:
        try:
            out += RecordSet.read([b])
        except WireError as error:
            log.error(
                "batch_unreadable",
                action="batch_unreadable",
                offset=b.base_offset,
                records=b.records,
                error=error.reason,
            )
            at = b.first_timestamp if b.append_time is None else b.append_time
            why = [(UNREADABLE, error.reason.encode())]
            out += [
                Record("", -1, b.base_offset + i, at, None, None, why)
                for i in range(min(b.records, MOST_LETTERS))
            ]
    return RecordSet.of(out)


class RawRecords(aiokafka_fetcher.PartitionRecords):  # type: ignore[misc]
    """What aiokafka takes for its unpacker: what it yields are chunks, not records.

    Control batches hold no records, and those of aborted transactions none that count.
    """

    next_fetch_offset: int

    def __iter__(self) -> Any:
        return self._records_iterator

    def _unpack_records(self) -> Iterator[Chunk]:
        aborted = self._aborted_transactions
        for chunk in chunks(self._records.data, self.next_fetch_offset, self._tp, aborted):
            self.next_fetch_offset = chunk.end
            yield chunk


class RawSet:
    """What aiokafka takes for its reader of batches: the bytes, as they came."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def has_next(self) -> bool:
        """Whether there is a whole batch: a fetch may end within one."""
        return len(self.data) > _LOG_OVERHEAD and len(self.data) >= _end_of(self.data, 0)

    def size_in_bytes(self) -> int:
        """Bytes, whole batches or not."""
        return len(self.data)


def _end_of(data: bytes, at: int) -> int:
    size = int.from_bytes(data[at + 8 : at + 12], "big", signed=True)
    if size < _SMALLEST:
        raise CorruptRecordException(f"A batch of {size} bytes")
    return at + _LOG_OVERHEAD + size


def chunks(
    data: bytes, first: int, partition: Any, aborted: Iterable[tuple[int, int]] = ()
) -> Iterator[Chunk]:
    """The whole batches of a fetch, in chunks.

    Parameters
    ----------
    data
        The record set of one partition; the batch at its end may be cut off.
    first
        The offset that was asked for; the first batch may begin before it.
    partition
        Said in errors.
    aborted
        Producer and first offset of the aborted transactions, as the broker listed them.

    Raises
    ------
    CorruptRecordException
        A checksum is wrong: aiokafka fetches again.
    """
    view = memoryview(data)
    transactions = AbortedTransactions(aborted)
    batches: list[RecordBatch] = []
    records = size = at = 0
    end = first
    while at + _LOG_OVERHEAD < len(data) and (stop := _end_of(data, at)) <= len(data):
        if data[at + 16] < 2:  # a format from before headers
            if batches:
                yield Chunk(first, end, records, size, batches)
                first, batches, records, size = end, [], 0, 0
            old = _old_format(data[at:stop])
            end = max(end, int(old.offset[-1]) + 1 if len(old) else end)
            yield Chunk(first, end, len(old), stop - at, old)
            first, at = end, stop
            continue
        if stop - at < _HEADER.size:
            raise CorruptRecordException(f"A batch of {stop - at} bytes - {partition}")
        base, _, _, _, crc, attributes, delta, begin, newest, producer, _, _, count = (
            _HEADER.unpack_from(data, at)
        )
        if crc32c(view[at + _CRC_FROM : stop]) != crc and (crc or not attributes & _CONTROL):
            raise CorruptRecordException(f"Invalid CRC - {partition}")  # the mock's markers have 0
        last = base + delta
        if attributes & _CONTROL:
            transactions.end(producer, last)
        elif attributes & _TRANSACTIONAL and transactions.void(producer, last):
            if last >= first:
                batches.append(RecordBatch(base, last + 1, 0, count, 0, 0, _NOTHING, aborted=True))
        elif last >= first:
            body = view[at + _HEADER.size : stop]
            batches.append(RecordBatch(base, last + 1, attributes, count, begin, newest, body))
            records += count
            size += stop - at
        end = max(end, last + 1)
        at = stop
        if records >= CHUNK_RECORDS or size >= CHUNK_BYTES:
            yield Chunk(first, end, records, size, batches)
            first, batches, records, size = end, [], 0, 0
    if end > first:
        yield Chunk(first, end, records, size, batches)


def _old_format(data: bytes) -> RecordSet:
    batches = MemoryRecords(data)
    out: list[Any] = []
    while batches.has_next():
        batch = batches.next_batch()
        if not batch.validate_crc():
            raise CorruptRecordException("Invalid CRC")
        out += [
            Record("", -1, r.offset, r.timestamp or 0, r.key, r.value, r.headers or ())
            for r in batch
        ]
    return RecordSet.of(out)
