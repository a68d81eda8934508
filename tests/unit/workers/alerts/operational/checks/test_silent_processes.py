"""Processes that are silent, and kinds of which none is ready."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from operational import Watched, watched

from redistill.streams.store.process_rows import SILENT_US, ProcessRow
from redistill.streams.store.tables import processes
from redistill.times import HOUR, MINUTE, SECOND
from redistill.workers.alerts.operational.checks import silent_processes
from redistill.workers.alerts.operational.checks.silent_processes import MISSED_US, missed_no_more
from redistill.workers.alerts.operational.history import BREAK_US


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[Watched]:
    with watched(database_url, tmp_path / "home") as made:
        yield made


def settled_in(world: Watched) -> None:
    """Rounds have gone on for a while."""
    for _ in range(2):
        world.look(silent_processes.silent, later=BREAK_US)


def test_a_process_is_silent_after_half_a_minute_and_until_it_is_heard_again(
    world: Watched,
) -> None:
    settled_in(world)
    world.process("h:1", "stream", started=MINUTE, seen=0, said="the broker")
    assert world.firing(silent_processes.silent, later=SILENT_US - 1) == []
    assert world.firing(silent_processes.silent, later=1) == ["h:1"]
    found = world.look(silent_processes.silent)
    assert found is not None
    assert found["h:1"].said == (
        "the stream process h:1 has not been heard of for 30 s, and did not end in order; it was"
        " waiting for the broker"
    )
    world.update(processes, seen_at=world.now - 11 * SECOND)
    assert world.firing(silent_processes.silent) == ["h:1"]
    world.update(processes, seen_at=world.now - 10 * SECOND)
    assert world.firing(silent_processes.silent) == []


def test_silence_ends_with_the_row_or_when_another_takes_the_place(world: Watched) -> None:
    settled_in(world)
    world.process("h:1", "stream", started=MINUTE, seen=SILENT_US)
    world.process("h:2", "repair", started=MINUTE, seen=SILENT_US)
    assert world.firing(silent_processes.silent) == ["h:1", "h:2"]
    world.process("h:3", "stream", started=SECOND, seen=0)
    assert world.firing(silent_processes.silent, later=SECOND) == ["h:2"]
    world.delete(processes)
    assert world.firing(silent_processes.silent) == []


def test_one_of_several_is_missed_for_an_hour_and_the_last_of_its_kind_for_longer(
    world: Watched,
) -> None:
    settled_in(world)
    for name in ("h:1", "h:2"):
        world.process(name, "stream", started=HOUR, seen=SILENT_US)
    world.process("h:0", "stream", started=2 * HOUR, seen=0)

    def firing(later: int, *, ready: bool = True) -> list[str]:
        """Rounds every half minute, while the first one lives."""
        for _ in range(later // (30 * SECOND)):
            world.now += 30 * SECOND
            with world.database.begin() as conn:
                mine = processes.c.process_id == "h:0"
                conn.execute(
                    sa.update(processes).where(mine).values(seen_at=world.now, ready=ready)
                )
            out = world.firing(silent_processes.silent)
        return out

    assert firing(HOUR - MINUTE) == ["h:1", "h:2"]
    assert firing(2 * MINUTE, ready=False) == ["h:1", "h:2"], "the one that is left does no work"
    assert firing(MINUTE) == []
    last = world.look(silent_processes.silent, later=3 * HOUR)
    assert last is not None
    assert last.keys() == {"h:0", "h:1", "h:2"}, "none is left"


def test_process_that_died_with_a_clock_that_was_ahead_is_silent_all_the_same(
    world: Watched,
) -> None:
    world.now += 24 * HOUR
    settled_in(world)
    world.process("h:1", "stream", started=MINUTE, seen=0)
    world.now -= 24 * HOUR
    assert world.firing(silent_processes.silent) == [], "it may not have spoken since"
    world.look(silent_processes.silent, later=SILENT_US - 1)
    assert world.firing(silent_processes.silent, later=1) == ["h:1"]


def test_what_nobody_could_say_is_held_against_nobody(world: Watched) -> None:
    settled_in(world)
    world.process("h:1", "stream", started=MINUTE, seen=0)
    assert world.firing(silent_processes.silent, later=10 * BREAK_US) == [], "nobody looked"
    assert world.firing(silent_processes.silent, later=SILENT_US - 1) == []
    assert world.firing(silent_processes.silent, later=1) == ["h:1"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["stream", "repair"]), st.integers(0, 9), st.integers(0, 9)),
        max_size=12,
    )
)
def test_each_that_died_needs_one_that_started_later(
    told: list[tuple[str, int, int]],
) -> None:
    now = 9 * SILENT_US
    rows = [
        ProcessRow(process_id=f"p{i}", kind=kind, started_at=min(a, b) * SILENT_US,
                   seen_at=max(a, b) * SILENT_US, ready=True, said="")
        for i, (kind, a, b) in enumerate(told)
    ]  # fmt: skip
    assert now < MISSED_US
    gone = missed_no_more(rows, now)
    for kind in ("stream", "repair"):
        dead = [r for r in rows if r.kind == kind and not r.lives(now)]
        living = [r for r in rows if r.kind == kind and r.lives(now)]
        mine = [r for r in dead if r.process_id in gone]
        first = min((r.seen_at for r in dead), default=0)
        assert len(mine) <= sum(r.started_at > first for r in living)
        for r in mine:
            assert any(new.started_at > r.seen_at for new in living)
    assert gone <= {r.process_id for r in rows if not r.lives(now)}


def test_a_kind_is_unready_after_three_minutes_in_which_none_was_ready(world: Watched) -> None:
    world.process("h:1", "repair", started=MINUTE, seen=0)
    world.process("h:2", "stream", started=MINUTE, seen=0, said="the broker: away")

    def firing(later: int) -> list[str]:
        world.update(processes, seen_at=world.now + later)
        return world.firing(silent_processes.none_ready, later=later)

    assert firing(0) == []
    assert firing(3 * MINUTE - 1) == []
    assert firing(1) == ["stream"]
    found = world.look(silent_processes.none_ready)
    assert found is not None
    assert found["stream"].said == (
        "the only stream process is not ready for 3 min: it waits for the broker: away"
    )
    assert world.firing(silent_processes.none_ready, later=2 * SILENT_US) == ["stream"], (
        "of one that does not live nothing is known"
    )
    world.update(processes, ready=True, said="")
    assert firing(SECOND) == []


def test_of_several_one_that_is_ready_is_enough(world: Watched) -> None:
    world.process("h:1", "stream", started=MINUTE, seen=0, said="the broker")
    world.process("h:2", "stream", started=MINUTE, seen=0)
    for _ in range(5):
        world.update(processes, seen_at=world.now + MINUTE)
        assert world.firing(silent_processes.none_ready, later=MINUTE) == []
    world.update(processes, ready=False, said="the broker")
    found = world.look(silent_processes.none_ready)
    assert found is not None
    assert found["stream"].said == (
        "none of 2 stream processes is ready for 0 s: it waits for the broker"
    )
