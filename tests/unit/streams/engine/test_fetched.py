"""What a fetch brought, in chunks: every record once, whatever the compression and the cut."""

from __future__ import annotations

import re
from typing import Any

import pytest
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from crc32c import crc32c

from redistill.streams.engine import fetched
from redistill.streams.engine.fetched import CHUNK_RECORDS, Chunk, RawRecords, RawSet, chunks
from redistill.streams.wire.envelope import Record

TP = TopicPartition("predictions", 0)
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


def batch(first: int, n: int, *, codec: int = 0, size: int = 20) -> bytes:
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 24)
    for i in range(n):
        value = f"{first + i:06d}".encode().ljust(size, b".")
        builder.append(i, timestamp=7 + i, key=b"k", value=value, headers=[("ce_id", b"1")])
    raw = bytearray(builder.build())
    raw[0:8] = first.to_bytes(8, "big")
    return bytes(raw)


def transactional(first: int, n: int, producer: int, *, codec: int = 0) -> bytes:
    """A batch of a transaction."""
    return of_producer(batch(first, n, codec=codec), producer, 0x10)


def marker(offset: int, producer: int, *, commit: bool) -> bytes:
    """The control batch that ends a transaction."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 24)
    key = (0).to_bytes(2, "big") + int(commit).to_bytes(2, "big")
    builder.append(0, timestamp=7, key=key, value=b"\x00" * 6, headers=[])
    raw = bytearray(builder.build())
    raw[0:8] = offset.to_bytes(8, "big")
    return of_producer(bytes(raw), producer, 0x30)


def of_producer(data: bytes, producer: int, attributes: int) -> bytes:
    raw = bytearray(data)
    raw[22] |= attributes
    raw[43:51] = producer.to_bytes(8, "big")
    return sealed(raw)


def sealed(raw: bytearray) -> bytes:
    """With its checksum mended."""
    raw[17:21] = crc32c(bytes(raw[21:])).to_bytes(4, "big")
    return bytes(raw)


def read(chunk: Chunk) -> list[Record]:
    return [r for part in chunk.read() for r in part.records]


Listed = list[tuple[int, int]]


def by_aiokafka(data: bytes, first: int, aborted: Listed | None = None) -> list[tuple[Any, ...]]:
    records = fetcher.PartitionRecords(
        TP, MemoryRecords(data), aborted, first, None, None, True, int(aborted is not None)
    )
    return [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in records]


def by_us(data: bytes, first: int, aborted: Listed | None = None) -> list[tuple[Any, ...]]:
    out: list[tuple[Any, ...]] = []
    expected = first
    for chunk in chunks(data, first, TP, aborted or ()):
        assert chunk.first == expected
        expected = chunk.end
        records = read(chunk)
        assert len(records) <= chunk.records
        out += [(r.offset, r.timestamp_ms, r.key, r.value, list(r.headers)) for r in records]
    return out


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_records_are_those_that_aiokafka_unpacks(codec: int) -> None:
    data = batch(5, 3, codec=codec) + batch(8, 1, codec=codec) + batch(20, 4, codec=codec)
    for first in (0, 5, 7):
        assert by_us(data, first) == by_aiokafka(data, first)
    # batches before the first offset: a broker sends none, aiokafka would read them again
    assert [r[0] for r in by_us(data, 8)] == [8, 20, 21, 22, 23]
    assert [r[0] for r in by_us(data, 22)] == [22, 23]
    assert by_us(data, 24) == []


def test_a_batch_that_is_cut_off_waits_for_the_next_fetch() -> None:
    whole = batch(0, 3) + batch(3, 3)
    for cut in range(1, len(whole), 7):
        data = whole[:cut]
        assert RawSet(data).has_next() == MemoryRecords(data).has_next()
        assert by_us(data, 0) == by_aiokafka(data, 0)


def test_pieces_end_at_a_number_of_records_and_of_bytes() -> None:
    many = b"".join(batch(i * 500, 500) for i in range(9))
    assert [p.records for p in chunks(many, 0, TP)] == [CHUNK_RECORDS, CHUNK_RECORDS, 500]
    large = b"".join(batch(i, 1, size=400_000) for i in range(7))
    assert [p.records for p in chunks(large, 0, TP)] == [3, 3, 1]


def test_iterator_says_how_far_it_was_read() -> None:
    data = b"".join(batch(i * 1_500, 1_500) for i in range(3))
    records = RawRecords(TP, RawSet(data), None, 10, None, None, True, 0)
    ends = []
    for chunk in records:
        assert records.next_fetch_offset == chunk.end
        ends.append(chunk.end)
    assert ends == [3_000, 4_500]


def test_control_batches_hold_no_records_and_leave_no_hole() -> None:
    control = bytearray(batch(3, 1))
    control[22] |= 0x20
    data = batch(0, 3) + sealed(control) + batch(4, 2)
    (chunk,) = chunks(data, 0, TP)
    assert (chunk.first, chunk.end, chunk.records) == (0, 6, 5)
    assert [r.offset for r in read(chunk)] == [0, 1, 2, 4, 5]
    (only,) = chunks(sealed(control), 3, TP)
    assert (only.first, only.end, len(read(only))) == (3, 4, 0)


X, Y = 4_000, 4_001
INTERLEAVED: tuple[list[bytes], Listed] = (
    [
        transactional(0, 3, X),
        batch(3, 2),
        transactional(5, 3, Y),
        transactional(8, 2, X),
        of_producer(batch(10, 2), X, 0),  # idempotent, of no transaction
        marker(12, X, commit=False),
        transactional(13, 1, Y),
        marker(14, Y, commit=True),
        transactional(15, 2, X),
        marker(17, X, commit=True),
        transactional(18, 2, Y),
        batch(20, 1),
        marker(21, Y, commit=False),
    ],
    [(Y, 18), (X, 0)],
)
COMMITTED = [3, 4, 5, 6, 7, 10, 11, 13, 15, 16, 20]


@pytest.mark.parametrize("most", [1, 2, 3, 1_000])
def test_records_of_aborted_transactions_are_passed_over(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetched, "CHUNK_RECORDS", most)  # chunks end within transactions
    batches, aborted = INTERLEAVED
    data = b"".join(batches)
    assert [r[0] for r in by_us(data, 0, aborted)] == COMMITTED
    assert by_us(data, 0, aborted) == by_aiokafka(data, 0, aborted)
    ends = [chunk.end for chunk in chunks(data, 0, TP, aborted)]
    assert ends[-1] == 22
    skipped = sum(p.aborted for c in chunks(data, 0, TP, aborted) for p in c.read())
    assert skipped == 7


def test_a_fetch_may_begin_anywhere_in_a_transaction() -> None:
    batches, aborted = INTERLEAVED
    begins = [0, 3, 5, 8, 10, 12, 13, 14, 15, 17, 18, 20, 21]
    for i, first in enumerate(begins):
        data = b"".join(batches[i:])
        # the broker lists what reaches into the fetch
        listed = [(p, o) for p, o in aborted if first <= {X: 12, Y: 21}[p]]
        assert [r[0] for r in by_us(data, first, listed)] == [o for o in COMMITTED if o >= first]


def test_a_chunk_that_is_begun_in_its_middle_counts_the_rest_only() -> None:
    data = (
        transactional(0, 4, X) + batch(4, 1) + transactional(5, 3, X) + marker(8, X, commit=False)
    )
    (chunk,) = chunks(data, 0, TP, [(X, 0)])
    assert [(len(p.records), p.end, p.aborted) for p in chunk.read()] == [(1, 9, 7)]
    for first, aborted in ((1, 6), (4, 3), (7, 1), (8, 0)):
        assert [p.aborted for p in chunk._replace(first=first).read()] == [aborted]


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_aborted_batches_are_never_unpacked(codec: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = transactional(0, 3, X, codec=codec) + transactional(3, 2, Y, codec=codec)
    assert [r[0] for r in by_us(data, 0, [])] == [0, 1, 2, 3, 4]
    assert by_us(data, 0, [(X, 0)]) == by_aiokafka(data, 0, [(X, 0)])
    monkeypatch.setattr(fetched, "_unpacked", lambda *_: pytest.fail("it was unpacked"))
    assert by_us(data, 0, [(X, 0), (Y, 3)]) == []


def test_the_iterator_takes_the_transactions_of_its_fetch() -> None:
    batches, aborted = INTERLEAVED
    records = RawRecords(TP, RawSet(b"".join(batches)), aborted, 0, None, None, True, 1)
    (chunk,) = records
    assert [r.offset for r in read(chunk)] == COMMITTED
    assert records.next_fetch_offset == chunk.end == 22


def test_records_that_compaction_took_leave_no_hole() -> None:
    kept = bytearray(batch(0, 3))
    kept[23:27] = (9).to_bytes(4, "big")  # the last offset of the batch stays 9
    (chunk,) = chunks(sealed(kept), 0, TP)
    assert (chunk.first, chunk.end) == (0, 10)
    assert [r.offset for r in read(chunk)] == [0, 1, 2]


def test_a_wrong_checksum_is_fetched_again() -> None:
    data = bytearray(batch(0, 3))
    data[-1] ^= 1
    with pytest.raises(CorruptRecordException):
        list(chunks(bytes(data), 0, TP))
    good = batch(0, 3)
    fetched = chunks(good * 1 + bytes(data), 0, TP)
    with pytest.raises(CorruptRecordException):
        list(fetched)


def test_markers_of_the_dev_broker_have_no_checksum() -> None:
    unsealed = bytearray(marker(3, X, commit=True))
    unsealed[17:21] = bytes(4)
    data = batch(0, 3) + bytes(unsealed) + batch(4, 2)
    assert [r[0] for r in by_us(data, 0)] == [0, 1, 2, 4, 5]
    for wrong in (bytearray(marker(3, X, commit=True)), bytearray(transactional(3, 1, X))):
        wrong[17:21] = bytes(4) if wrong[22] == 0x10 else b"\0\0\0\1"
        with pytest.raises(CorruptRecordException):
            by_us(batch(0, 3) + bytes(wrong), 0)


def test_a_batch_shorter_than_its_header_is_told() -> None:
    data = bytearray(batch(0, 3))
    data[8:12] = (20).to_bytes(4, "big")
    with pytest.raises(CorruptRecordException):
        list(chunks(bytes(data), 0, TP))


def test_a_length_that_leads_nowhere_is_told() -> None:
    data = bytearray(batch(0, 3))
    data[8:12] = (-12).to_bytes(4, "big", signed=True)
    with pytest.raises(CorruptRecordException):
        list(chunks(bytes(data), 0, TP))


@pytest.mark.parametrize("codec", [0, 4])
def test_a_batch_whose_inside_is_broken_costs_its_own_records_only(codec: int) -> None:
    broken = bytearray(batch(3, 4))
    broken[22] |= codec  # says zstd, and is not; or its lengths lie
    broken[61] ^= 0x7E
    data = batch(0, 3) + sealed(broken) + batch(7, 2)
    got = by_us(data, 0)
    assert [r[0] for r in got] == list(range(9))
    assert [r[3] is None for r in got] == [False] * 3 + [True] * 4 + [False] * 2
    why = {r[4][0] for r in got[3:7]}
    assert len(why) == 1
    assert re.search(b"does not decompress" if codec else b"go beyond|do not fill", why.pop()[1])


def test_a_batch_that_lies_about_its_number_costs_its_own_offsets_only() -> None:
    many = bytearray(batch(3, 4))
    many[57:61] = (5_000).to_bytes(4, "big")
    got = by_us(batch(0, 3) + sealed(many) + batch(7, 2), 0)
    assert [r[0] for r in got] == list(range(9))


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [0, 1])
def test_formats_of_old_are_read(magic: int, codec: int) -> None:
    builder = LegacyRecordBatchBuilder(magic, codec, 10_000)
    for i in range(3):
        builder.append(i, timestamp=7, key=b"k", value=b"v%d" % i)
    data = bytes(builder.build()) + batch(3, 2)
    got = by_us(data, 1)
    assert [(r[0], r[2]) for r in got] == [(i, b"k") for i in range(1, 5)]
    assert [r[3] for r in got[:2]] == [b"v1", b"v2"]


@pytest.mark.parametrize("codec", [1, 3, 4])
def test_a_batch_that_unpacks_to_too_much_is_not_unpacked(
    codec: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetched, "_USUAL_UNPACKED", 10_000)
    monkeypatch.setattr(fetched, "MOST_UNPACKED", 100_000)
    data = batch(0, 2, codec=codec, size=40_000) + batch(2, 3, codec=codec, size=40_000)
    got = by_us(data, 0)
    assert [(r[0], r[3] is None) for r in got] == [
        (0, False), (1, False), (2, True), (3, True), (4, True)
    ]  # fmt: skip


def test_a_piece_that_unpacks_to_much_is_read_in_parts() -> None:
    mega = 1 << 20
    data = b"".join(batch(i, 1, codec=4, size=mega - 200) for i in range(40))
    (chunk,) = chunks(data, 0, TP)
    assert chunk.size < 40_000
    assert [(len(p.records), p.end) for p in chunk.read()] == [(17, 17), (17, 34), (6, 40)]
    later = chunk._replace(first=20)
    assert [r.offset for r in read(later)] == list(range(20, 40))
