"""The check of all invariants: one moment of the database, patience for what has just started, the
topics."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from history import NOW, put

from redistill.streams.kafka.broker import Broker
from redistill.streams.store import lease
from redistill.streams.store.database import Database
from redistill.streams.store.tables import outbox as outbox_table
from redistill.times import DAY
from redistill.workers.invariants import announcements, bounds, check, releases, streams
from redistill.workers.invariants.check import CheckedInvariant
from redistill.workers.invariants.rule import RuleInput, RuleResult
from redistill.workers.invariants.topic_facts import ANNOUNCED, Announced, Log, digest
from redistill.workers.jobs.scheduler import LEASE as SCHEDULER
from redistill.workers.store.tables import activations

BROKER = Broker("127.0.0.1:1")


@pytest.fixture(autouse=True)
def own_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The history is made up: it has what these parts ask for."""
    parts = {
        1: (streams.counted_once, streams.against_logs),
        2: (streams.nothing_lost, announcements.outbox_and_topics),
        7: (releases.served_only_pointed,),
        8: (bounds.bounded,),
    }
    rules = tuple(replace(rule, parts=parts.get(rule.number, ())) for rule in check.RULES)
    monkeypatch.setattr(check, "RULES", rules)


def checked(database: Database, home: Path, **more: Any) -> list[CheckedInvariant]:
    more = {"settle_seconds": 0.0, **more}
    return check.check(database, now=NOW + 2 * DAY, home=home, outbox_kept_us=7 * DAY, **more)


def test_rules_are_numbered_and_say_what_they_prove() -> None:
    assert [rule.number for rule in check.RULES] == list(range(1, len(check.RULES) + 1))
    assert len({rule.text for rule in check.RULES}) == len(check.RULES)


def test_only_sqlite_has_a_log_of_no_size_where_nobody_has_the_file_open(
    database: Database, tmp_path: Path
) -> None:
    assert checked(database, tmp_path)[7].figures["wal_bytes"] == 0


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


@dataclass
class FakeBroker:
    """A broker with these logs, and what is asked of it, in order."""

    end: int = 150
    begin: int = 0
    records: list[Announced] | None = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def logs(self, _: Broker, topics: Any) -> list[Log]:
        self.asked += topics
        if "predictions" in topics:
            return [Log("predictions", "t1", 0, 0, self.end, self.end)]
        return [Log(t, "t2", 0, self.begin, 1, 1) for t in topics if t == "drift"]

    def announced(
        self, _: Broker, logs: list[Log], *, before: dict[tuple[str, int], int]
    ) -> list[Announced] | None:
        self.asked.append("records")
        assert before == {("drift", 0): 1}
        return self.records if logs else []


def use(monkeypatch: pytest.MonkeyPatch, fake: FakeBroker) -> FakeBroker:
    monkeypatch.setattr(check.log_offsets, "logs", fake.logs)
    monkeypatch.setattr(check.log_offsets, "announced", fake.announced)
    return fake


def row(database: Database) -> Any:
    with database.read() as conn:
        return conn.execute(sa.select(outbox_table).where(outbox_table.c.topic == "drift")).one()


def record(database: Database) -> Announced:
    """Its announcement, as it stands in the topic."""
    found = row(database)
    headers = [(k, v.encode()) for k, v in json.loads(found.headers).items()]
    content = digest(found.key.encode(), bytes(found.value), headers)
    return Announced(topic="drift", event_id=found.event_id, digest=content, at=NOW)


def test_topics_are_compared_where_a_broker_is_given(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, FakeBroker(records=[record(database)]))
    first, second, *_ = checked(database, tmp_path, broker=BROKER)
    assert (first.holds, first.figures["pending"], first.figures["counted"]) == (True, 40, 90)
    assert (second.holds, second.figures["announcements"]) == (True, 3)
    assert second.figures["findings"] == 1


def test_what_the_topics_contradict_is_broken(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, FakeBroker(end=100))
    first, second, *_ = checked(database, tmp_path, broker=BROKER)
    assert first.problems == ("predictions/0: counted up to 110, the log ends at 100",)
    assert "is marked as sent, and is not in the topic" in second.problems[0]


@pytest.mark.parametrize("fake", [FakeBroker(begin=1), FakeBroker(records=None)])
def test_topics_that_lost_their_beginning_or_take_too_long_prove_nothing(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake: FakeBroker
) -> None:
    use(monkeypatch, fake)
    assert checked(database, tmp_path, broker=BROKER)[1].holds
    assert set(fake.asked) == {*ANNOUNCED, "predictions", "labels", "records"}


def test_rows_are_read_between_the_ends_of_the_topics_and_their_records(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stood in the topics before is in the rows; what is sent by then is in the topics."""
    fake = use(monkeypatch, FakeBroker(records=[record(database)]))

    def look(inputs: RuleInput) -> RuleResult:
        fake.asked.append("rule")
        return RuleResult()

    rules = tuple(replace(rule, parts=(look,)) for rule in check.RULES)
    monkeypatch.setattr(check, "RULES", rules)
    checked(database, tmp_path, broker=BROKER)
    begin, end = len(ANNOUNCED), len(ANNOUNCED) + len(rules)
    assert fake.asked[:begin] == list(ANNOUNCED)
    assert fake.asked[begin:end] == ["rule"] * len(rules)
    assert "rule" not in fake.asked[end:]
