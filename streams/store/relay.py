"""Relay of the outbox: sends what is unsent, in order, and marks it afterwards.

A crash in between sends it again: *at least once*, with the same ``ce_id``, so consumers drop what
they have seen. One relay works at a time (lease ``relay``): two would break the order.

What goes wrong with one topic (missing, not ours to write, without enough replicas) holds up that
topic; a record that the broker will not take whatever we do (too large for the topic) holds up
nothing, and is tried again seldom, since somebody may raise the limit. A broker that is away is
asked every few seconds, one that refuses us less and less.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from redistill.quiet import Quiet
from redistill.streams.errors import (
    BrokerRefused,
    BrokerUnavailable,
    LeaseError,
    StoreUnavailable,
    StreamsError,
)
from redistill.streams.kafka.broker import Broker, cause, check, close_producer, producer
from redistill.streams.store import lease, outbox
from redistill.streams.store.database import Database
from redistill.streams.store.outbox_send import Producer, Round, send
from redistill.times import to_us

__all__ = ["LEASE", "Relay", "relay"]

log = structlog.get_logger(__name__)

LEASE = "relay"
LEASE_SECONDS = 15.0
"""Longer than a round takes to send, so that one that is sending keeps it. It is given back after
each round: a process that was killed between two rounds holds up nobody.
"""

FIRST_PAUSE, LONGEST_PAUSE, LONGEST_REFUSED_PAUSE = 0.5, 5.0, 60.0
"""Seconds without a try after one that failed; the longest where somebody has to do something."""
AGAIN_SECONDS, LONGEST_AGAIN_SECONDS = 60.0, 4 * 3_600.0
"""Between two lines about the same failure: twice as long each time."""
IDLE_SECONDS = 60.0
"""A producer without work is closed: beside a broker that is away it would go on trying, say so ten
times a minute and leave sockets open."""
REFUSED_RECORD_SECONDS = 600.0
MOST_REFUSED_RECORDS = 1_000
"""Records that are passed over; where there are more, their topic is at fault."""


def relay(
    database: Database,
    sender: Producer,
    *,
    limit: int = 500,
    namespace: str = "",
    holder: str = "relay",
    clock: Callable[[], float] | None = None,
    without_topics: Collection[str] = (),
    without_rows: Collection[int] = (),
) -> Round:
    """Send what is unsent, if no other process is doing it.

    Rows go out in the order in which they were added. A row that waits for a snapshot holds back
    only what follows it under the same topic and key; one that fails, what follows it in its topic.

    Parameters
    ----------
    database
        Where the outbox is.
    sender
        ``acks=all``, one request in flight (see :func:`open_producer`), so that a retry keeps the
        order.
    limit
        Rows of one round.
    namespace
        Put in front of the topics.
    holder
        Name under which the lease is taken; unique per process.
    clock
        Seconds since 1970; ``None``: the database's.
    without_topics, without_rows
        Topics, and ``seq`` of rows, that are passed over.

    Returns
    -------
    Round
        Nothing was sent also when somebody else holds the lease.

    Raises
    ------
    StoreUnavailable
        What was acknowledged meanwhile may be sent again.
    """
    clock = clock or database.clock.seconds
    out = Round()

    def ready(most: int) -> list[Mapping[str, Any]]:
        with database.read() as conn:
            return outbox.ready(
                conn, most, without_topics=without_topics, without_rows=without_rows
            )

    if not ready(1):  # an idle relay writes nothing, not even its lease
        return out
    with database.begin() as conn:
        token = lease.acquire(conn, LEASE, holder, now=to_us(clock()), seconds=LEASE_SECONDS)
    if token is None:
        return out
    acknowledged = send(sender, ready(limit), namespace, out)
    now = to_us(clock())
    with database.begin() as conn:
        try:
            lease.check(conn, LEASE, token, now)
        except LeaseError:
            # Another relay may have sent them as well by now. They were acknowledged: marking
            # them is right.
            log.warning("relay_slow", action="relay_slow", rows=len(acknowledged))
        outbox.mark_sent(conn, acknowledged, now=now)
        lease.release(conn, LEASE, token)
    out.sent = len(acknowledged)
    return out


def _of_topic(broker: Broker, topic: str, error: Exception) -> StreamsError:
    """What is wrong with a topic of a broker that lets us in."""
    name = type(error).__name__
    if "AuthorizationFailed" in name or "Topic" in name:
        return cause(error, broker)
    return BrokerUnavailable(
        f"records of {broker.topic(topic)} are not taken: {error!r}; is the topic there"
        " (`redistill topics apply --dry-run`), and may this user write to it?"
    )


def open_producer(broker: Broker) -> Any:
    """A ``KafkaProducer`` as the relay wants it.

    Not idempotent: such a producer never recovers from a broker that lost its state, and consumers
    drop repetitions by ``ce_id`` anyway. One request in flight keeps the order over retries.
    """
    return producer(
        broker,
        enable_idempotence=False,
        max_in_flight_requests_per_connection=1,
        max_block_ms=3_000,
        request_timeout_ms=4_000,
        delivery_timeout_ms=7_000,
    )


@dataclass(frozen=True, slots=True)
class _Rest:
    """What is not tried until then."""

    until: float
    pause: float


class Relay:
    """A relay with a producer of its own, made when it is first needed and again after a failure.

    Parameters
    ----------
    database, broker
        From where, and where to.
    holder
        Unique per process.
    make
        Makes the producer.
    clock, monotonic
        Seconds since 1970; seconds between which waits are measured.
    """

    def __init__(
        self,
        database: Database,
        broker: Broker,
        *,
        holder: str,
        make: Callable[[Broker], Any] = open_producer,
        clock: Callable[[], float] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._broker = broker
        self._holder = holder
        self._make = make
        self._clock = clock or database.clock.seconds
        self._monotonic = monotonic
        self._producer: Any = None
        self._resting: dict[str, _Rest] = {}  # by topic; "": all of them
        self._refused: dict[int, float] = {}  # when a row may be tried again
        self._quiet = Quiet()
        self._said: dict[str, _Rest] = {}  # by topic, when its failure may be said again
        self._used_at = 0.0
        self.failures = 0
        """Rounds in a row in which something failed; 0 after a good one."""

    def run_once(self, *, limit: int = 500) -> int:
        """One round of :func:`relay`; what went wrong is logged and tried again in a later round.

        Returns
        -------
        int
            Rows sent.

        Raises
        ------
        StoreUnavailable
            The database is away.
        """
        now = self._monotonic()
        if now < self._until(""):
            return 0
        self._refused = {seq: until for seq, until in self._refused.items() if now < until}
        try:
            if self._producer is None:
                with self._database.read() as conn:
                    if outbox.backlog(conn).rows == 0:
                        return 0
                self._say_at_work()
                self._producer = self._make(self._broker)
                self._used_at = now
            done = relay(
                self._database,
                self._producer,
                limit=limit,
                namespace=self._broker.namespace,
                holder=self._holder,
                clock=self._clock,
                without_topics=[t for t in self._resting if t and now < self._until(t)],
                without_rows=self._refused,
            )
        except StoreUnavailable:
            raise  # which says so itself; nothing is wrong with the producer
        except Exception as error:  # kafka-python has no base class; all is sent again
            self._failed("", error)
            return 0
        self._look_at(done)
        return done.sent

    def _say_at_work(self) -> None:
        """Take the lease and give it back: whoever looks for a sign of a relay (the dead man's
        switch) sees one that tries, also while no broker is there to make a producer for."""
        with self._database.begin() as conn:
            now = to_us(self._clock())
            token = lease.acquire(conn, LEASE, self._holder, now=now, seconds=LEASE_SECONDS)
            if token is not None:
                lease.release(conn, LEASE, token)

    def _look_at(self, done: Round) -> None:
        """Remember what failed, and say so."""
        for row, error in done.refused.values():
            self._not_taken(row, error)
        if done.sent:
            self._used_at = self._monotonic()
        if not done.failed:
            if done.sent:
                self.failures = 0
                self._resting.clear()
                self._said.clear()
            elif self._monotonic() - self._used_at >= IDLE_SECONDS:
                self._drop_producer()
            return
        if done.sent:
            self._resting.pop("", None)
        elif (away := check(self._broker)) is not None:
            self._failed("", away)
            return
        for topic, raised in done.failed.items():
            self._failed(topic, _of_topic(self._broker, topic, raised))

    def _failed(self, topic: str, error: Exception) -> None:
        """Let one topic, or all of them, rest."""
        self.failures += 1
        known = self._resting.get(topic)
        pause = FIRST_PAUSE if known is None else 2 * known.pause
        somebody = topic or isinstance(error, BrokerRefused)
        pause = min(pause, LONGEST_REFUSED_PAUSE if somebody else LONGEST_PAUSE)
        self._resting[topic] = _Rest(self._monotonic() + pause, pause)
        self._drop_producer()  # one that failed may never work again
        now = self._monotonic()
        said = self._said.get(topic)
        if said is not None and now < said.until:
            return
        again = AGAIN_SECONDS if said is None else min(LONGEST_AGAIN_SECONDS, 2 * said.pause)
        self._said[topic] = _Rest(now + again, again)
        log.warning(
            "relay_failed",
            action="relay_failed",
            topic=topic or None,
            failures=self.failures,
            error=str(error) if isinstance(error, StreamsError) else repr(error),
        )

    def _not_taken(self, row: Mapping[str, Any], error: Exception) -> None:
        """Pass over a row that the broker does not take."""
        if len(self._refused) >= MOST_REFUSED_RECORDS:
            self._failed(row["topic"], BrokerRefused(f"records are not taken: {error}"))
            return
        self._refused[row["seq"]] = self._monotonic() + REFUSED_RECORD_SECONDS
        if (more := self._quiet.ask(f"{row['topic']} too large")) is not None:
            log.error(
                "event_refused",
                action="event_refused",
                topic=row["topic"],
                seq=row["seq"],
                bytes=len(row["value"]),
                error=str(error),
                hint="the broker does not take it: raise the topic's max.message.bytes"
                " (`redistill topics apply` says what it should be); it is tried again every ten"
                " minutes, and holds up nothing",
                more=more,
            )

    def _until(self, topic: str) -> float:
        rest = self._resting.get(topic)
        return 0.0 if rest is None else rest.until

    def close(self) -> None:
        """Give the lease back and close the producer."""
        self._drop_producer()
        now = to_us(self._clock())
        try:
            with self._database.begin() as conn:
                if lease.holder_of(conn, LEASE, now) == self._holder:
                    token = lease.acquire(conn, LEASE, self._holder, now=now, seconds=1.0)
                    if token is not None:
                        lease.release(conn, LEASE, token)
        except Exception as error:  # it ends, and a lease runs out by itself
            log.info("relay_lease_kept", action="relay_lease_kept", error=str(error))

    def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            close_producer(producer)
