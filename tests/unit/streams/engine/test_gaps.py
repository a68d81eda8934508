"""Offsets that do not come: those that left the log are recorded, those that were missed read
again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from faust.types import TP
from structlog.testing import capture_logs

from redistill.streams.engine.gaps import GapTracker
from redistill.streams.engine.metrics import StreamMetrics
from redistill.streams.store.batch import Gap, Partition
from redistill.streams.store.tries import StoredOffset

HERE, P = TP("predictions", 3), Partition("topic-id", 3)


class FakeAccumulator:
    """What it was told."""

    def __init__(self) -> None:
        self.assigned: list[tuple[Any, ...]] = []
        self.gaps: list[tuple[int, int]] = []

    def assign(self, partition: Partition, topic: str, *, stored: int | None, start: int) -> None:
        self.assigned.append((partition, topic, stored, start))

    def lost(self, partition: Partition, first: int, last: int) -> None:
        assert partition == P
        self.gaps.append((first, last))


class FakeConsumer:
    """A log that begins at some offset, and where it was asked to read again."""

    def __init__(self, earliest: int) -> None:
        self.earliest = earliest
        self.sought: list[dict[TP, int]] = []

    async def earliest_offsets(self, *tps: TP) -> dict[TP, int]:
        return dict.fromkeys(tps, self.earliest)

    async def seek_wait(self, offsets: dict[TP, int]) -> None:
        self.sought.append(offsets)


async def at_once(call: Callable[[], Any]) -> Any:
    return call()


@pytest.fixture
def accumulator() -> FakeAccumulator:
    return FakeAccumulator()


@pytest.fixture
def metrics() -> StreamMetrics:
    return StreamMetrics()


@pytest.fixture
def gaps(accumulator: FakeAccumulator, metrics: StreamMetrics) -> GapTracker:
    return GapTracker(accumulator, metrics)  # type: ignore[arg-type]


def lost(metrics: StreamMetrics) -> float:
    return metrics.registry.get_sample_value(
        "redistill_stream_gap_offsets_total", {"topic": "predictions"}
    ) or 0.0  # fmt: skip


@pytest.mark.parametrize(
    ("stored", "earliest", "start", "gap"),
    [
        (None, 0, 0, []),  # never read
        (None, 40, 40, []),  # what left the log before anybody was there is nobody's loss
        (50, 0, 50, []),
        (50, 50, 50, []),
        (50, 60, 60, [(50, 59)]),
    ],
)
def test_reading_begins_where_sql_ends_or_where_the_log_begins(
    gaps: GapTracker, accumulator: FakeAccumulator, metrics: StreamMetrics,
    stored: int | None, earliest: int, start: int, gap: list[tuple[int, int]],
) -> None:  # fmt: skip
    assert gaps.begin(HERE, P, stored, earliest, 10**9) == start
    begin = earliest if stored is None else stored
    assert accumulator.assigned == [(P, "predictions", stored, begin)]
    assert accumulator.gaps == gap
    assert lost(metrics) == 0, "nothing is stored yet"


def test_gap_is_said_and_counted_once_it_is_stored(
    gaps: GapTracker, metrics: StreamMetrics
) -> None:
    with capture_logs() as said:
        assert gaps.begin(HERE, P, 50, 60, 10**9) == 60
        assert said == []
        gaps.stored([Gap(partition=P, topic="predictions", first=50, last=59)])
    (line,) = said
    assert (line["log_level"], line["action"], line["partition"]) == ("error", "gap", 3)
    assert (line["first"], line["last"], line["lost"]) == (50, 59, 10)
    assert lost(metrics) == 10


def bridge(gaps: GapTracker, consumer: FakeConsumer, expected: int, first: int) -> bool:
    run: Awaitable[bool] = gaps.bridge(consumer, at_once, HERE, P, expected, first)  # type: ignore[arg-type]
    return asyncio.run(run)  # type: ignore[arg-type]


def test_offsets_that_left_the_log_are_lost_and_the_chunk_is_taken(
    gaps: GapTracker, accumulator: FakeAccumulator
) -> None:
    consumer = FakeConsumer(earliest=20)
    assert bridge(gaps, consumer, 10, 20)
    assert (accumulator.gaps, consumer.sought) == ([(10, 19)], [])


def test_log_that_was_cut_beyond_the_chunk_loses_what_is_before_it(
    gaps: GapTracker, accumulator: FakeAccumulator
) -> None:
    assert bridge(gaps, FakeConsumer(earliest=500), 10, 20)
    assert accumulator.gaps == [(10, 19)]


def test_offsets_that_are_in_the_log_were_missed_and_are_read_again(
    gaps: GapTracker, accumulator: FakeAccumulator
) -> None:
    consumer = FakeConsumer(earliest=0)
    assert not bridge(gaps, consumer, 10, 20)
    assert (accumulator.gaps, consumer.sought) == ([], [{HERE: 10}])


def test_of_offsets_partly_gone_the_rest_is_read_again(
    gaps: GapTracker, accumulator: FakeAccumulator
) -> None:
    consumer = FakeConsumer(earliest=15)
    assert not bridge(gaps, consumer, 10, 20)
    assert (accumulator.gaps, consumer.sought) == ([(10, 14)], [{HERE: 15}])


def test_log_that_ends_before_what_was_counted_is_read_from_its_end(
    gaps: GapTracker, accumulator: FakeAccumulator, metrics: StreamMetrics
) -> None:
    with capture_logs() as said:
        assert gaps.begin(HERE, P, 50, 0, 42) == 42
    assert accumulator.assigned == [(P, "predictions", 50, 42)]
    assert accumulator.gaps == []
    assert [(x["action"], x["counted_up_to"], x["lost"]) for x in said] == [
        ("log_truncated", 50, 8)
    ]
    assert metrics.registry.get_sample_value(
        "redistill_stream_truncated_offsets_total", {"topic": "predictions"}
    ) == 8  # fmt: skip


def test_log_that_ends_early_is_believed_when_it_goes_on_doing_so(
    accumulator: FakeAccumulator, metrics: StreamMetrics
) -> None:
    now = 0.0
    gaps = GapTracker(accumulator, metrics, clock=lambda: now)  # type: ignore[arg-type]

    def doubtful(end: int) -> bool:
        return gaps.doubtful({HERE: (0, end)}, {HERE: P}, {P: StoredOffset(50)})

    assert not doubtful(50)
    assert doubtful(42)
    now = 4.9
    assert doubtful(43)
    assert not doubtful(50), "it was a moment"
    assert doubtful(42)
    now = 10.0
    assert not doubtful(42)
    assert not gaps.doubtful({HERE: (0, 0)}, {HERE: P}, {}), "never read"
