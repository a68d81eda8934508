"""Arrow reader: open an IPC stream from anywhere. What comes out is checked, or it is a
``WireError``.

Arrow's readers trust offsets and lengths inside a stream; one wrong number would end the process.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

import pyarrow as pa

from redistill.streams.errors import WireError
from redistill.streams.wire.envelope import MAX_ROWS

__all__ = ["open_batch"]

_DICTIONARY_BATCH = 2  # MessageHeader in Arrow's format/Message.fbs


def open_batch(data: bytes) -> Any:
    """The one record batch of a stream, completely checked: offsets in it may be anything.

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
            batch.validate(full=True)
            if len(set(batch.schema.names)) != batch.num_columns:
                raise WireError("invalid_field", "a column occurs twice")
            return batch
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
        raise WireError("malformed", f"no Arrow IPC stream: {str(exc)[:200]}") from None


def _refuse_bombs(buffer: Any) -> None:
    """Look at the messages' headers before anything is unpacked."""
    batches = 0
    reader = pa.ipc.MessageReader.open_stream(buffer)
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            break
        if message.type == "schema":
            continue
        rows, compressed = _batch_header(message.metadata.to_pybytes())
        batches += message.type == "record batch"
        if compressed:
            raise WireError("invalid_field", "compressed Arrow buffers; let Kafka compress")
        if rows > MAX_ROWS or batches > 1:
            raise WireError(
                "oversized", f"{rows} rows in batch {batches}; one of {MAX_ROWS} rows is read"
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
