"""A task goes on, whatever a round does."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs
from waiting import PATIENCE_SECONDS, eventually

from redistill.streams.errors import StoreUnavailable
from redistill.workers.processes.periodic_tasks import PeriodicTask, late


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


def test_database_that_is_away_and_a_full_disk_are_no_news_with_a_traceback(
    stop: threading.Event,
) -> None:
    errors: list[Exception] = [
        StoreUnavailable("said elsewhere, once for all tasks"),
        StoreUnavailable("said elsewhere, once for all tasks"),
        OSError(errno.ENOSPC, "No space left on device"),
    ]

    def work() -> None:
        if errors:
            raise errors.pop(0)

    with capture_logs() as lines:
        task = PeriodicTask("d", work, every_seconds=0.01, stop=stop)
        task.start()
        eventually(lambda: not errors and task.failures == 0, "it goes on", every=0.01)
        stop.set()
        assert task.join(PATIENCE_SECONDS)
    assert [line["action"] for line in lines] == ["duty_failed", "duty_recovered"]
    assert lines[0]["exc_info"] is False


def test_task_ends_when_it_is_told_although_its_pause_is_long(stop: threading.Event) -> None:
    worked = threading.Event()
    task = PeriodicTask("d", worked.set, every_seconds=3_600, stop=stop)
    task.start()
    assert worked.wait(PATIENCE_SECONDS)
    stop.set()
    assert task.join(PATIENCE_SECONDS)


def test_failure_that_goes_on_is_said_ever_more_seldom_and_one_that_comes_and_goes_not_each_time(
    stop: threading.Event,
) -> None:
    now = 0.0
    task = PeriodicTask("d", lambda: None, every_seconds=1, stop=stop, clock=lambda: now)
    with capture_logs() as lines:
        for now in range(0, 86_400, 5):  # noqa: B007 - the clock reads it
            task._complain(ValueError("away"))
    assert len(lines) == 13  # at 0, 1, 3, 7, ... 255 minutes, then each four hours
    with capture_logs() as lines:
        now += 5 * 3_600
        for _ in range(10):
            now += 3
            task._complain(ValueError("away"))
            task._recovered()
    assert [line["action"] for line in lines] == ["duty_failed", "duty_recovered"]
    with capture_logs() as lines:
        task._complain(ValueError("another"))
    assert len(lines) == 1


def test_tasks_are_late_when_no_round_ended_for_longer(stop: threading.Event) -> None:
    now = 0.0
    tasks = [PeriodicTask("a", list, every_seconds=1, stop=stop, clock=lambda: now)]
    now = 50.0
    tasks.append(PeriodicTask("b", list, every_seconds=1, stop=stop, clock=lambda: now))
    assert late(tasks, 50.0, clock=lambda: now) == []
    assert late(tasks, 49.0, clock=lambda: now) == ["a"]
