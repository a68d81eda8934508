"""What workers on jobs share: above all a child that is always alive."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import cast

import job_worker
from job_worker import ScriptedChild

from redistill.streams.store.database import Database
from redistill.workers.jobs.child import Child
from redistill.workers.jobs.dependencies import WarmChild


class Closable(ScriptedChild):
    closed = 0

    def close(self) -> None:
        self.closed += 1


def warm(
    first: ScriptedChild, *others: ScriptedChild, clock: Callable[[], float] = lambda: 0.0
) -> WarmChild:
    left = list(others)
    return WarmChild(cast(Child, first), lambda: cast(Child, left.pop(0)), clock)


def test_living_child_is_kept() -> None:
    first = Closable()
    child = warm(first)
    assert child() is child() is first  # type: ignore[comparison-overlap]
    assert first.closed == 0


def test_dead_child_is_closed_and_replaced() -> None:
    first, second = Closable(), Closable()
    child = warm(first, second)
    first.alive = False
    assert child() is second  # type: ignore[comparison-overlap]
    assert child() is second  # type: ignore[comparison-overlap]
    assert first.closed == 1


def test_child_that_does_not_live_is_started_later_and_later() -> None:
    now = 100.0
    children = [Closable() for _ in range(12)]
    for made in children:
        made.alive = False
    child = warm(*children, clock=lambda: now)
    started: list[float] = []
    while len(started) < 9:
        now += 0.5
        if children.index(cast(Closable, child())) > len(started):
            started.append(now)
    assert [b - a for a, b in pairwise(started)] == [2.5, 4.5, 8.5, 16.5, 32.5, 60.5, 60.5, 60.5]


def test_no_child_is_started_after_the_end() -> None:
    first = Closable()
    child = warm(first)
    first.alive = False
    child.close()
    assert cast(Closable, child()) is first


def test_close_ends_the_present_child() -> None:
    first, second = Closable(), Closable()
    child = warm(first, second)
    first.alive = False
    child()
    child.close()
    assert (first.closed, second.closed) == (1, 1)


def test_who_writes_and_where_follow_from_the_worker(tmp_path: Path) -> None:
    deps = job_worker.dependencies(cast(Database, None), tmp_path)
    assert deps.actor == "worker:w1"
    assert deps.folder("abc") == tmp_path / "jobs" / "abc"
    assert not deps.stop.is_set()
