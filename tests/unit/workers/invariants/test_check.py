"""The check of all invariants: one moment of the database, patience for what has just started, the
topics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import loop
import pytest
import sqlalchemy as sa
from history import NOW, fill, put

from redistill.streams.kafka.broker import Broker
from redistill.streams.store import lease
from redistill.streams.store.database import Database
from redistill.streams.store.tables import outbox as outbox_table
from redistill.times import DAY
from redistill.workers.invariants import check
from redistill.workers.invariants.check import CheckedInvariant
from redistill.workers.invariants.log_offsets import Log
from redistill.workers.invariants.rule import Rule, RuleInput, RuleResult
from redistill.workers.jobs.scheduler import LEASE as SCHEDULER
from redistill.workers.store.tables import activations

BROKER = Broker("127.0.0.1:1")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    fill(opened, tmp_path)
    yield opened
    opened.dispose()


def checked(database: Database, home: Path, **more: Any) -> list[CheckedInvariant]:
    more = {"settle_seconds": 0.0, **more}
    return check.check(database, now=NOW + 2 * DAY, home=home, outbox_kept_us=7 * DAY, **more)


def test_untouched_history_holds_in_all_eight(database: Database, tmp_path: Path) -> None:
    found = checked(database, tmp_path)
    assert [(c.number, c.holds, c.problems, c.more) for c in found] == [
        (n, True, (), 0) for n in range(1, 9)
    ]
    assert len({c.text for c in found}) == 8
    assert found[7].figures["wal_bytes"] == 0  # nobody has the file open


@pytest.mark.parametrize(
    ("is_sqlite", "name", "size"), [(True, "r.db", 3), (True, None, None), (False, "r.db", None)]
)
def test_only_sqlite_files_have_a_log(
    tmp_path: Path, is_sqlite: bool, name: str | None, size: int | None
) -> None:
    (tmp_path / "r.db-wal").write_bytes(b"log")
    url = SimpleNamespace(database=None if name is None else str(tmp_path / name))
    database = SimpleNamespace(is_sqlite=is_sqlite, url=url)
    assert check._wal_bytes(database) == size  # type: ignore[arg-type]


def test_problems_beyond_the_first_are_counted(database: Database, tmp_path: Path) -> None:
    with database.begin() as conn:
        for i in range(30):
            put(
                conn, activations, event_id=f"x{i}", model="credit", instance_id="svc", version="v9",
                sha256="9" * 64, epoch=1, at=NOW,
            )  # fmt: skip
    seventh = checked(database, tmp_path)[6]
    assert not seventh.holds
    assert (len(seventh.problems), seventh.more) == (check.SHOWN, 10)


def starting(database: Database) -> None:
    """Workers that have just started, and an announcement that waited while nobody ran."""
    with database.begin() as conn:
        lease.acquire(conn, SCHEDULER, "w", now=NOW + 2 * DAY - 1, seconds=30)
        conn.execute(sa.update(outbox_table).values(sent_at=None))


def sleeping(
    monkeypatch: pytest.MonkeyPatch, wake: Callable[[int], None] = lambda n: None
) -> list[float]:
    """Time that passes by sleeping only; ``wake`` is called after each sleep with their number."""
    slept: list[float] = []

    class Time:
        @staticmethod
        def sleep(seconds: float) -> None:
            slept.append(seconds)
            wake(len(slept))

        @staticmethod
        def monotonic() -> float:
            return sum(slept)

    monkeypatch.setattr(check, "time", Time)
    return slept


def test_workers_that_have_just_started_may_send_what_waited(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def relay(n: int) -> None:
        if n == 3:
            with database.begin() as conn:
                conn.execute(sa.update(outbox_table).values(sent_at=NOW + 2 * DAY))

    starting(database)
    slept = sleeping(monkeypatch, relay)
    eighth = checked(database, tmp_path, settle_seconds=30.0)[7]
    assert len(slept) == 3
    assert eighth.holds
    assert (eighth.figures["unsent"], eighth.figures["workers"]) == (0, "run")


def test_patience_ends(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starting(database)
    slept = sleeping(monkeypatch)
    assert not checked(database, tmp_path, settle_seconds=1.0)[7].holds
    assert sum(slept) == pytest.approx(1.0, abs=0.25)


def test_nothing_is_waited_for_where_nothing_waits(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = sleeping(monkeypatch)
    assert checked(database, tmp_path, settle_seconds=30.0)[7].holds
    assert slept == []


def broker(
    monkeypatch: pytest.MonkeyPatch, *, end: int, ids: set[str], begin: int = 0
) -> list[str]:
    """A broker with these logs; what is asked of it, in order."""
    asked: list[str] = []

    def logs(_: Broker, topics: Any) -> list[Log]:
        asked.extend(topics)
        if "predictions" in topics:
            return [Log("predictions", "t1", 0, 0, end, end)]
        return [Log("drift", "t2", 0, begin, 1, 1)]

    def event_ids(_: Broker, announced: list[Log]) -> set[str]:
        asked.append("events")
        return ids

    monkeypatch.setattr(check, "logs", logs)
    monkeypatch.setattr(check, "event_ids", event_ids)
    return asked


def event_id(database: Database) -> str:
    with database.read() as conn:
        return str(conn.execute(sa.select(outbox_table.c.event_id)).scalar_one())


def test_topics_are_compared_where_a_broker_is_given(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker(monkeypatch, end=150, ids={event_id(database)})
    first, second, *_ = checked(database, tmp_path, broker=BROKER)
    assert (first.holds, first.figures["pending"], first.figures["counted"]) == (True, 40, 90)
    assert (second.holds, second.figures["announcements"]) == (True, 1)
    assert second.figures["findings"] == 1


def test_what_the_topics_contradict_is_broken(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker(monkeypatch, end=100, ids=set())
    first, second, *_ = checked(database, tmp_path, broker=BROKER)
    assert first.problems == ("predictions/0: counted up to 110, the log ends at 100",)
    assert "is marked as sent, and is not in the topic" in second.problems[0]


def test_topics_that_lost_their_beginning_are_not_read(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = broker(monkeypatch, end=150, ids=set(), begin=1)
    assert checked(database, tmp_path, broker=BROKER)[1].holds
    assert "events" not in asked
    assert set(asked) == {"drift", "incidents", "releases", "predictions", "labels"}


def test_rows_are_read_before_the_topics(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is counted or sent by then must be in them, not the other way round."""
    asked = broker(monkeypatch, end=150, ids={event_id(database)})

    def marked(rule: Rule) -> Rule:
        def look(inputs: RuleInput) -> RuleResult:
            asked.append("rule")
            return rule.check(inputs)

        return replace(rule, check=look)

    monkeypatch.setattr(check, "RULES", tuple(marked(rule) for rule in check.RULES))
    checked(database, tmp_path, broker=BROKER)
    assert asked[:8] == ["rule"] * 8
    assert "rule" not in asked[8:]
