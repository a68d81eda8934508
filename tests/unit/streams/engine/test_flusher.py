"""The thread that writes: it waits for a database that is away, and gives up on what it cannot
mend."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from redistill.streams.engine import flusher as module
from redistill.streams.engine.flusher import Flusher
from redistill.streams.engine.health import Health
from redistill.streams.engine.metrics import StreamMetrics
from redistill.streams.errors import StoreUnavailable, StoreUnusable
from redistill.streams.store.batch import FlushBatch, Flushed, OffsetsMoved, Partition
from redistill.streams.store.database import connect
from redistill.streams.store.tries import Mark

DONE = Flushed(join_rows=0, labels=0, findings=0)


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def metrics() -> StreamMetrics:
    return StreamMetrics()


@pytest.fixture
def flusher(tmp_path: Path, health: Health, metrics: StreamMetrics) -> Iterator[Flusher]:
    database = connect(f"sqlite:///{tmp_path / 'never_opened.db'}")
    made = Flusher(database, health=health, metrics=metrics, clock=lambda: 12.5)
    yield made
    made.close()


def answering(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> list[tuple[FlushBatch, int]]:
    """Let SQL answer so, one flush after the other; what it was given."""
    left, given = list(answers), []

    def flush(_: Any, batch: FlushBatch, *, now: int) -> Any:
        given.append((batch, now))
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(module, "flush", flush)
    monkeypatch.setattr(module, "FIRST_DELAY", 0.0)
    return given


def value(metrics: StreamMetrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(f"redistill_stream_{name}")


def test_flush_is_made_with_the_time_of_the_clock(
    flusher: Flusher, metrics: StreamMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = FlushBatch()
    given = answering(monkeypatch, DONE)
    assert asyncio.run(flusher.run(batch)) is DONE
    assert given == [(batch, 12_500_000)]
    assert value(metrics, "flush_seconds_count") == 1


def test_same_batch_is_flushed_until_the_database_is_back(
    flusher: Flusher, health: Health, metrics: StreamMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = FlushBatch()
    away: list[bool] = []
    given = answering(monkeypatch, StoreUnavailable("a"), StoreUnavailable("b"), DONE)
    monkeypatch.setattr(flusher, "away", lambda: away.append(True))
    assert asyncio.run(flusher.run(batch)) is DONE
    assert [b for b, _ in given] == [batch] * 3
    assert away == [True, True]
    assert value(metrics, "store_away_total") == 2


def test_pauses_grow_up_to_a_limit(flusher: Flusher, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, *[StoreUnavailable("a")] * 8, DONE)
    monkeypatch.setattr(module, "FIRST_DELAY", 0.2)
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    asyncio.run(flusher.run(FlushBatch()))
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_database_that_is_away_is_said_and_an_excuse_until_it_is_back(
    flusher: Flusher, health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    flusher.away()
    assert health.store_away
    answering(monkeypatch, DONE)
    asyncio.run(flusher.run(FlushBatch()))
    assert not health.store_away


def test_batch_that_another_worker_overtook_is_handed_back_and_counted(
    flusher: Flusher, metrics: StreamMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = OffsetsMoved((Partition("t", 0),))
    answering(monkeypatch, moved)
    assert asyncio.run(flusher.run(FlushBatch())) is moved
    assert value(metrics, "moved_total") == 1


def test_failure_that_no_further_try_mends_ends_the_process(
    flusher: Flusher, health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = answering(monkeypatch, ValueError("a defect"))
    assert asyncio.run(flusher.run(FlushBatch())) is None
    assert len(given) == 1
    assert health.fatal == "a flush failed: ValueError: a defect"


def test_mark_waits_for_the_database_and_says_whether_records_may_be_taken(
    flusher: Flusher, metrics: StreamMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Mark(Partition("t", 0), 3, 1, alone=False)
    answers: list[Any] = [StoreUnavailable("a"), [], [place.partition], ValueError("a defect")]

    def mark(_: Any, marks: list[Mark]) -> Any:
        assert marks == [place]
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(module, "mark", mark)
    monkeypatch.setattr(module, "FIRST_DELAY", 0.0)
    assert [asyncio.run(flusher.mark([place])) for _ in range(3)] == [True, False, False]
    assert value(metrics, "moved_total") == 1


@pytest.mark.parametrize("error", [StoreUnavailable("away"), StoreUnusable("read only")])
def test_leaving_is_told_once_whatever_the_database_says(
    flusher: Flusher, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    answers: list[Exception | None] = [error, None]
    told: list[dict[Partition, int]] = []

    def take_back(_: Any, standing: dict[Partition, int]) -> None:
        told.append(standing)
        if (answer := answers.pop(0)) is not None:
            raise answer

    monkeypatch.setattr(module, "take_back", take_back)
    standing = {Partition("t", 0): 3}
    assert asyncio.run(flusher.take_back(standing)) is False
    assert asyncio.run(flusher.take_back(standing)) is True
    assert told == [standing, standing]
