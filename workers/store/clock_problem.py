"""Clock problem: why nothing is deleted by its age at present, in a row that all processes read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from redistill.streams.store import properties

__all__ = ["ClockProblem", "clear", "get", "put"]

NAME = "clock_problem"
"""Of the property."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClockProblem:
    """Retention stands still. Times are microseconds since 1970 by the database's clock."""

    why: str
    """Which clocks differ, and by how much."""
    us: int
    """By how much the clock of the process that found it is ahead, microseconds."""
    since: int
    until: int | None
    """When it ends though nothing was set right: what only looks like a wrong clock (a long stop)
    must not keep rows for ever. ``None``: when the clocks agree."""
    holder: str
    """The process that found it."""


def get(conn: sa.Connection) -> ClockProblem | None:
    """The problem that there is; ``None``: the clocks agree, as far as anybody has looked."""
    text = properties.get(conn, NAME)
    return None if text is None else ClockProblem(**json.loads(text))


def put(conn: sa.Connection, problem: ClockProblem) -> None:
    """Write it down, in place of another one."""
    properties.put(conn, NAME, json.dumps(asdict(problem), sort_keys=True))


def clear(conn: sa.Connection) -> None:
    """The clocks agree again."""
    properties.drop(conn, NAME)
