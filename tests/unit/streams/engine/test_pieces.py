"""Pieces of a chunk: none of its records is lost or doubled, and what was opened stays open."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from stream_rows import chunk, prediction, record

from redistill.streams.engine.fetched import Chunk, chunks
from redistill.streams.engine.pieces import cut, unopened
from redistill.streams.wire.recordset import RecordSet


def batch(first: int, n: int, codec: int = 0) -> bytes:
    made = DefaultRecordBatchBuilder(
        magic=2, compression_type=codec, is_transactional=0, producer_id=-1, producer_epoch=-1,
        base_sequence=-1, batch_size=1 << 20,
    )  # fmt: skip
    for i in range(n):
        assert made.append(i, 0, b"k", b"value %d" % (first + i), []) is not None
    data = bytearray(made.build())
    data[:8] = first.to_bytes(8, "big")
    return bytes(data)


def offsets(made: Chunk) -> list[int]:
    return [r.offset for records, *_ in made.read() for r in records]


@pytest.mark.parametrize("codec", [0, 1, 4], ids=["plain", "gzip", "zstd"])
def test_records_of_compressed_batches_are_taken_one_by_one(codec: int) -> None:
    (left,) = chunks(batch(0, 3, codec) + batch(3, 2, codec), 0, "p/0")
    seen: list[Any] = []
    rest = [left]
    while rest:
        piece, *behind = cut(rest[0], 1)
        seen.append((piece.first, piece.end, offsets(piece)))
        rest = behind + rest[1:]
    assert seen == [(i, i + 1, [i]) for i in range(5)]


def test_a_piece_holds_so_many_records_at_most_and_the_rest_is_opened_once() -> None:
    (left,) = chunks(batch(0, 10, 4), 0, "p/0")
    piece, rest = cut(left, 4)
    assert (offsets(piece), offsets(rest)) == ([0, 1, 2, 3], [4, 5, 6, 7, 8, 9])
    assert (piece.records, rest.records) == (4, 6)
    assert isinstance(rest.batches, RecordSet)
    assert cut(rest, 6) == [rest]


def test_batches_behind_what_is_read_at_once_stay_as_they_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("redistill.streams.engine.fetched.READ_BYTES", 1)
    (left,) = chunks(batch(0, 2) + batch(2, 2), 0, "p/0")
    piece, tail, rest = cut(left, 1)
    assert [(c.first, c.end) for c in (piece, tail, rest)] == [(0, 1), (1, 2), (2, 4)]
    assert rest.batches is left.batches


def test_offsets_without_a_record_go_with_what_stands_before_them() -> None:
    left = chunk([record(prediction(i), i) for i in (3, 7, 8)])
    piece, rest = cut(left, 1)
    assert [(c.first, c.end, offsets(c)) for c in (piece, rest)] == [(3, 7, [3]), (7, 9, [7, 8])]


def test_what_was_taken_before_is_no_part_of_it() -> None:
    left = chunk([record(prediction(i), i) for i in range(5)])
    piece, rest = cut(left._replace(first=2), 2)
    assert (offsets(piece), offsets(rest)) == ([2, 3], [4])


def test_batch_that_is_not_opened_gives_a_record_without_bytes() -> None:
    (left,) = chunks(batch(0, 3), 0, "p/0")
    piece, rest = unopened(left._replace(first=1))
    assert [(r.offset, r.value) for r in next(piece.read()).records] == [(1, None)]
    assert (piece.first, piece.end, rest.first, rest.end) == (1, 2, 2, 3)
    assert rest.batches is left.batches
    assert len(unopened(left._replace(first=2))) == 1
