"""Arrow streams from anywhere are opened whole and checked, or refused before they are unpacked."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redistill.streams.errors import WireError
from redistill.streams.wire.arrow_open import open_batch
from redistill.streams.wire.envelope import MAX_ROWS


def write(batch: Any, *, batches: int = 1, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for _ in range(batches):
            writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def table(rows: int = 3, *, words: int | None = None) -> Any:
    columns = {"id": pa.array([str(i) for i in range(rows)]), "x": pa.array([1.5] * rows)}
    if words is not None:
        dictionary = pa.array([str(i) for i in range(words)])
        columns["feature.c"] = pa.DictionaryArray.from_arrays(
            pa.array([0] * rows, pa.int32()), dictionary
        )
    return pa.record_batch(columns).replace_schema_metadata({"k": "v"})


def code(data: bytes) -> str:
    with pytest.raises(WireError) as caught:
        open_batch(data)
    return caught.value.code


def test_one_batch_is_opened_with_its_metadata() -> None:
    batch = open_batch(write(table(words=2)))
    assert batch.to_pydict() == {"id": ["0", "1", "2"], "feature.c": ["0"] * 3}
    assert batch.schema.metadata == {b"k": b"v"}


@pytest.mark.parametrize("data", [b"", b"garbage" * 20, b"\xff\xff\xff\xff\0\0\0\0"])
def test_what_is_no_stream_is_malformed(data: bytes) -> None:
    assert code(data) == "malformed"


def test_stream_that_is_cut_or_empty_is_malformed() -> None:
    whole = write(table())
    for size in range(0, len(whole) - 8, 16):  # the end of the stream need not be there
        with pytest.raises(WireError):
            open_batch(whole[:size])
    assert code(write(table(), batches=0)) == "malformed"


def test_rows_batches_and_words_are_bounded_by_their_headers_alone() -> None:
    assert open_batch(write(table(MAX_ROWS))).num_rows == MAX_ROWS
    assert code(write(table(MAX_ROWS + 1))) == "oversized"
    assert code(write(table(), batches=2)) == "oversized"
    assert code(write(table(words=MAX_ROWS + 1))) == "oversized"


def test_batches_without_rows_are_passed_over() -> None:
    batch = table(words=2)
    for order in ([batch.slice(0, 0), batch], [batch, batch.slice(0, 0)], [batch.slice(0, 0)] * 3):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            for each in order:
                writer.write_batch(each)
        rows = sum(each.num_rows for each in order)
        assert open_batch(sink.getvalue().to_pybytes()).num_rows == rows


def test_bytes_behind_the_end_are_no_rows_lost_in_silence() -> None:
    raw = write(table())
    assert open_batch(raw + bytes(8)).num_rows == 3
    for more in (raw, b"x"):
        with pytest.raises(WireError, match="a record of its own"):
            open_batch(raw + more)


def views(texts: list[str | None]) -> Any:
    return pa.array(texts, pa.string_view())


@pytest.mark.parametrize(
    "column",
    [
        views(["a", None, "b" * 20]),
        views(["left out", "a", None, "b" * 20]).slice(1),
        pa.array([b"a", None, b"b" * 20], pa.binary_view()),
        pa.DictionaryArray.from_arrays(pa.array([0, None, 1]), views(["a", "b" * 20])),
    ],
    ids=["text", "slice", "bytes", "dictionary"],
)
def test_views_are_read_as_texts(column: Any) -> None:
    batch = open_batch(write(pa.record_batch({"id": column})))
    assert [x and str(x) for x in batch.column("id").cast(pa.string()).to_pylist()] == [
        "a", None, "b" * 20,
    ]  # fmt: skip


def test_views_that_show_the_same_bytes_many_times_are_refused() -> None:
    text = views(["x" * 100_000])
    shared = pa.Array.from_buffers(
        pa.string_view(), 100, [None, pa.py_buffer(text.buffers()[1].to_pybytes() * 100),
        *text.buffers()[2:]],
    )  # fmt: skip
    raw = write(pa.record_batch({"id": shared}))
    assert (len(raw) < 200_000, code(raw)) == (True, "oversized")


def test_views_that_lie_are_found() -> None:
    raw = bytearray(write(pa.record_batch({"id": views(["a" * 20, "b" * 20])})))
    at = bytes(raw).index((20).to_bytes(4, "little") + b"aaaa")
    raw[at + 12 : at + 16] = (2**30).to_bytes(4, "little")  # its place in the bytes
    assert code(bytes(raw)) == "malformed"


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
@pytest.mark.parametrize("words", [None, 400])
def test_compressed_buffers_are_refused_unread(compression: str, words: int | None) -> None:
    assert code(write(table(400, words=words), compression=compression)) == "invalid_field"


def test_column_that_occurs_twice_is_refused() -> None:
    batch = pa.record_batch([pa.array([1]), pa.array([2])], names=["id", "id"])
    assert code(write(batch)) == "invalid_field"


def test_offsets_that_lie_are_found() -> None:
    raw = bytearray(write(pa.record_batch({"id": pa.array(["aa", "bb", "cc"])})))
    at = bytes(raw).index((2).to_bytes(4, "little") + (4).to_bytes(4, "little"))
    raw[at : at + 4] = (2**30).to_bytes(4, "little")
    assert code(bytes(raw)) == "malformed"


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_a_wire_error(data: bytes) -> None:
    with pytest.raises(WireError):
        open_batch(data)
