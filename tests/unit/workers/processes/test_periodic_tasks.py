"""A task goes on, whatever a round does."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs
from waiting import PATIENCE_SECONDS, eventually

from redistill.workers.processes.periodic_tasks import PeriodicTask


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_task_repeats_and_goes_on_at_once_while_there_is_more(stop: threading.Event) -> None:
    calls: list[int] = []

    def work() -> bool:
        calls.append(1)
        return len(calls) < 5

    task = PeriodicTask("d", work, every_seconds=3_600, stop=stop)
    task.start()
    eventually(lambda: len(calls) == 5, "five rounds without a pause", every=0.01)
    task.wake()
    eventually(lambda: len(calls) == 6, "a sixth, when it is woken", every=0.01)
    stop.set()
    assert task.join(PATIENCE_SECONDS)


def test_task_survives_its_errors_says_each_once_and_its_recovery(stop: threading.Event) -> None:
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        if len(calls) < 4:
            raise ValueError("away")

    with capture_logs() as lines:
        task = PeriodicTask("d", work, every_seconds=0.01, stop=stop)
        task.start()
        eventually(lambda: len(calls) > 5, "it goes on", every=0.01)
        stop.set()
        assert task.join(PATIENCE_SECONDS)
    actions = [line["action"] for line in lines]
    assert actions == ["duty_failed", "duty_recovered"]
    assert task.failures == 0


def test_task_ends_when_it_is_told_although_its_pause_is_long(stop: threading.Event) -> None:
    worked = threading.Event()
    task = PeriodicTask("d", worked.set, every_seconds=3_600, stop=stop)
    task.start()
    assert worked.wait(PATIENCE_SECONDS)
    stop.set()
    assert task.join(PATIENCE_SECONDS)
