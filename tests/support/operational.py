"""An installation at which operational checks look, and what each of them says of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import loop
import sqlalchemy as sa

from redistill.streams.store import process_rows
from redistill.streams.store.process_rows import TopicLag
from redistill.streams.store.tables import processes, properties
from redistill.workers.alerts.operational.history import History
from redistill.workers.alerts.operational.look import Check, Look
from redistill.workers.alerts.operational.reading import Reading, settle
from redistill.workers.settings.settings import Settings

NOW = loop.NOW


class Watched:
    """A database with rows of the test's, a clock moved by hand, and one check that looks."""

    def __init__(self, url: str, home: Path, **settings: Any) -> None:
        home.mkdir(exist_ok=True)
        self.database = loop.opened(url)
        self.settings = Settings.load({"home": str(home), "database": url, **settings})
        self.now = NOW
        self.history = History()
        self.opened: set[str] = set()

    def insert(self, table: sa.Table, *rows: dict[str, Any]) -> None:
        with self.database.begin() as conn:
            conn.execute(sa.insert(table), list(rows))

    def delete(self, table: sa.Table) -> None:
        with self.database.begin() as conn:
            conn.execute(sa.delete(table))

    def update(self, table: sa.Table, **values: Any) -> None:
        with self.database.begin() as conn:
            conn.execute(sa.update(table).values(**values))

    def look(self, check: Check, later: int = 0) -> dict[str, Reading] | None:
        """Readings by subject, so many microseconds later."""
        self.now += later
        self.history.begin(self.now)
        with self.database.read() as conn:
            found = check(
                Look(conn=conn, settings=self.settings, now=self.now, history=self.history)
            )
        self.history.end()
        return None if found is None else {reading.subject: reading for reading in found}

    def firing(self, check: Check, later: int = 0) -> list[str]:
        """Subjects in trouble after one more look; what is open stays open as it would."""
        found = self.look(check, later)
        settled = settle(None if found is None else found.values(), self.opened)
        self.opened |= {reading.subject for reading in settled.firing}
        self.opened -= settled.ended
        return sorted(self.opened)

    def process(self, name: str, kind: str, *, started: int, seen: int, said: str = "") -> None:
        """A process that was heard of; times before now."""
        self.insert(
            processes,
            {
                "process_id": name, "kind": kind, "started_at": self.now - started,
                "seen_at": self.now - seen, "ready": not said, "said": said,
            },
        )  # fmt: skip

    def lag(self, name: str, topics: Iterable[tuple[str, int, int | None]]) -> None:
        """A stream worker that lives, and is so far behind; by topic, records and the age of the
        oldest of them."""
        self.delete(processes)
        self.delete(properties)
        lag = {
            topic: TopicLag(behind=behind, oldest_at=None if age is None else self.now - age)
            for topic, behind, age in topics
        }
        presence = process_rows.Presence(self.database, "stream", name)
        presence.say(lag=lag)
        self.update(processes, seen_at=self.now)


@contextmanager
def watched(url: str, home: Path, **settings: Any) -> Iterator[Watched]:
    """One for a test."""
    made = Watched(url, home, **settings)
    try:
        yield made
    finally:
        made.database.dispose()
