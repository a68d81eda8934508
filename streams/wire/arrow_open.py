"""Arrow reader: open an IPC stream from anywhere. What comes out is checked, or it is a
``WireError``.

Arrow's readers trust offsets and lengths inside a stream; one wrong number would end the process.
And they let a stream say much in few bytes: lists of two million nulls a row, columns that all lie
in the same bytes. So columns that nobody reads are left where they are, and what the others refer
to is known before anything looks at a row.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from redistill.streams.errors import WireError
from redistill.streams.wire.envelope import MAX_EVENT_BYTES, MAX_ROWS
from redistill.streams.wire.foreign import no_arrow

__all__ = ["open_batch"]

MAX_REFERRED = 4 * MAX_EVENT_BYTES
"""Bytes to which the columns of one batch may refer, together: they may share some, as columns
with one dictionary do."""
_COLUMNS = frozenset(
    (
        *("id", "served_at", "prediction", "features", "scores", "latency_ms", "sample_rate"),
        *("failed", "prediction_interval"),
    )
)
_NEEDED = frozenset(("id", "served_at", "prediction", "features"))
_PREFIXES = ("feature.", "segment.")
_REMEMBERED_BYTES = 16_384
"""Headers up to this size are remembered."""
_DICTIONARY_BATCH = 2  # MessageHeader in Arrow's format/Message.fbs


def open_batch(data: bytes) -> Any:
    """The one record batch of a stream: the columns of the layout, completely checked; offsets in
    it may be anything.

    Of a feature or segment of a nested type, which no reader wants, is left where it is null.

    Raises
    ------
    WireError
        It is none, is compressed, or holds too much.
    """
    try:
        buffer = pa.py_buffer(data)
        _refuse_bombs(buffer)
        with pa.ipc.open_stream(buffer) as reader:
            batch = reader.read_next_batch()
            while not batch.num_rows and (following := next(reader, None)) is not None:
                batch = following
            return _checked(batch, len(data))
    except StopIteration:
        raise WireError("malformed", "an Arrow stream without a record batch") from None
    except (
        pa.ArrowException,
        OSError,
        ValueError,
        TypeError,
        LookupError,
        OverflowError,
        struct.error,
        RecursionError,
    ) as exc:
        raise no_arrow(data, exc) from None


def _checked(batch: Any, size: int) -> Any:
    """The columns of the layout, each checked as far as it is read."""
    names = batch.schema.names
    if len(set(names)) != len(names):
        raise WireError("invalid_field", "a column occurs twice")
    if not all(name in _COLUMNS or name.startswith(_PREFIXES) for name in names):
        names = [name for name in names if name in _COLUMNS or name.startswith(_PREFIXES)]
        batch = batch.select(names)
    if not all(map(_is_flat, batch.schema.types)):
        batch = _without_views(batch)
        batch.validate()
        batch = _flattened(batch)
    if len(names) * size > MAX_REFERRED:  # else they could not, whatever they share
        batch.validate()
        if (referred := sum(column.nbytes for column in batch.columns)) > MAX_REFERRED:
            raise WireError(
                "oversized",
                f"columns that refer to {referred} bytes, many of them more than once; at most"
                f" {MAX_REFERRED} are read",
            )
    batch.validate(full=True)
    return batch


def _flattened(batch: Any) -> Any:
    """The batch with empty lists in place of what is in its nested columns."""
    rows = batch.num_rows
    alike = {0: pa.array([[]] * rows, _NESTED), rows: pa.nulls(rows, _NESTED)}
    columns = []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if not _is_flat(field.type):
            if field.name in _NEEDED:
                kind = str(field.type)[:80]
                raise WireError("invalid_field", f"column {field.name} is of type {kind}")
            given = alike.get(column.null_count)
            if given is None:
                there = column.is_valid().to_pylist()
                given = pa.array([[] if valid else None for valid in there], _NESTED)
            column = given
        columns.append(column)
    made = pa.record_batch(columns, names=batch.schema.names)
    return made.replace_schema_metadata(batch.schema.metadata)


def _is_view(kind: Any) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string_view(kind) or pa.types.is_binary_view(kind))


def _without_views(batch: Any) -> Any:
    """The batch with texts in place of views of them, as polars and DuckDB write. Many views may
    show the same bytes, so it is added up what they would be before one is followed."""
    columns, shown = batch.columns, 0
    for i, column in enumerate(columns):
        if not _is_view(column.type):
            continue
        words = column.dictionary if pa.types.is_dictionary(column.type) else column
        words.validate()
        if (views := words.buffers()[1]) is not None:
            end = words.offset + len(words)
            lengths = np.frombuffer(views, np.int32, 4 * end).reshape(-1, 4)[words.offset :, 0]
            shown += int(np.where(words.is_valid(), lengths, 0).sum(dtype=np.int64))
        if shown > MAX_REFERRED:
            raise WireError(
                "oversized", f"views of {shown} bytes of text; at most {MAX_REFERRED} are read"
            )
        words.validate(full=True)
        is_text = pa.types.is_string_view(words.type)
        words = words.cast(pa.large_string() if is_text else pa.large_binary())
        if pa.types.is_dictionary(column.type):
            words = pa.DictionaryArray.from_arrays(column.indices, words)
        columns[i] = words
    made = pa.record_batch(columns, names=batch.schema.names)
    return made.replace_schema_metadata(batch.schema.metadata)


def _is_flat(kind: Any) -> bool:
    """Whether the cost of a column is that of its buffers: a list of nulls may have any width, and
    a view's bytes may be those of any other row."""
    if kind.id in _FLAT:
        return True
    if isinstance(kind, pa.BaseExtensionType):
        return _is_flat(kind.storage_type)
    if kind.id in _LISTS:
        return bool(pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))
    return kind == pa.null() or (kind.id in _OF_VALUES and kind.value_type.id in _FLAT)


_LISTS = frozenset((pa.list_(pa.null()).id, pa.large_list(pa.null()).id))
_OF_VALUES = frozenset((pa.list_(pa.null(), 1).id, pa.dictionary(pa.int8(), pa.null()).id))
_FLAT = frozenset(
    kind.id
    for kind in (
        *(pa.bool_(), pa.utf8(), pa.large_utf8(), pa.binary(), pa.large_binary(), pa.binary(1)),
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32()),
        *(pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.decimal128(1)),
        *(pa.decimal256(1), pa.date32(), pa.date64(), pa.time32("s"), pa.time64("us")),
        *(pa.timestamp("us"), pa.duration("us"), pa.month_day_nano_interval()),
    )
)
_NESTED = pa.list_(pa.null())


def _refuse_bombs(buffer: Any) -> None:
    """Look at the messages' headers before anything is unpacked."""
    batches, begun = 0, False
    stream = pa.BufferReader(buffer)
    reader = pa.ipc.MessageReader.open_stream(stream)
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            break
        begun = True
        if message.type == "schema":
            continue
        raw = message.metadata.to_pybytes()
        known = len(raw) <= _REMEMBERED_BYTES
        rows, compressed = (_batch_header if known else _batch_header.__wrapped__)(raw)
        is_batch = message.type == "record batch"
        batches += is_batch and rows > 0
        if compressed:
            raise WireError("invalid_field", "compressed Arrow buffers; let Kafka compress")
        if rows > MAX_ROWS:
            held = f"a batch of {rows} rows" if is_batch else f"a dictionary of {rows} values"
            raise WireError(
                "oversized", f"{held}; at most {MAX_ROWS} are read: write fewer at once"
            )
        if batches > 1:
            raise WireError(
                "oversized", "more than one batch; one is read: write each as a record of its own"
            )
    if begun and any(
        stream.read()
    ):  # zeros may pad; anything else are rows that would be lost in silence
        raise WireError(
            "malformed",
            "bytes after the end of the Arrow stream: write each stream as a record of its own",
        )


@lru_cache(maxsize=256)
def _batch_header(raw: bytes) -> tuple[int, bool]:
    """Rows and compression of a (dictionary) batch, from its flatbuffer (format/Message.fbs).

    Remembered: one producer's batches differ in their bodies, and seldom in this.
    """

    def field(table: int, slot: int) -> int:
        vtable = table - struct.unpack_from("<i", raw, table)[0]
        if 4 + 2 * slot >= struct.unpack_from("<H", raw, vtable)[0]:
            return 0
        offset: int = struct.unpack_from("<H", raw, vtable + 4 + 2 * slot)[0]
        return table + offset if offset else 0

    def follow(at: int) -> int:
        if not at:
            raise ValueError("a message without a header")
        return at + int(struct.unpack_from("<I", raw, at)[0])

    message = int(struct.unpack_from("<I", raw, 0)[0])
    kind_at = field(message, 1)
    kind = raw[kind_at] if kind_at else 0
    header = follow(field(message, 2))
    if kind == _DICTIONARY_BATCH:  # DictionaryBatch: its data are a RecordBatch
        header = follow(field(header, 1))
    length_at = field(header, 0)
    rows = struct.unpack_from("<q", raw, length_at)[0] if length_at else 0
    return rows, bool(field(header, 3))
