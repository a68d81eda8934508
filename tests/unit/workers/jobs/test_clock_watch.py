"""When nothing is deleted for its age, and when it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import loop
import pytest
import sqlalchemy as sa
from loop import NOW

from redistill.streams.store import lease
from redistill.streams.store.clock import DatabaseClock
from redistill.streams.store.database import Database, connect
from redistill.streams.store.tables import leases
from redistill.times import DAY, HOUR, MINUTE, SECOND
from redistill.workers.jobs.clock_watch import ClockWatch
from redistill.workers.store import clock_problem


class Shared(DatabaseClock):
    """A server's clock that is moved by hand."""

    def __init__(self, world: World) -> None:
        super().__init__(shared=True)
        self._world = world

    def __call__(self) -> int:
        return self._world.server

    def process(self) -> int:
        return self._world.process


@dataclass
class World:
    """The clocks of an installation."""

    database: Database
    process: int = NOW
    server: int = NOW
    steady: int = 0
    starts: int = 0
    watch: ClockWatch = field(init=False)

    def __post_init__(self) -> None:
        if self.database.is_sqlite:
            self.database.clock = DatabaseClock(shared=False, process=lambda: self.process)
        else:
            self.database.clock = Shared(self)
        self.start()

    @property
    def now(self) -> int:
        return self.database.clock()

    def start(self) -> None:
        """A repair worker, anew."""
        self.starts += 1
        self.watch = ClockWatch(
            self.database, holder=f"us-{self.starts}", steady=lambda: self.steady
        )

    def wait(self, us: int) -> None:
        """Time passes, for everybody."""
        self.process, self.server, self.steady = (
            t + us for t in (self.process, self.server, self.steady)
        )

    def jump(self, us: int) -> None:
        """Whoever tells the database's time is set."""
        self.process, self.server = self.process + us, self.server + us

    def work(self, *, at: int | None = None, holder: str = "they", name: str = "x") -> None:
        """Another process renews a lease, by its own clock."""
        with self.database.begin() as conn:
            conn.execute(sa.delete(leases).where(leases.c.name == name))
            lease.acquire(conn, name, holder, now=self.now if at is None else at, seconds=10)

    @property
    def why(self) -> str | None:
        """What other processes read."""
        with self.database.read() as conn:
            problem = clock_problem.get(conn)
        return None if problem is None else problem.why


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    opened = loop.opened(database_url)
    yield World(opened)
    opened.dispose()


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[World]:
    opened = loop.opened(postgres_url)
    yield World(opened)
    opened.dispose()


@pytest.fixture
def sqlite(tmp_path: object) -> Iterator[World]:
    opened = loop.opened(f"sqlite:///{tmp_path}/r.db")
    yield World(opened)
    opened.dispose()


def test_clocks_that_agree_are_the_time(world: World) -> None:
    for _ in range(5):
        assert world.watch.agreed() == world.now
        world.wait(30 * SECOND)
        world.work()
    assert world.why is None


@pytest.mark.parametrize("off", [40 * DAY, -40 * DAY, HOUR, -HOUR, 61 * SECOND])
def test_process_whose_clock_is_not_the_databases_deletes_nothing_until_it_is(
    postgres: World, off: int, capsys: pytest.CaptureFixture[str]
) -> None:
    postgres.process += off
    for _ in range(10):
        assert postgres.watch.agreed() is None
        postgres.wait(DAY)
    said = capsys.readouterr().out
    assert said.count("retention_stopped") == 2 * 10  # a line (event and action) a day: seldom
    assert postgres.why is not None
    assert "the database's" in postgres.why
    postgres.process -= off
    assert postgres.watch.agreed() == postgres.now
    assert postgres.why is None


def test_seconds_are_no_difference(world: World) -> None:
    world.process += 50 * SECOND
    assert world.watch.agreed() is not None


@pytest.mark.parametrize("off", [40 * DAY, -40 * DAY, HOUR, -HOUR])
def test_process_that_lives_by_another_time_stops_it_while_it_does(world: World, off: int) -> None:
    world.watch.begin()
    for _ in range(3):
        world.work(at=world.now - off)
        agreed = world.watch.agreed()
        world.wait(30 * SECOND)
    assert agreed is None
    assert world.why is not None
    world.work()
    assert world.watch.agreed() == world.now
    assert world.why is None


def test_holder_that_died_says_nothing_about_the_clock(world: World) -> None:
    world.work()
    for _ in range(10):
        assert world.watch.agreed() is not None
        world.wait(HOUR)


@pytest.mark.parametrize("given_back", [False, True])
def test_clock_that_was_40_days_ahead_at_the_start_is_doubted_for_a_day(
    world: World, given_back: bool
) -> None:
    world.work()
    if given_back:
        with world.database.begin() as conn:
            lease.expire(conn, "x", "they")
    world.jump(40 * DAY)
    world.watch.begin()
    world.work(holder="us-1")  # what this process takes over proves nothing any more
    for _ in range(23):
        world.wait(HOUR)
        assert world.watch.agreed() is None
    assert "40.0 days ahead of the newest lease" in str(world.why)
    world.wait(HOUR)
    assert world.watch.agreed() == world.now, "it was a long stop, or a person would have come"
    assert world.why is None


def test_doubt_goes_on_over_a_restart_and_ends_when_the_clock_is_mended(world: World) -> None:
    world.work()
    world.jump(40 * DAY)
    world.watch.begin()
    world.work()  # by this time everybody lives
    world.wait(HOUR)
    world.start()
    assert world.watch.agreed() is None
    assert "40.0 days ahead" in str(world.why)
    world.jump(-40 * DAY)
    world.start()
    world.work()
    assert world.watch.agreed() == world.now
    assert world.why is None


def test_clock_that_was_ahead_and_is_mended_is_not_doubted_for_what_it_wrote(world: World) -> None:
    world.work()
    world.jump(40 * DAY)
    world.watch.begin()
    world.work(name="y")
    world.jump(-40 * DAY)
    world.start()
    assert world.watch.agreed() == world.now
    assert world.why is None


def test_problem_that_another_process_found_is_over_where_the_clocks_agree(world: World) -> None:
    assert world.watch.agreed() is not None
    found = clock_problem.ClockProblem(why="x", us=1, since=NOW, until=None, holder="dead")
    with world.database.begin() as conn:
        clock_problem.put(conn, found)
    assert world.watch.agreed() == world.now
    assert world.why is None


def test_looks_of_several_threads_see_one_jump(world: World) -> None:
    assert world.watch.agreed() is not None
    world.jump(40 * DAY)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: world.watch.agreed(), range(8))) == [None] * 8
    world.jump(-40 * DAY)
    assert world.watch.agreed() == world.now


def test_night_without_workers_is_no_fault(world: World) -> None:
    world.work()
    with world.database.begin() as conn:
        lease.expire(conn, "x", "they")
    world.wait(10 * HOUR)
    assert world.watch.agreed() == world.now


def test_sqlite_lease_that_nobody_gave_back_is_doubted_for_an_hour(sqlite: World) -> None:
    sqlite.work()
    sqlite.process += HOUR
    assert sqlite.watch.agreed() is None
    sqlite.wait(HOUR - 1)
    assert sqlite.watch.agreed() is None
    sqlite.wait(1)
    assert sqlite.watch.agreed() == sqlite.now


def test_lease_of_the_future_is_doubted_for_an_hour(world: World) -> None:
    world.work(at=NOW + 40 * DAY)
    assert world.watch.agreed() is None
    assert "behind the newest lease" in str(world.why)
    world.wait(HOUR)
    assert world.watch.agreed() == world.now


@pytest.mark.parametrize(("by", "lasts"), [(40 * DAY, DAY), (2 * HOUR, HOUR), (-40 * DAY, HOUR)])
def test_jump_in_mid_run_stops_it_for_a_time(world: World, by: int, lasts: int) -> None:
    assert world.watch.agreed() is not None
    world.wait(10 * MINUTE)
    world.jump(by)
    assert world.watch.agreed() is None
    assert "the clock jumped" in str(world.why)
    world.wait(lasts - 1)
    assert world.watch.agreed() is None
    world.wait(1)
    assert world.watch.agreed() == world.now


def test_jump_that_is_taken_back_ends_it_at_once(world: World) -> None:
    assert world.watch.agreed() is not None
    world.jump(40 * DAY)
    assert world.watch.agreed() is None
    world.wait(MINUTE)
    world.jump(-40 * DAY)
    assert world.watch.agreed() == world.now


def test_many_small_steps_are_no_jump(world: World) -> None:
    for _ in range(20):
        world.jump(10 * SECOND)
        world.wait(30 * SECOND)
        assert world.watch.agreed() is not None


def test_database_that_is_away_does_not_keep_a_worker_from_starting(sqlite: World) -> None:
    ClockWatch(connect("sqlite:////no/such/place.db"), holder="us").begin()
    assert sqlite.watch.agreed() is not None
