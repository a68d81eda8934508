"""The world's file and the services' statistics: written whole, read as they were written."""

from __future__ import annotations

from pathlib import Path

from redistill.workers.demo import world
from redistill.workers.demo.world import ServiceStats, Tally, World


def stats(name: str) -> ServiceStats:
    return ServiceStats(
        service=name, at=1.0, requests=3, failed=0, version="1", epoch=2,
        tallies=[Tally(scene="healthy", version="1", rows=3, correct=2, first=0.5, last=1.0)],
        logged=3, sent=3, dropped=0,
    )  # fmt: skip


def test_the_world_is_read_as_it_was_written(tmp_path: Path) -> None:
    now = World(scene="holiday", haze=0.3, priors={4: 0.5, 9: 0.5}, closing=True)
    world.write(tmp_path / world.FILE, now)
    assert world.read_world(tmp_path) == now
    assert [p.name for p in tmp_path.iterdir()] == [world.FILE]  # nothing half-written is left


def test_statistics_come_by_name_and_missing_services_are_missing(tmp_path: Path) -> None:
    assert world.read_stats(tmp_path) == []
    for name in ("west", "north"):
        world.write(tmp_path / f"stats-{name}.json", stats(name))
    assert [s.service for s in world.read_stats(tmp_path)] == ["north", "west"]
    assert world.read_stats(tmp_path)[0] == stats("north")
