"""Record set: records of a partition without an object for each, as positions in one buffer.

Kafka's batches (message format 2) are a chain: each record begins with its length. That chain is
walked in Python; everything else is found for all records at once. A record costs .6 us here, 3 us
and a dozen objects spread over the memory if it is unpacked as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from redistill.streams.errors import WireError
from redistill.streams.wire.envelope import Record, RecordLike

__all__ = ["Body", "RecordSet", "spans"]

_ID = "ce_id"
# where a record's key begins with its length, and without it (-1: null); the same of its value; its
# headers, which is the value's end; its own end
_KEY_AT, _KEY, _VALUE_AT, _VALUE, _HEAD, _END = range(6)


@dataclass(frozen=True, slots=True)
class Body:
    """The records of one batch as they stand behind its header, decompressed."""

    data: bytes | memoryview
    records: int
    base_offset: int
    first_timestamp: int
    """Milliseconds since 1970."""
    append_time: int | None = None
    """The broker's time, where the topic says that it counts; records have none of their own."""
    fault: str = ""
    """Why there are no data."""


class Form(NamedTuple):
    """What records of one producer and model have in common: all but the value and the id."""

    key: bytes
    """With its length before it."""
    head: bytes
    """All headers up to the value of the last one, ``ce_id``."""


class RecordSet(Sequence[Record]):
    """``n`` records in the order of the log.

    ``records[i]`` is one of them as an object, for those that need a closer look; ``alike`` and
    ``values`` are for the many.
    """

    __slots__ = ("_bounds", "_data", "_offset", "_timestamp")

    def __init__(
        self,
        data: bytes,
        offset: NDArray[np.int64],
        timestamp: NDArray[np.int64],
        bounds: NDArray[np.int64],
    ) -> None:
        self._data = data
        self._offset = offset
        self._timestamp = timestamp
        self._bounds = bounds  # (6, n), see _KEY_AT and the others

    @classmethod
    def read(cls, bodies: Sequence[Body]) -> RecordSet:
        """Find the records of some batches.

        Raises
        ------
        WireError
            ``malformed``: lengths that do not fit each other.
        """
        if faults := [b.fault for b in bodies if b.fault]:
            raise WireError("malformed", faults[0])
        data = bytes(bodies[0].data) if len(bodies) == 1 else b"".join(b.data for b in bodies)
        begins: list[int] = []
        ends: list[int] = []
        at = 0
        try:
            for body in bodies:
                stop = at + len(body.data)
                at = _walk(data, at, body.records, begins, ends)
                if at != stop:
                    raise WireError("malformed", "a batch whose records do not fill it")
            return cls._found(data, bodies, np.array(begins, np.int64), np.array(ends, np.int64))
        except (IndexError, OverflowError, ValueError):  # ValueError: a negative number of records
            raise WireError("malformed", "a batch whose records go beyond its end") from None

    @classmethod
    def _found(
        cls,
        data: bytes,
        bodies: Sequence[Body],
        begins: NDArray[np.int64],
        ends: NDArray[np.int64],
    ) -> RecordSet:
        raw = np.frombuffer(data, np.uint8)
        elapsed, at = _varints(raw, begins + 1)  # behind the attributes, which nobody uses
        delta, key_at = _varints(raw, at)
        key_size, key = _varints(raw, key_at)
        value_at = key + np.maximum(key_size, 0)
        value_size, value = _varints(raw, value_at)
        head = value + np.maximum(value_size, 0)
        broken = (key_size < -1) | (value_size < -1) | (value_at >= ends) | (head >= ends)
        if (broken | (value_at < key) | (head < value)).any():  # sizes that overflow, too
            raise WireError("malformed", "a record whose parts go beyond its end")
        counts = [b.records for b in bodies]
        offset = np.repeat(np.array([b.base_offset for b in bodies], np.int64), counts) + delta
        timestamp = np.repeat(np.array([b.first_timestamp for b in bodies], np.int64), counts)
        timestamp += elapsed
        if any(b.append_time is not None for b in bodies):
            stamp = [-1 if b.append_time is None else b.append_time for b in bodies]
            stamped = np.repeat(np.array(stamp, np.int64), counts)
            timestamp = np.where(stamped < 0, timestamp, stamped)
        bounds = np.stack(
            [
                key_at,
                np.where(key_size < 0, -1, key),
                value_at,
                np.where(value_size < 0, -1, value),
                head,
                ends,
            ]
        )
        return cls(data, offset, timestamp, bounds)

    @classmethod
    def of(cls, records: Iterable[RecordLike]) -> RecordSet:
        """The same from records that somebody else unpacked."""
        whole = bytearray()
        bounds: list[tuple[int, ...]] = []
        offset: list[int] = []
        timestamp: list[int] = []
        for i, record in enumerate(records):
            key_at = len(whole)
            key = _append(whole, record.key)
            value_at = len(whole)
            value = _append(whole, record.value)
            head = len(whole)
            headers = record.headers or ()
            whole += _varint(len(headers))
            for name, text in headers:
                _append(whole, name.encode())
                _append(whole, text)
            bounds.append((key_at, key, value_at, value, head, len(whole)))
            offset.append(int(getattr(record, "offset", i)))
            timestamp.append(_timestamp_of(record))
        table = np.array(bounds, np.int64).reshape(-1, 6).T
        return cls(bytes(whole), np.array(offset, np.int64), np.array(timestamp, np.int64), table)

    # --- all of them ---------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._offset)

    @property
    def offset(self) -> NDArray[np.int64]:
        """``(n,)`` offsets, growing."""
        return self._offset

    def part(self, start: int, stop: int) -> RecordSet:
        """Some of them; nothing is copied."""
        own = slice(start, stop)
        return RecordSet(self._data, self._offset[own], self._timestamp[own], self._bounds[:, own])

    def values(self, start: int, stop: int) -> list[bytes] | None:
        """The events' bytes; ``None``: one of them is a tombstone."""
        data = self._data
        begins = self._bounds[_VALUE, start:stop]
        if (begins < 0).any():
            return None
        both = zip(begins.tolist(), self._bounds[_HEAD, start:stop].tolist(), strict=True)
        return [data[a:b] for a, b in both]

    def alike(self, form: Form) -> NDArray[np.bool_]:
        """Which of them have this form, ``(n,)``."""
        key_at, head, end = self._bounds[[_KEY_AT, _HEAD, _END]]
        room = end - head >= len(form.head) + 2  # the id at the end has a length and a byte
        return np.asarray(self._begins(form.key, key_at) & self._begins(form.head, head) & room)

    def _begins(self, text: bytes, at: NDArray[np.int64]) -> NDArray[np.bool_]:
        """At which places the text stands, ``(n,)``."""
        inside = at <= len(self._data) - len(text)
        if inside.all():
            there = spans(self._data, len(text), at)
            if there.tobytes() == text * len(at):  # nearly always, and ten times faster
                return inside
            return np.asarray(there == np.void(text))
        equal = np.zeros(len(at), np.bool_)
        equal[inside] = spans(self._data, len(text), at[inside]) == np.void(text)
        return equal

    # --- one of them ---------------------------------------------------------------------------

    @overload
    def __getitem__(self, i: int) -> Record: ...
    @overload
    def __getitem__(self, i: slice) -> RecordSet: ...
    def __getitem__(self, i: int | slice) -> Record | RecordSet:
        if isinstance(i, slice):
            start, stop, step = i.indices(len(self))
            if step != 1:
                raise ValueError("records have no other step than 1")
            return self.part(start, max(start, stop))
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        _, key, value_at, value, head, _ = self._bounds[:, i].tolist()
        data = self._data
        return Record(
            topic="",
            partition=-1,
            offset=int(self._offset[i]),
            timestamp_ms=int(self._timestamp[i]),
            key=None if key < 0 else data[key:value_at],
            value=None if value < 0 else data[value:head],
            headers=[(name, text) for name, text, _ in self._headers(i)],
        )

    def form(self, i: int) -> Form | None:
        """The form of a record; ``None`` if its last header is not its id."""
        key_at, _, value_at, _, head, _ = self._bounds[:, i].tolist()
        ends = [(name, at) for name, _, at in self._headers(i)]
        if not ends or ends[-1][0] != _ID:
            return None
        return Form(self._data[key_at:value_at], self._data[head : ends[-1][1]])

    def _headers(self, i: int) -> Iterator[tuple[str, bytes, int]]:
        """Name, value, and where the name ends. Null is empty; what goes beyond the record is cut
        off.
        """
        data = self._data
        head, end = self._bounds[[_HEAD, _END], i].tolist()
        try:
            left, at = _varint_at(data, head)
            while left > 0 and at < end:
                size, at = _varint_at(data, at)
                named = at + max(size, 0)
                name = data[at : min(named, end)].decode("utf-8", "replace")
                size, at = _varint_at(data, named)
                stop = min(at + max(size, 0), end)
                yield name, data[at:stop], named
                at, left = stop, left - 1
        except IndexError:
            return


def spans(data: bytes, size: int, at: NDArray[np.int64]) -> NDArray[np.void]:
    """So many bytes from each place on, ``(n,)``; ten times faster than taking them as bytes."""
    shape = (max(0, len(data) - size + 1),)
    return np.ndarray(shape, f"V{size}", data, strides=(1,))[at]


def _walk(data: bytes, at: int, records: int, begins: list[int], ends: list[int]) -> int:
    """Where each of some records begins (behind its length) and ends; returns the end of all."""
    begin, end = begins.append, ends.append
    for _ in range(records):
        size = data[at]
        at += 1
        if size > 127:
            byte = data[at]
            at += 1
            size = size & 127 | (byte & 127) << 7
            shift = 14
            while byte > 127:
                byte = data[at]
                at += 1
                size |= (byte & 127) << shift
                shift += 7
                if shift > 35:
                    raise WireError("malformed", "a length of more than five bytes")
        begin(at)
        at += size >> 1  # zigzag; a negative length does not fill the batch in the end
        end(at)
    return at


def _varints(
    raw: NDArray[np.uint8], at: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A zigzag number at each place, and the places behind them."""
    byte = raw[at]
    value = (byte & 127).astype(np.int64)
    at = at + 1
    more = np.flatnonzero(byte > 127)
    shift = 7
    while len(more):
        if shift > 63:
            raise WireError("malformed", "a number of more than ten bytes")
        byte = raw[at[more]]
        value[more] |= (byte & 127).astype(np.int64) << shift
        at[more] += 1
        more = more[byte > 127]
        shift += 7
    unsigned = value.view(np.uint64)
    half = (unsigned >> np.uint64(1)).view(np.int64)
    return half ^ -(value & 1), at


def _varint_at(data: bytes, at: int) -> tuple[int, int]:
    """One zigzag number, and the place behind it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value >> 1 ^ -(value & 1), at


def _varint(value: int) -> bytes:
    value = value << 1 ^ value >> 63
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _append(whole: bytearray, text: bytes | None) -> int:
    """Append a length and bytes; where the bytes begin, -1 for null."""
    whole += _varint(-1 if text is None else len(text))
    begin = len(whole)
    if text is None:
        return -1
    whole += text
    return begin


def _timestamp_of(record: Any) -> int:
    """Milliseconds, by the name that its library gives it."""
    timestamp = getattr(record, "timestamp_ms", None)
    return int(getattr(record, "timestamp", 0) if timestamp is None else timestamp)
