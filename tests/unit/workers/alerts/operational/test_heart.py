"""The heart at work: it beats, stops, and says why."""

from __future__ import annotations

from collections.abc import Iterator

import loop
import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from redistill.streams.store import lease, properties, relay
from redistill.streams.store.database import Database
from redistill.streams.store.process_rows import SILENT_US, Presence
from redistill.streams.store.tables import outbox, processes
from redistill.times import HOUR
from redistill.workers.alerts.alert import Alert
from redistill.workers.alerts.channels.channel import DeliveryFailed
from redistill.workers.alerts.operational import heart as module
from redistill.workers.alerts.operational.heart import Heart, HeartState, signs


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    database = loop.opened(database_url)
    yield database
    database.dispose()


class Receiver:
    """Takes beats, or does not."""

    def __init__(self) -> None:
        self.beats: list[Alert] = []
        self.deaf = False

    def __call__(self, alert: Alert) -> None:
        if self.deaf:
            raise DeliveryFailed("nobody answers")
        self.beats.append(alert)


def state(db: Database) -> HeartState:
    with db.read() as conn:
        told = module.state(conn)
    assert told is not None
    return told


def test_heart_beats_until_a_process_is_silent_and_says_so_once(db: Database) -> None:
    for kind in ("stream", "repair", "alerts"):
        Presence(db, kind, kind).say()  # type: ignore[arg-type]
    receiver = Receiver()
    heart = Heart(db, receiver, own_id="alerts")
    with capture_logs() as lines:
        heart.run_once()
        heart.run_once()
        assert len(receiver.beats) == 2
        first = state(db)
        assert (first.why, first.error) == ((), None)
        assert first.sent_at is not None
        with db.begin() as conn:
            conn.execute(
                sa.update(processes)
                .where(processes.c.kind == "stream")
                .values(seen_at=processes.c.seen_at - 2 * SILENT_US)
            )
        heart.run_once()
        heart.run_once()
        assert len(receiver.beats) == 2
        assert state(db).why[0].startswith("no stream process lives")
        assert state(db).sent_at == state(db).sent_at
        Presence(db, "stream", "another").say()
        heart.run_once()
        assert len(receiver.beats) == 3
    assert [line["action"] for line in lines] == ["heart_beats", "heart_stopped", "heart_beats"]


def test_a_channel_that_takes_no_beat_is_written_down(db: Database) -> None:
    for kind in ("stream", "repair", "alerts"):
        Presence(db, kind, kind).say()  # type: ignore[arg-type]
    receiver = Receiver()
    heart = Heart(db, receiver, own_id="alerts")
    heart.run_once()
    sent_at = state(db).sent_at
    receiver.deaf = True
    with pytest.raises(DeliveryFailed):
        heart.run_once()
    assert (state(db).sent_at, state(db).error) == (sent_at, "nobody answers")
    receiver.deaf = False
    heart.run_once()
    assert state(db).error is None


def test_nothing_is_known_before_the_first_beat(db: Database) -> None:
    with db.read() as conn:
        assert module.state(conn) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"why": 3}', '{"why": [], "more": 1}'])
def test_heart_beats_although_what_it_did_last_cannot_be_read(db: Database, text: str) -> None:
    for kind in ("stream", "repair", "alerts"):
        Presence(db, kind, kind).say()  # type: ignore[arg-type]
    with db.begin() as conn:
        properties.put(conn, "heartbeat", text)
    receiver = Receiver()
    Heart(db, receiver, own_id="alerts").run_once()
    assert len(receiver.beats) == 1
    assert state(db).why == ()


def test_signs_are_the_lease_of_the_relay_and_what_could_be_sent(db: Database) -> None:
    with db.begin() as conn:
        assert signs(conn, "a").relay_at is signs(conn, "a").waits_since is None
        token = lease.acquire(conn, relay.LEASE, "us", now=loop.NOW, seconds=5)
        assert token is not None
        lease.release(conn, relay.LEASE, token)
        event = {"topic": "drift", "key": "", "headers": "{}", "value": b""}
        for event_id, after, at in (("a", 99, 0), ("b", None, HOUR)):
            conn.execute(
                sa.insert(outbox).values(
                    **event | {"key": event_id}, event_id=event_id, after_snapshot=after,
                    created_at=loop.NOW + at,
                )
            )  # fmt: skip
        found = signs(conn, "a")
        again = lease.acquire(conn, relay.LEASE, "us", now=loop.NOW + HOUR, seconds=5)
        assert again is not None
        tried = signs(conn, "a")
    assert (found.relay_at, found.waits_since, found.untried_since) == (
        loop.NOW, loop.NOW + HOUR, loop.NOW + HOUR,
    )  # fmt: skip
    assert (tried.waits_since, tried.untried_since) == (loop.NOW + HOUR, None)
