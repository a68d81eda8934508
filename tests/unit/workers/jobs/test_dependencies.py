"""What workers on jobs share: above all a child that is always alive."""

from __future__ import annotations

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


def warm(first: ScriptedChild, *others: ScriptedChild) -> WarmChild:
    left = list(others)
    return WarmChild(cast(Child, first), lambda: cast(Child, left.pop(0)))


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
