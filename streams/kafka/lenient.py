"""Lenient reading of kafka-python's batches: no batch makes a poll fail for ever.

kafka-python refuses a whole batch for one header whose name is no UTF-8, or which unpacks to more
than a megabyte of zstd, and meets it again at the next poll. Here the wire's own reader takes the
records out of it; a batch that it cannot read either is left out, and said. It stands on private
parts of kafka-python (a contract test names them); where they are missing nothing is changed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from kafka.consumer import fetcher
from kafka.errors import UnsupportedCodecError
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch

from redistill.streams.wire.recordset import Body, RecordSet

__all__ = ["read_leniently"]

_logger = logging.getLogger("redistill.client")


def read_leniently(consumer: Any) -> Any:
    """Let a ``KafkaConsumer`` read what others wrote."""
    inner = getattr(consumer, "_fetcher", None)
    if inner is not None and hasattr(inner, "PartitionRecords"):
        inner.PartitionRecords = _PartitionRecords
    return consumer


class _Batch(DefaultRecordBatch):  # type: ignore[misc]
    """A batch of which every record is read that can be."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        try:
            self._maybe_uncompress()
            body = Body(
                data=bytes(memoryview(self._buffer)[self._pos :]),
                records=self.records_count,
                base_offset=self.base_offset,
                first_timestamp=self.first_timestamp,
                append_time=self.max_timestamp if self.timestamp_type else None,
            )
            records = RecordSet.read([body])
        except UnsupportedCodecError:
            raise  # a library is missing: nothing is wrong with the batch
        except Exception as error:  # each codec has errors of its own
            _logger.warning(
                "redistill: a batch of %d records at offset %d cannot be read and is left out: %s",
                self.records_count,
                self.base_offset,
                error,
            )
            return
        for r in records:
            yield DefaultRecord(
                len(r.value or b""), r.offset, r.timestamp_ms, self.timestamp_type,
                r.key, r.value, list(r.headers),
            )  # fmt: skip


class _Batches:
    """What a fetch brought, batch by batch."""

    def __init__(self, records: Any) -> None:
        self._records = records

    def next_batch(self) -> Any:
        """The next one; ``None``: there is none."""
        batch = self._records.next_batch()
        if type(batch) is DefaultRecordBatch:
            batch.__class__ = _Batch
        return batch


class _PartitionRecords(fetcher.Fetcher.PartitionRecords):  # type: ignore[misc]
    def __init__(self, fetch_offset: int, tp: Any, records: Any, **options: Any) -> None:
        super().__init__(fetch_offset, tp, _Batches(records), **options)
