"""The consumer without a broker: what it does with records, and what it does when something fails."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hostile
import loop
import pytest
import sqlalchemy as sa
from loop import NOW, finding
from structlog.testing import capture_logs

from redistill.streams.errors import BrokerRefused, BrokerUnavailable, StoreUnavailable
from redistill.streams.kafka.broker import Broker
from redistill.streams.kafka.listener import LONGEST_PAUSE_SECONDS, LOOK_SECONDS
from redistill.streams.store.database import Database
from redistill.streams.wire.codec import encode
from redistill.streams.wire.events import PointerMoved, VersionActivated
from redistill.times import utc
from redistill.workers.incidents import event_consumer as module
from redistill.workers.incidents.event_consumer import EventConsumer
from redistill.workers.store.tables import activations

TOPICS = {"drift", "activations"}


class FakeConsumer:
    """Hands out what was sent, once for each consumer that was not committed."""

    def __init__(self, records: list[Any], topics: set[str], site: Site) -> None:
        self.site = site
        self.records, self._topics = records, topics
        self.commits = 0
        self.closed = False

    def topics(self) -> set[str]:
        return self._topics

    def poll(self, timeout_ms: int) -> dict[str, list[Any]]:
        return {"drift-0": list(self.records), "activations-0": []}

    def assignment(self) -> set[str]:
        return {"drift-0"}

    def end_offsets(self, tps: set[str], timeout_ms: int) -> None:
        if self.site.away is not None:
            raise self.site.away

    def commit(self) -> None:
        self.records.clear()
        self.commits += 1

    def close(self, timeout_ms: int) -> None:
        self.closed = True


class Site:
    """A consumer of events with everything around it replaced."""

    def __init__(self, database: Database, *, topics: set[str] = TOPICS) -> None:
        self.database = database
        self.sent: list[Any] = []
        self.made: list[FakeConsumer] = []
        self.found: list[str] = []
        self.topics = topics
        self.now = 0.0
        self.away: Exception | None = None
        self.asked = 0
        self.events = EventConsumer(
            Broker("127.0.0.1:9"), group="g", database=database, on_finding=self.on_finding,
            connect=self.connect, clock=lambda: self.now,
        )  # fmt: skip

    def connect(self, broker: Broker, *names: str, **options: Any) -> FakeConsumer:
        self.asked += 1
        if self.away is not None:
            raise self.away
        assert set(names) == TOPICS
        assert options["group_id"] == "g"
        self.made.append(FakeConsumer(self.sent, self.topics, self))
        return self.made[-1]

    def on_finding(self, finding_id: str) -> None:
        self.found.append(finding_id)

    def send(self, *events: Any) -> None:
        for event in events:
            made = encode(event, source="/test")
            self.sent.append(record(made.topic, made.value, list(made.headers)))

    def activated(self) -> list[Any]:
        with self.database.read() as conn:
            return list(conn.execute(sa.select(activations).order_by(activations.c.at)))


def record(topic: str, value: bytes, headers: list[tuple[str, bytes]]) -> Any:
    return SimpleNamespace(
        topic=topic, partition=3, offset=17, timestamp=0, key=b"credit", value=value, headers=headers
    )  # fmt: skip


def activation(version: str, *, at: int = NOW) -> VersionActivated:
    return VersionActivated(
        model="credit", instance_id="svc-1", version=version, sha256="ab" * 32, epoch=4, at=utc(at)
    )


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = loop.opened(f"sqlite:///{tmp_path / 'events.db'}")
    yield opened
    opened.dispose()


@pytest.fixture
def site(database: Database) -> Site:
    return Site(database)


def test_findings_are_handed_over_once_a_poll_and_activations_are_stored(site: Site) -> None:
    first, second = finding(), finding()
    site.send(first, activation("v1"), second, first, activation("v2", at=NOW + 1))
    site.events.run_once()
    assert site.found == [str(first.finding_id), str(second.finding_id)]
    assert [(a.version, a.instance_id, a.epoch, a.at) for a in site.activated()] == [
        ("v1", "svc-1", 4, NOW),
        ("v2", "svc-1", 4, NOW + 1),
    ]
    assert site.made[0].commits == 1


def test_activation_that_comes_again_is_stored_once(site: Site) -> None:
    site.send(activation("v1"))
    again = list(site.sent)
    site.events.run_once()
    site.sent.extend(again)
    site.events.run_once()
    assert len(site.activated()) == 1


def test_record_that_cannot_be_read_is_told_with_its_place_and_skipped(site: Site) -> None:
    known = finding()
    site.sent.append(record("drift", b"\x00rubbish", []))
    site.send(known)
    with capture_logs() as lines:
        site.events.run_once()
    assert site.found == [str(known.finding_id)]
    (line,) = lines
    assert (line["action"], line["topic"], line["partition"], line["offset"]) == (
        "record_unreadable", "drift", 3, 17,
    )  # fmt: skip


def test_strange_records_are_left_out_and_those_beside_them_are_stored(site: Site) -> None:
    """A structured event has no header for its id; a header's value may be null."""
    strange = hostile.strange_records(lambda i: activation(f"v{i}", at=NOW + i))
    site.send(activation("first", at=NOW - 1))
    site.sent += [record("activations", value, headers) for value, headers in strange]  # type: ignore[arg-type]
    site.send(activation("last", at=NOW + 99))
    with capture_logs() as lines:
        site.events.run_once()
    stored = [a.version for a in site.activated()]
    assert stored == ["first", *(f"v{i}" for i in hostile.READABLE), "last"]
    assert {a.event_id for a in site.activated()} >= {"structured-1"}
    assert {line["action"] for line in lines} == {"record_unreadable"}
    assert site.made[0].commits == 1


def test_unreadable_records_are_told_once_a_minute_for_each_kind(site: Site) -> None:
    with capture_logs() as lines:
        for _ in range(3):
            site.sent += [record("drift", b"rubbish", []) for _ in range(50)]
            site.events.run_once()
    assert len(lines) == 1
    assert lines[0]["log_level"] == "warning"


def test_record_that_our_own_code_chokes_on_is_an_error_and_left_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.microseconds

    def choking(at: Any) -> int:
        if real(at) == NOW + 1:
            raise ZeroDivisionError("a defect")
        return real(at)

    monkeypatch.setattr(module, "microseconds", choking)
    site.send(activation("v1"), activation("v2", at=NOW + 1), activation("v3", at=NOW + 2))
    with capture_logs() as lines:
        site.events.run_once()
    assert [a.version for a in site.activated()] == ["v1", "v3"]
    (line,) = lines
    assert (line["log_level"], line["offset"]) == ("error", 17)
    assert "ZeroDivisionError at " in line["error"]


def test_activation_that_no_column_holds_is_left_out_alone(site: Site) -> None:
    huge = dataclasses.replace(activation("v2"), epoch=2**63)
    site.send(activation("v1"), huge, activation("v3", at=NOW + 1))
    site.events.run_once()
    assert [a.version for a in site.activated()] == ["v1", "v3"]
    assert site.made[0].commits == 1


def test_event_of_another_type_is_passed_over(site: Site) -> None:
    known = finding()
    moved = PointerMoved(
        model="credit", stable="v1", stable_sha256="ab" * 32, epoch=1, reason="r", at=utc(NOW)
    )
    site.send(moved, known)
    site.events.run_once()
    assert (site.found, site.activated()) == ([str(known.finding_id)], [])


def test_empty_poll_commits_nothing(site: Site) -> None:
    assert site.events.run_once()
    assert site.made[0].commits == 0


def test_finding_that_fails_does_not_hold_up_the_others(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, good = finding(), finding()
    site.send(broken, good)

    def handle(finding_id: str) -> None:
        if finding_id == str(broken.finding_id):
            raise LookupError("a defect of ours")
        site.found.append(finding_id)

    monkeypatch.setattr(site.events, "_on_finding", handle)
    with capture_logs() as lines:
        site.events.run_once()
    assert site.found == [str(good.finding_id)]
    assert site.made[0].commits == 1
    (line,) = lines
    assert (line["action"], line["finding_id"]) == ("finding_failed", str(broken.finding_id))


def test_nothing_is_committed_when_the_database_is_away_and_all_comes_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.send(finding())

    def away(finding_id: str) -> None:
        raise StoreUnavailable("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(site.events, "_on_finding", away)
        with pytest.raises(StoreUnavailable):
            site.events.run_once()
    assert (site.made[0].commits, site.made[0].closed) == (0, True)
    site.events.run_once()
    assert len(site.made) == 2  # kafka-python's consumer is not trusted after an error
    assert len(site.found) == 1


def test_broker_that_fails_is_asked_by_a_new_consumer(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any, **__: Any) -> Any:
        raise BrokerUnavailable("nobody listens")

    with monkeypatch.context() as patch:
        patch.setattr(site.events, "_connect", unreachable)
        with pytest.raises(BrokerUnavailable):
            site.events.run_once()
    site.send(activation("v1"))
    site.events.run_once()
    assert len(site.activated()) == 1


def test_topics_that_are_not_there_are_named(database: Database) -> None:
    site = Site(database, topics={"drift"})
    with pytest.raises(BrokerRefused, match=r"activations: .*redistill topics apply"):
        site.events.run_once()
    assert site.made[0].closed


def test_close_leaves_the_group_whatever_that_says(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.events.run_once()

    def fails(timeout_ms: int) -> None:
        raise OSError("broken pipe")

    monkeypatch.setattr(site.made[0], "close", fails)
    site.events.close()
    site.events.close()


def test_broker_that_is_away_is_noticed_and_no_consumer_kept_beside_it(site: Site) -> None:
    """kafka-python would say nothing, and spin where one is frozen."""
    site.events.run_once()
    site.away = BrokerUnavailable("it does not answer")
    site.now = LOOK_SECONDS - 1
    assert site.events.run_once()
    site.now = LOOK_SECONDS
    for _ in range(3):
        with pytest.raises(BrokerUnavailable, match="does not answer"):
            site.events.run_once()
    assert (len(site.made), site.made[0].closed, site.asked) == (1, True, 3)
    site.away = None
    site.send(activation("v1"))
    assert site.events.run_once()
    assert len(site.activated()) == 1


def test_broker_that_refuses_is_asked_seldom_and_its_words_are_said_meanwhile(site: Site) -> None:
    site.away = BrokerRefused("bad password")
    for _ in range(600):
        site.now += 1
        with pytest.raises(BrokerRefused, match="bad password"):
            site.events.run_once()
    assert site.asked < 20
    site.away = None
    site.now += LONGEST_PAUSE_SECONDS
    assert site.events.run_once()
