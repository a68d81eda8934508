"""Records as positions in a buffer: the same as one by one, and nothing in them ends the process."""

from __future__ import annotations

import numpy as np
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from redistill.streams.errors import WireError
from redistill.streams.wire.envelope import Record
from redistill.streams.wire.recordset import Body, RecordSet

HEADER = 61

texts = st.none() | st.binary(max_size=300)
headers = st.lists(st.tuples(st.text(max_size=9), st.binary(max_size=140)), max_size=4)
rows = st.lists(st.tuples(texts, texts, headers, st.integers(0, 2**40)), max_size=20)


def batch(
    made: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]], int]], base: int = 0
) -> Body:
    """As aiokafka writes it."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 24)
    for i, (key, value, heads, at) in enumerate(made):
        builder.append(i, timestamp=at, key=key, value=value, headers=heads)
    raw = bytes(builder.build())
    first = int.from_bytes(raw[27:35], "big", signed=True)
    return Body(raw[HEADER:], len(made), base, first)


def plain(records: RecordSet) -> list[tuple[object, ...]]:
    return [(r.offset, r.timestamp_ms, r.key, r.value, list(r.headers)) for r in records]


@given(rows, rows)
def test_records_are_those_that_were_written(
    a: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]], int]],
    b: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]], int]],
) -> None:
    bodies = [batch(part, base) for part, base in ((a, 7), (b, 1_000)) if part]
    records = RecordSet.read(bodies)
    want = [
        (
            base + i,
            at,
            key,
            value,
            [(name.encode("utf-8", "replace").decode(), h) for name, h in heads],
        )
        for part, base in ((a, 7), (b, 1_000))
        for i, (key, value, heads, at) in enumerate(part)
    ]
    assert plain(records) == want
    values = [w[3] for w in want]
    assert records.values(0, len(records)) == (None if None in values else values)
    assert plain(RecordSet.of(records)) == want
    cut = len(want) // 2
    assert plain(records[:cut]) + plain(records[cut:]) == want
    assert records.offset.tolist() == [w[0] for w in want]


def test_the_brokers_time_counts_where_the_topic_says_so() -> None:
    made = batch([(None, b"x", [], 5), (None, b"y", [], 9)])
    stamped = Body(made.data, 2, 0, made.first_timestamp, append_time=77)
    records = RecordSet.read([made, stamped])
    assert [r.timestamp_ms for r in records] == [5, 9, 77, 77]


def _record(key: bytes | None, heads: list[tuple[str, bytes]], value: bytes = b"v") -> Record:
    return Record("t", 0, 0, 0, key, value, heads)


def test_a_form_is_the_key_and_all_headers_but_the_id() -> None:
    source = ("ce_source", b"/a")
    records = RecordSet.of(
        [
            _record(b"m", [source, ("ce_id", b"1")]),
            _record(b"m", [source, ("ce_id", b"a longer id" * 20)], b"another value"),
            _record(b"m", [source, ("ce_id", b"")]),  # no id
            _record(b"n", [source, ("ce_id", b"1")]),
            _record(None, [source, ("ce_id", b"1")]),
            _record(b"m", [("ce_source", b"/b"), ("ce_id", b"1")]),
            _record(b"m", [source, ("ce_id", b"1"), ("more", b"1")]),
            _record(b"m", [("ce_id", b"1"), source]),
            _record(b"m", []),
        ]
    )
    form = records.form(0)
    assert form is not None
    assert records.alike(form).tolist() == [True, True, *[False] * 7]
    assert records.form(6) is None
    assert records.form(7) is None
    assert records.form(8) is None
    assert records[1:].alike(form).tolist() == [True, *[False] * 7]


def test_a_form_is_not_read_out_of_the_next_record() -> None:
    first = RecordSet.of([_record(b"m", [("ce_source", b"/a"), ("ce_id", b"1")])])
    form = first.form(0)
    assert form is not None
    short = _record(b"m", [("ce_source", b"/a")])
    records = RecordSet.of([short, short])
    assert records.alike(form).tolist() == [False, False]


@given(st.binary(max_size=200), st.integers(0, 2**31 - 1))
def test_no_bytes_raise_anything_but_a_wire_error(data: bytes, count: int) -> None:
    try:
        records = RecordSet.read([Body(data, count, 0, 0)])
    except WireError:
        return
    assert len(plain(records)) == count
    records.values(0, len(records))


@given(st.data())
def test_damaged_batches_neither_hang_nor_end_the_process(data: st.DataObject) -> None:
    whole = batch([(b"key", b"value" * i, [("ce_id", b"1")], i) for i in range(1, 6)])
    raw = bytearray(whole.data)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        records = RecordSet.read([Body(bytes(raw), 5, 0, 0)])
    except WireError:
        return
    for i, r in enumerate(records):
        records.form(i)
        assert len(r.value or b"") <= len(raw)


def test_an_index_beyond_the_end_is_told() -> None:
    records = RecordSet.of([_record(b"m", [])])
    assert records[-1].key == b"m"
    with pytest.raises(IndexError):
        records[1]
    with pytest.raises(ValueError, match="step"):
        records[::2]
    assert RecordSet.read([]).offset.tolist() == []
    assert np.array_equal(RecordSet.of([]).offset, [])


@pytest.mark.parametrize("at", [4, 6])
def test_a_size_that_overflows_is_malformed(at: int) -> None:
    # attributes, time, offset, key, value, headers: the key's size or the value's is 2^63 - 1
    fields = [b"\0", b"\0", b"\0", b"\2", b"k", b"\2", b"v", b"\0"]
    huge = b"\xfe" + b"\xff" * 8 + b"\x01"
    fields[at - 1] = huge
    inside = b"".join(fields)
    data = bytes([2 * len(inside)]) + inside
    with pytest.raises(WireError):
        RecordSet.read([Body(data, 1, 0, 0)])


def test_a_negative_number_of_records_is_malformed() -> None:
    with pytest.raises(WireError):
        RecordSet.read([Body(b"", -1, 0, 0)])
