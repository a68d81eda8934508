"""Steps that several scenes share: wait for a scene to begin, for labels, for all services to
follow."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from redistill.streams.store.database import Database
from redistill.times import to_seconds
from redistill.workers.demo.facts import Measured, Move, Snapshot
from redistill.workers.demo.processes import SERVICES
from redistill.workers.demo.runner import DemoFailed, ScenarioRunner

__all__ = [
    "begun",
    "database_of",
    "enough",
    "first",
    "no_incident",
    "no_new_harm",
    "seconds_of",
    "served",
    "serving",
    "words_of",
]

MIN_LABELS = 60
"""Fewer labelled rows than this are not called a measurement here."""

T = TypeVar("T")


def begun(runner: ScenarioRunner, scene: str) -> int:
    """When the services' first row of a scene was served, microseconds."""
    return runner.until("the services to follow", lambda _: runner.scene_began(scene), seconds=10)


def enough(runner: ScenarioRunner, version: str, since: int, seconds: float) -> Measured:
    """Let a scene run for ``seconds`` at least, and until enough labels are there."""
    runner.pause(runner.doing, max(0.0, to_seconds(since) + seconds - runner.clock()))
    return runner.until(
        "labels",
        lambda _: m if (m := runner.measured(version, since=since)).n >= MIN_LABELS else None,
        seconds=20,
    )


def serving(runner: ScenarioRunner) -> str:
    """The version that the pointer names."""
    moves = runner.snapshot().moves
    if not moves:
        raise DemoFailed("there is no pointer")
    return moves[-1].stable


def served(runner: ScenarioRunner, move: Move) -> dict[str, float]:
    """Wait until every service serves a move; seconds from the move to each, by service."""
    found = runner.until(
        "every service to serve it",
        lambda s: a if len(a := s.activated(move.epoch)) >= len(SERVICES) else None,
        seconds=30,
    )
    return {name: round(to_seconds(a.at - move.at), 3) for name, a in sorted(found.items())}


def no_incident(runner: ScenarioRunner, when: str) -> None:
    """Nobody was woken so far."""
    seen = runner.snapshot()
    runner.expect(
        not seen.incidents, f"an incident opened {when}: {[i.why for i in seen.incidents]}"
    )


def no_new_harm(runner: ScenarioRunner, seen: Snapshot, since: int) -> None:
    """Nobody was woken since then (microseconds)."""
    paged = [i.why for i in seen.incidents if i.opened_at >= since]
    harm = [f.body["reason"] for f in seen.findings if f.opened_at >= since and f.harmful is True]
    runner.expect(not paged and not harm, f"somebody was paged for nothing: {paged or harm}")


def database_of(runner: ScenarioRunner) -> Database:
    """The database, which every scene after the opening has."""
    if runner.database is None:
        raise DemoFailed("the database is not open")
    return runner.database


def first(items: Iterable[T], check: Callable[[T], bool]) -> T | None:
    """The first item that passes a check."""
    return next((item for item in items if check(item)), None)


def words_of(name: str | None) -> str:
    """A constant's name as words."""
    return (name or "unknown").replace("_", " ")


def seconds_of(by_service: dict[str, float]) -> str:
    """Seconds of each service in one word."""
    return "/".join(f"{v:.2f}" for v in by_service.values()) + " s"
