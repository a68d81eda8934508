from __future__ import annotations

from pathlib import Path

import loop

from redistill.workers.store import clock_problem
from redistill.workers.store.clock_problem import ClockProblem


def test_problem_is_read_as_it_was_written_until_it_is_cleared(tmp_path: Path) -> None:
    database = loop.opened(f"sqlite:///{tmp_path / 'r.db'}")
    problem = ClockProblem(why="this clock is ahead", us=5, since=1, until=None, holder="w")
    with database.begin() as conn:
        assert clock_problem.get(conn) is None
        clock_problem.put(conn, problem)
        assert clock_problem.get(conn) == problem
        clock_problem.clear(conn)
        assert clock_problem.get(conn) is None
    database.dispose()
