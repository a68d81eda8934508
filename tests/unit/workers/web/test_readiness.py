"""Readiness is told at once, whatever the database does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.settings.settings import Settings
from redistill.workers.store import opening
from redistill.workers.web import readiness
from redistill.workers.web.readiness import Readiness


class Stuck:
    """A database that accepts whoever asks, and answers when it is let."""

    def __init__(self, database: opening.Database) -> None:
        self._database = database
        self.may = threading.Event()
        self.asked = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._database, name)

    def read(self) -> object:
        """Wait, and then read."""
        self.asked += 1
        self.may.wait()
        return self._database.read()


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[Stuck]:
    database = opening.open(Settings.load({"home": tmp_path}))
    made = Stuck(database)
    yield made
    made.may.set()
    database.dispose()


def ready(stuck: Stuck, tmp_path: Path) -> Readiness:
    return Readiness(stuck, RepositoryLayout(tmp_path))  # type: ignore[arg-type]


def test_a_database_that_hangs_is_told_to_all_by_one_question(
    stuck: Stuck, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "ANSWER_SECONDS", 0.05)
    seen = ready(stuck, tmp_path)

    async def ask() -> list[list[str]]:
        return await asyncio.gather(*(seen.problems() for _ in range(100)))

    told = asyncio.run(ask())
    assert all("the database has not answered for" in problems[0] for problems in told)
    assert stuck.asked == 1


def test_a_verdict_is_believed_while_the_next_is_slow_to_come(
    stuck: Stuck, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = ready(stuck, tmp_path)
    monkeypatch.setattr(readiness, "ANSWER_SECONDS", 60.0)
    stuck.may.set()
    assert asyncio.run(seen.problems()) == []
    stuck.may.clear()
    monkeypatch.setattr(readiness, "ANSWER_SECONDS", 0.01)
    monkeypatch.setattr(readiness, "SLOW_SECONDS", 3_600.0)
    assert asyncio.run(seen.problems()) == []
    monkeypatch.setattr(readiness, "SLOW_SECONDS", 0.0)
    assert "has not answered" in asyncio.run(seen.problems())[0]
