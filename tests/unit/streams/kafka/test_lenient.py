"""Batches that kafka-python refuses, read; and the private parts of kafka-python that this stands
on. A new version has to pass this first."""

from __future__ import annotations

import inspect
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.errors import UnsupportedCodecError
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecords

from redistill.streams.kafka.lenient import _PartitionRecords, read_leniently

TP = TopicPartition("pointers", 0)


class Raw(str):
    """A header's name that is written as other bytes."""

    def encode(self, *_: Any) -> bytes:
        return b"\xff\xfe"


def batch(*values: tuple[bytes | None, Any], base: int = 0, codec: int = 0) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=codec, is_transactional=False, producer_id=-1, producer_epoch=-1,
        base_sequence=-1, batch_size=1 << 24,
    )  # fmt: skip
    for i, (value, headers) in enumerate(values):
        assert builder.append(i, 1_000 + i, b"k", value, headers) is not None
    raw = bytearray(builder.build())
    raw[:8] = base.to_bytes(8, "big")
    return bytes(raw)


def taken(raw: bytes, first: int = 0, kind: Any = _PartitionRecords) -> tuple[list[Any], int]:
    """The records of a fetch, and where the next one begins."""
    records = kind(first, TP, MemoryRecords(raw))
    out = []
    while records:
        out += records.take(3)
    return out, records.next_fetch_offset


ODD = [(Raw("x"), b"1"), ("null", None), ("ce_id", b"7")]


def test_header_whose_name_is_no_utf_8_is_read_and_its_neighbours_too() -> None:
    raw = batch((b"a", []), (b"b", ODD), (None, ODD)) + batch((b"c", []), base=3)
    records, end = taken(raw)
    assert [(r.offset, r.value, r.timestamp) for r in records] == [
        (0, b"a", 1_000), (1, b"b", 1_001), (2, None, 1_002), (3, b"c", 1_000),
    ]  # fmt: skip
    assert records[1].headers == [("\ufffd\ufffd", b"1"), ("null", b""), ("ce_id", b"7")]
    assert (records[0].key, records[0].topic, end) == (b"k", "pointers", 4)
    with pytest.raises(Exception, match="UnicodeDecodeError"):
        taken(raw, kind=Fetcher.PartitionRecords)  # as it is without us


def test_fetch_may_begin_within_a_batch() -> None:
    records, end = taken(batch((b"a", []), (b"b", ODD), (b"c", [])), first=1)
    assert ([r.offset for r in records], end) == ([1, 2], 3)


@pytest.mark.parametrize("codec", [1, 2, 3, 4], ids=["gzip", "snappy", "lz4", "zstd"])
def test_batch_that_cannot_be_unpacked_is_left_out_and_said(
    codec: int, caplog: pytest.LogCaptureFixture
) -> None:
    bad = bytearray(batch((b"x" * 500, []), (b"y" * 500, []), codec=codec))
    bad[70:] = bytes(len(bad) - 70)
    raw = batch((b"a", [])) + _sealed(bad, base=1) + batch((b"c", []), base=3)
    with caplog.at_level(logging.WARNING):
        records, end = taken(raw)
        assert ([r.value for r in records], end) == ([b"a", b"c"], 4)
    assert "2 records at offset 1 cannot be read" in caplog.text
    assert taken(_sealed(bad, base=1), first=1)[1] == 3, "it is not fetched for ever"


def test_batch_whose_lengths_are_wrong_is_left_out() -> None:
    bad = bytearray(batch((b"a", []), (b"b", [])))
    bad[61] = 0x7E  # the first record's length
    records, end = taken(_sealed(bad) + batch((b"c", []), base=2))
    assert ([r.value for r in records], end) == ([b"c"], 3)


def test_codec_that_is_not_installed_is_said_and_nothing_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = batch((b"x" * 500, []), codec=4)
    monkeypatch.setattr("kafka.codec.zstd", None)
    with pytest.raises(UnsupportedCodecError):
        taken(raw)


def _sealed(raw: bytearray, base: int = 0) -> bytes:
    """With the offset and the checksum that belong to it."""
    from kafka.record.util import calc_crc32c

    raw[:8] = base.to_bytes(8, "big")
    raw[17:21] = calc_crc32c(bytes(raw[21:])).to_bytes(4, "big")
    return bytes(raw)


def test_private_parts_of_kafka_python_are_there() -> None:
    assert list(inspect.signature(Fetcher.PartitionRecords.__init__).parameters)[:4] == [
        "self", "fetch_offset", "tp", "records",
    ]  # fmt: skip
    unpack = inspect.getsource(Fetcher.PartitionRecords._unpack_records)
    assert "records.next_batch()" in unpack
    assert "for record in batch" in unpack
    assert "self.PartitionRecords(fetch_offset, tp, records," in inspect.getsource(Fetcher)
    assert {"_buffer", "_pos"} <= set(DefaultRecordBatch.__slots__)


def test_consumer_of_another_make_is_left_as_it_is() -> None:
    made = SimpleNamespace()
    assert read_leniently(made) is made
    assert vars(made) == {}
    inner = SimpleNamespace(PartitionRecords=Fetcher.PartitionRecords)
    assert read_leniently(SimpleNamespace(_fetcher=inner))._fetcher is inner
    assert inner.PartitionRecords is _PartitionRecords
