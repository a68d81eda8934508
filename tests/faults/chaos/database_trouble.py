"""Trouble with the database: hung, stopped, locked, read-only, out of connections, on a full disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import database_faults as faults
from pids import children, send
from world import Skipped, World

HUNG_SECONDS = 60.0


def hung(world: World, seconds: float = HUNG_SECONDS) -> None:
    """Every process of PostgreSQL stands still for a minute: connections are open and nobody
    answers."""
    world.drift()
    world.rest(5.0)
    world.fault("SIGSTOP to the whole database")
    with faults.frozen(_postgres(world)):
        world.rest(seconds)
    world.healed()


def stopped(world: World) -> None:
    """``kill -9`` to the database and everything it started, twice; it comes back after 10 and 20
    seconds."""
    server = _postgres(world)
    world.drift()
    for seconds in (10.0, 20.0):
        world.rest(5.0)
        world.fault("kill -9 to the database")
        for pid in [server.process.pid, *children(server.process.pid)]:
            send(pid)
        server.process.wait(30)
        world.rest(seconds)
        server.start()
        world.healed()


def locked(world: World) -> None:
    """Somebody holds a lock on tables (on SQLite on the whole file) for 20 seconds; then PostgreSQL
    is read-only for 15."""
    world.drift()
    world.rest(5.0)
    if world.kind == "sqlite":
        world.fault("somebody holds the file's lock")
        with faults.sqlite_locked(Path(world.url.removeprefix("sqlite:///"))):
            world.rest(20.0)
        world.healed()
        return
    world.fault("somebody locks offsets, outbox and jobs")
    with faults.locked(_postgres(world), world.url, "offsets", "outbox", "jobs"):
        world.rest(20.0)
    world.healed()
    world.fault("the database is read-only")
    with faults.read_only(_postgres(world)):
        world.rest(15.0)
    world.healed()


def exhausted(world: World) -> None:
    """Somebody takes every connection of the database for 40 seconds."""
    world.drift()
    world.rest(5.0)
    world.fault("every connection of the database is taken")
    with faults.exhausted(_postgres(world)):
        world.rest(40.0)
    world.healed()


def full_disk(world: World) -> None:
    """The disk under the home (and its SQLite file), or under PostgreSQL, is full for 10 seconds,
    then for 20; what others free meanwhile is taken as well."""
    assert world.disk is not None
    world.drift()
    world.rest(8.0)
    for seconds in (10.0, 20.0):
        world.fault("the disk is full")
        with faults.full(world.disk):
            for _ in range(10):
                world.rest(seconds / 10)
                faults.fill(world.disk / "filler")
        world.database_again()
        world.healed()
        world.rest(5.0)


def _postgres(world: World) -> Any:
    if world.postgres is None:
        raise Skipped("PostgreSQL is not installed")
    return world.postgres
