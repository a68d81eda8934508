from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from stream_rows import new_database
from structlog.testing import capture_logs

from redistill.streams.errors import BrokerRefused, BrokerUnavailable
from redistill.streams.kafka.broker import Broker
from redistill.streams.store import lease, outbox, properties
from redistill.streams.store import relay as module
from redistill.streams.store.database import Database
from redistill.streams.store.relay import (
    FIRST_PAUSE,
    LEASE,
    LONGEST_REFUSED_PAUSE,
    REFUSED_RECORD_SECONDS,
    Relay,
    relay,
)
from redistill.streams.store.tables import leases
from redistill.streams.wire.events import PointerMoved, VersionActivated
from redistill.times import to_seconds

NOW = 1_800_000_000_000_000
AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    db = new_database(database_url)
    yield db
    db.dispose()


@dataclass
class Sent:
    """A topic in memory. ``refuse`` names models whose records are not acknowledged."""

    records: list[tuple[str, str, str]] = field(default_factory=list)
    refuse: set[str] = field(default_factory=set)
    closed: bool = False

    def send(self, topic: str, value: Any = None, key: Any = None, headers: Any = None) -> Any:
        model = key.decode()
        refused = model in self.refuse
        if not refused:
            self.records.append((topic, model, dict(headers)["ce_id"].decode()))

        class Answer:
            def get(self, timeout: float | None = None) -> None:
                if refused:
                    raise TimeoutError(f"{model} was not acknowledged")

        return Answer()

    def close(self, timeout: float | None = None) -> None:
        self.closed = True


def activated(model: str) -> VersionActivated:
    return VersionActivated(
        model=model, instance_id="i", version="1", sha256="0" * 64, epoch=1, at=AT
    )


def pointer(model: str, epoch: int) -> PointerMoved:
    return PointerMoved(
        model=model, stable="1", stable_sha256="0" * 64, epoch=epoch, reason="x", at=AT
    )


def add(db: Database, *events: Any, **options: Any) -> None:
    with db.begin() as conn:
        for event in events:
            outbox.add(conn, event, source="/test", now=NOW, **options)


def backlog(db: Database) -> outbox.Backlog:
    with db.read() as conn:
        return outbox.backlog(conn)


def test_rows_go_out_in_order_once(db: Database) -> None:
    add(db, activated("a"), activated("b"))
    add(db, activated("c"))
    assert backlog(db) == outbox.Backlog(3, NOW)
    sent = Sent()
    assert relay(db, sent, namespace="n").sent == 3
    assert relay(db, sent, namespace="n").sent == 0
    assert [(t, m) for t, m, _ in sent.records] == [("n.activations", m) for m in "abc"]
    assert backlog(db) == outbox.Backlog(0, None)


def test_event_of_a_transaction_that_failed_is_never_sent(db: Database) -> None:
    def fail() -> None:
        with db.begin() as conn:
            outbox.add(conn, activated("a"), source="/test", now=NOW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert backlog(db).rows == 0


def test_pointer_waits_for_its_snapshot_and_holds_back_only_what_follows_it(db: Database) -> None:
    add(db, pointer("a", 1), after_snapshot=5)
    add(db, pointer("b", 1), activated("a"))
    add(db, pointer("a", 2), after_snapshot=3)
    with db.begin() as conn:
        properties.put(conn, properties.PUBLISHED_SNAPSHOT, "4")
    sent = Sent()
    assert relay(db, sent).sent == 2
    assert [(t, m) for t, m, _ in sent.records] == [("pointers", "b"), ("activations", "a")]
    with db.begin() as conn:
        properties.put(conn, properties.PUBLISHED_SNAPSHOT, "5")
    assert relay(db, sent).sent == 2
    assert [(t, m) for t, m, _ in sent.records[2:]] == [("pointers", "a")] * 2


def test_blocked_rows_do_not_starve_others_beyond_the_limit(db: Database) -> None:
    for epoch in range(1, 20):
        add(db, pointer("a", epoch), after_snapshot=9)
    add(db, activated("z"))
    assert relay(db, Sent(), limit=5).sent == 1


def test_what_was_not_acknowledged_is_sent_again_with_the_same_id(db: Database) -> None:
    add(db, activated("a"), activated("b"), activated("c"))
    sent = Sent(refuse={"b"})
    done = relay(db, sent)
    assert (done.sent, str(done.failed["activations"])) == (2, "b was not acknowledged")
    assert backlog(db).rows == 1
    sent.refuse.clear()
    assert relay(db, sent).sent == 1
    assert len({i for _, _, i in sent.records}) == 3


def test_only_the_holder_of_the_lease_sends(db: Database) -> None:
    add(db, activated("a"))
    with db.begin() as conn:
        token = lease.acquire(conn, LEASE, "other", now=NOW, seconds=60)
    assert relay(db, Sent(), holder="me", clock=lambda: to_seconds(NOW)).sent == 0
    with db.begin() as conn:
        lease.release(conn, LEASE, token or 0)
    assert relay(db, Sent(), holder="me", clock=lambda: to_seconds(NOW)).sent == 1


def test_relay_that_is_gone_holds_up_nobody_when_it_was_between_rounds(db: Database) -> None:
    add(db, activated("a"))
    assert relay(db, Sent(), holder="killed afterwards", clock=lambda: to_seconds(NOW)).sent == 1
    add(db, activated("b"))
    assert relay(db, Sent(), holder="me", clock=lambda: to_seconds(NOW)).sent == 1


def test_relay_gives_the_lease_back_when_the_broker_fails(db: Database) -> None:
    add(db, activated("a"))

    class Refuses(Sent):
        def send(self, *args: Any, **kwargs: Any) -> Any:
            raise OSError("away")

    done = relay(db, Refuses(), holder="first", clock=lambda: to_seconds(NOW))
    assert (done.sent, str(done.failed["activations"])) == (0, "away")
    assert relay(db, Sent(), holder="second", clock=lambda: to_seconds(NOW)).sent == 1


def test_relays_in_many_threads_send_each_row_once(db: Database) -> None:
    add(db, *(activated(f"m{i}") for i in range(50)))
    sent = Sent()
    relays = [Relay(db, Broker("none:1"), holder=str(i), make=lambda _: sent) for i in range(4)]

    def work(r: Relay) -> None:
        for _ in range(5):
            r.run_once(limit=7)

    threads = [threading.Thread(target=work, args=(r,)) for r in relays]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    while relays[0].run_once() or backlog(db).rows:
        relays[0].close()
        for r in relays[1:]:
            r.close()
    assert len(sent.records) == len({i for _, _, i in sent.records}) == 50


class Now:
    """A monotonic clock."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_relay_makes_a_new_producer_after_a_failure(db: Database, broker: list[Any]) -> None:
    add(db, activated("a"))
    made = [Sent(refuse={"a"}), Sent()]
    given = iter(made)
    now = Now()
    r = Relay(db, Broker("none:1"), holder="h", make=lambda _: next(given), monotonic=now)
    assert (r.run_once(), r.failures, made[0].closed) == (0, 1, True)
    assert (r.run_once(), r.failures) == (0, 1), "it rests"
    now.seconds = FIRST_PAUSE
    assert (r.run_once(), r.failures) == (1, 0)
    r.close()
    with db.read() as conn:
        assert lease.holder_of(conn, LEASE, NOW) is None


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the handshake says; ``None``: it lets us in."""
    said: list[Any] = [None]
    monkeypatch.setattr(module, "check", lambda broker: said[0])
    return said


@pytest.mark.parametrize(
    ("why", "tries"), [(BrokerUnavailable("away"), (100, 140)), (BrokerRefused("no"), (10, 20))]
)
def test_broker_that_is_away_is_asked_every_few_seconds_and_one_that_refuses_seldom(
    db: Database, why: Exception, tries: tuple[int, int]
) -> None:
    add(db, activated("a"))
    asked = 0

    def make(_: Broker) -> Any:
        nonlocal asked
        asked += 1
        raise why

    now = Now()
    r = Relay(db, Broker("none:1"), holder="h", make=make, monotonic=now)
    with capture_logs() as said:
        for i in range(6_000):
            now.seconds = i / 10
            r.run_once()
    assert tries[0] <= asked <= tries[1]
    assert [x["action"] for x in said] == ["relay_failed"] * 4, "at once, after 1, 3 and 7 minutes"


def test_relay_that_finds_no_broker_is_seen_to_try_and_holds_no_other_up(
    db: Database, broker: list[Any]
) -> None:
    def away(_: Broker) -> Any:
        raise BrokerUnavailable("nobody is there")

    def renewed_at() -> int:
        with db.read() as conn:
            return conn.execute(sa.select(leases.c.renewed_at)).scalar() or 0

    now = Now()
    r = Relay(
        db, Broker("none:1"), holder="h", make=away, monotonic=now,
        clock=lambda: to_seconds(NOW) + now.seconds,
    )  # fmt: skip
    assert (r.run_once(), renewed_at()) == (0, 0), "an idle one writes nothing"
    add(db, activated("a"))
    seen = []
    for _ in range(3):
        r.run_once()
        seen.append(renewed_at())
        now.seconds += LONGEST_REFUSED_PAUSE
        with db.read() as conn:
            assert lease.holder_of(conn, LEASE, seen[-1]) is None
    assert seen == sorted(set(seen)), "each try is a sign of life"


class GuardedTopics(Sent):
    """Topics that may not be written, or do not take what is large."""

    closed_topics: frozenset[str] = frozenset({"activations"})
    large = "x" * 200

    def send(self, topic: str, value: Any = None, key: Any = None, headers: Any = None) -> Any:
        if topic in self.closed_topics:
            raise TopicAuthorizationFailedError(topic)
        if self.large in value.decode():
            raise MessageSizeTooLargeError("too large")
        return super().send(topic, value, key, headers)


class TopicAuthorizationFailedError(Exception):
    """As kafka-python names it."""


class MessageSizeTooLargeError(Exception):
    """As kafka-python names it."""


def test_topic_that_is_refused_holds_up_no_other(db: Database, broker: list[Any]) -> None:
    add(db, *(activated(f"m{i}") for i in range(10)), pointer("b", 1))
    sent, now = GuardedTopics(), Now()
    r = Relay(db, Broker("none:1"), holder="h", make=lambda _: sent, monotonic=now)
    with capture_logs() as said:
        assert r.run_once(limit=5) == 0, "its rows are the first"
        assert r.run_once(limit=5) == 1
    assert [m for _, m, _ in sent.records] == ["b"]
    assert [(x["action"], x["topic"]) for x in said] == [("relay_failed", "activations")]
    assert "TopicAuthorizationFailedError" in said[0]["error"] or "permission" in said[0]["error"]
    sent.closed_topics = frozenset()
    now.seconds = LONGEST_REFUSED_PAUSE
    assert r.run_once() == 10
    assert (r.failures, backlog(db).rows) == (0, 0)


def test_record_that_the_broker_does_not_take_holds_up_nothing(
    db: Database, broker: list[Any]
) -> None:
    add(db, replace(activated("a"), instance_id="x" * 200), activated("a"), activated("b"))
    sent, now = GuardedTopics(), Now()
    sent.closed_topics = frozenset()
    r = Relay(db, Broker("none:1"), holder="h", make=lambda _: sent, monotonic=now)
    with capture_logs() as said:
        assert r.run_once() == 2
        assert r.run_once() == 0
    assert [(x["action"], x["log_level"]) for x in said] == [("event_refused", "error")]
    assert backlog(db).rows == 1, "it is not forgotten"
    sent.large = "y" * 200  # somebody raised the limit
    now.seconds = REFUSED_RECORD_SECONDS
    assert r.run_once() == 1
    assert backlog(db).rows == 0


def test_pointer_that_is_not_taken_holds_back_its_topic(db: Database, broker: list[Any]) -> None:
    """Only the last record of a key matters there: an older one must not come later."""
    add(db, pointer("a", 1), pointer("a", 2))
    sent = GuardedTopics()
    sent.closed_topics, sent.large = frozenset(), '"epoch":1'
    r = Relay(db, Broker("none:1"), holder="h", make=lambda _: sent)
    assert (r.run_once(), r.failures) == (0, 1)
    assert sent.records == []


def test_producer_without_work_is_closed(db: Database, broker: list[Any]) -> None:
    """Beside a broker that is away kafka-python would go on trying, and say so."""
    made: list[Sent] = []

    def make(_: Broker) -> Sent:
        made.append(Sent())
        return made[-1]

    now = Now()
    r = Relay(db, Broker("none:1"), holder="h", make=make, monotonic=now)
    for seconds, sent in ((0, 1), (50, 1), (100, 0), (110, 0), (200, 1)):
        now.seconds = seconds
        if sent:
            add(db, activated("a"))
        assert r.run_once() == sent
    assert [m.closed for m in made] == [True, False]
