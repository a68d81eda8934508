"""A command's request: done by who holds the repository, else by the command, else withdrawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import loop
import pytest
import sqlalchemy as sa
from loop import SECOND, Clock

from redistill.streams.errors import LeaseError
from redistill.streams.store import lease
from redistill.streams.store.database import Database
from redistill.workers.errors import KeysError, NotInTime
from redistill.workers.releases import release_requests, submission
from redistill.workers.releases.release_requests import RequestResult
from redistill.workers.releases.repository import LEASE
from redistill.workers.releases.repository_writer import RepositoryWriter
from redistill.workers.store.tables import release_requests as release_requests_table


@dataclass
class FakeWriter:
    """The command's own writer: does what it is told to when it attempts."""

    do: Callable[[], None] = lambda: None
    holds: bool = False
    attempts: int = 0

    def attempt(self) -> None:
        """One round."""
        self.attempts += 1
        self.do()


@dataclass
class World:
    """A database, and who holds the repository in it."""

    database: Database
    clock: Clock = field(default_factory=Clock)
    writer: FakeWriter = field(default_factory=FakeWriter)

    def held(self, holder: str = "worker") -> None:
        """Somebody else holds the repository."""
        with self.database.begin() as conn:
            assert lease.acquire(conn, LEASE, holder, now=self.clock(), seconds=600)

    def answer(self, message: str = "done", *, ok: bool = True) -> None:
        """Whoever holds the repository answers what waits."""
        with self.database.begin() as conn:
            for request in release_requests.pending(conn):
                result = RequestResult(ok=ok, message=message)
                release_requests.finish(conn, request.request_id, result, now=self.clock())

    def perform(self, sleep: Callable[[], object] = lambda: None) -> RequestResult:
        """Ask for a publish and wait three seconds for it."""

        def slept(seconds: float) -> None:
            self.clock.forward(SECOND)
            sleep()

        return submission.perform(
            self.database,
            cast(RepositoryWriter, self.writer),
            "publish",
            "credit",
            {"version": "v2"},
            actor="cli:ann",
            wait_seconds=3,
            clock=self.clock.seconds,
            timer=self.clock.seconds,
            sleep=slept,
        )

    @property
    def pending(self) -> int:
        """Requests that nobody has answered."""
        with self.database.read() as conn:
            return len(release_requests.pending(conn))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    yield World(opened)
    opened.dispose()


def test_holder_does_it(world: World) -> None:
    world.held()
    assert world.perform(world.answer) == RequestResult(ok=True, message="done")
    assert world.writer.attempts == 0


def test_refusal_is_an_answer(world: World) -> None:
    world.held()
    found = world.perform(lambda: world.answer("there is no v2", ok=False))
    assert (found.ok, found.message) == (False, "there is no v2")


def test_command_does_it_where_nobody_holds_the_repository(world: World) -> None:
    world.writer.do = world.answer
    assert world.perform().ok
    assert world.writer.attempts == 1


def test_command_goes_on_with_what_it_holds(world: World) -> None:
    def take() -> None:
        world.held("own")
        world.writer.holds = True
        world.writer.do = world.answer

    world.writer.do = take
    assert world.perform().ok
    assert world.writer.attempts == 2


def test_holder_that_was_faster_does_it(world: World) -> None:
    def too_late() -> None:
        world.held()
        raise LeaseError("worker was faster")

    world.writer.do = too_late
    assert world.perform(world.answer).ok
    assert world.writer.attempts == 1


def test_holder_that_hangs_is_named_and_the_request_withdrawn(world: World) -> None:
    world.held()
    with pytest.raises(
        NotInTime, match="worker holds the repository and did not answer within 3 s"
    ):
        world.perform()
    assert world.pending == 0


def test_command_that_cannot_finish_gives_up(world: World) -> None:
    with pytest.raises(NotInTime, match="not done within 3 s"):
        world.perform()
    assert world.pending == 0
    assert world.writer.attempts > 1


def test_missing_keys_withdraw_the_request(world: World) -> None:
    def no_keys() -> None:
        raise KeysError("models.pem cannot be read")

    world.writer.do = no_keys
    with pytest.raises(KeysError):
        world.perform()
    assert world.pending == 0


def test_withdrawn_request_says_so(world: World) -> None:
    with pytest.raises(NotInTime):
        world.perform()
    with world.database.read() as conn:
        (request_id,) = conn.execute(sa.select(release_requests_table.c.intent_id)).scalars()
        withdrawn = release_requests.result_of(conn, request_id)
    assert withdrawn == RequestResult(ok=False, message="withdrawn")
