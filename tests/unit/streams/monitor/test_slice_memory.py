"""Memory of labelled rows with their slices."""

from __future__ import annotations

import msgspec
import numpy as np

from redistill.streams.monitor.slice_memory import RECENT, LabelledRows, SliceMemory


def rows_of(n: int, seed: int = 0) -> LabelledRows:
    rng = np.random.default_rng(seed)
    return LabelledRows(
        rng.integers(0, 2, n).astype(np.uint8),
        np.sort(rng.integers(0, 10**15, n)),
        rng.random(n).astype(np.float32),
        rng.integers(-1, 50, (n, 3)).astype(np.int8),
        np.where(rng.random(n) < 0.9, -1, rng.integers(0, 50, n)).astype(np.int8),
    )


def same(a: LabelledRows, b: LabelledRows) -> bool:
    names = ("error", "served_at", "expected", "slices", "asked")
    return all(np.array_equal(getattr(a, n), getattr(b, n)) for n in names)


def test_a_look_sees_the_same_however_rows_were_cut_into_calls() -> None:
    rows = rows_of(30_000)
    once = SliceMemory(LabelledRows.none(3)).with_rows(rows)
    parts = SliceMemory(LabelledRows.none(3))
    for i in range(0, 30_000, 700):
        parts = parts.with_rows(rows[i : i + 700])
        end = min(i + 700, 30_000)
        assert same(parts.upto(end), once.upto(end))
        parts = parts.trimmed()
        assert same(parts.upto(end), once.upto(end))
        assert len(parts.rows) < 2 * RECENT + 700
    assert len(parts.upto(30_000)) >= RECENT
    assert same(parts.upto(30_000, 29_990), rows[29_990:])


def test_memory_is_the_same_after_it_was_stored() -> None:
    memory = SliceMemory(LabelledRows.none(3)).with_rows(rows_of(9_001)).trimmed()
    plain = msgspec.msgpack.decode(msgspec.msgpack.encode(memory.plain()))
    again = SliceMemory.of(plain, 3)
    assert again.total == memory.total
    assert same(again.rows, memory.rows)
    none = SliceMemory.of(SliceMemory(LabelledRows.none(0)).plain(), 0)
    assert len(none.rows) == none.total == 0
