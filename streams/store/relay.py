"""Relay of the outbox: sends what is unsent, in order, and marks it afterwards.

A crash in between sends it again: *at least once*, with the same ``ce_id``, so consumers drop what
they have seen. One relay works at a time (lease ``relay``): two would break the order.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Protocol

import structlog

from redistill.streams.errors import LeaseError
from redistill.streams.kafka.broker import Broker, producer
from redistill.streams.store import lease, outbox
from redistill.streams.store.database import Database
from redistill.times import to_us

__all__ = ["LEASE", "Relay", "relay"]

log = structlog.get_logger(__name__)

LEASE = "relay"
LEASE_SECONDS = 15.0
"""Longer than ``SEND_SECONDS``, so that one that is sending keeps it. It is given back after each
round: a process that was killed between two rounds holds up nobody.
"""

SEND_SECONDS = 8.0
"""How long a round waits for the broker's acknowledgements."""


class Future(Protocol):
    """What a producer answers."""

    def get(self, timeout: float | None = None) -> Any:
        """Wait for the acknowledgement; raises what went wrong."""


class Producer(Protocol):
    """The part of ``kafka.KafkaProducer`` that the relay uses."""

    def send(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        headers: list[tuple[str, bytes]] | None = None,
    ) -> Future:
        """Hand over one record."""


def relay(
    database: Database,
    sender: Producer,
    *,
    limit: int = 500,
    namespace: str = "",
    holder: str = "relay",
    clock: Callable[[], float] = time.time,
) -> int:
    """Send what is unsent, if no other process is doing it.

    Rows go out in the order in which they were added. A row that waits for a snapshot holds back
    only what follows it under the same topic and key.

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
        Seconds since 1970.

    Returns
    -------
    int
        Rows sent and marked; 0 also when somebody else holds the lease.

    Raises
    ------
    Exception
        What the producer said. Rows acknowledged before are marked; the others stay unsent.
    """
    with database.read() as conn:
        if not outbox.ready(conn, 1):  # an idle relay writes nothing, not even its lease
            return 0
    with database.begin() as conn:
        token = lease.acquire(conn, LEASE, holder, now=to_us(clock()), seconds=LEASE_SECONDS)
    if token is None:
        return 0
    with database.read() as conn:
        rows = outbox.ready(conn, limit)
    prefix = f"{namespace}." if namespace else ""
    deadline = clock() + SEND_SECONDS
    acknowledged: list[int] = []
    failure: Exception | None = None
    pending: list[tuple[int, Future]] = []
    try:
        for row in rows:
            headers = [(k, v.encode()) for k, v in json.loads(row["headers"]).items()]
            sent = sender.send(
                prefix + row["topic"],
                value=bytes(row["value"]),
                key=row["key"].encode() or None,
                headers=headers,
            )
            pending.append((row["seq"], sent))
    except Exception as error:
        failure = error
    for seq, future in pending:
        try:
            future.get(timeout=max(0.0, deadline - clock()))
        except Exception as error:
            failure = failure or error
        else:
            acknowledged.append(seq)
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
    if failure is not None:
        raise failure
    return len(acknowledged)


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
    """

    def __init__(
        self,
        database: Database,
        broker: Broker,
        *,
        holder: str,
        make: Callable[[Broker], Any] = open_producer,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._broker = broker
        self._holder = holder
        self._make = make
        self._clock = clock
        self._producer: Any = None
        self.failures = 0
        """Failed rounds in a row; 0 after a good one."""

    def run_once(self, *, limit: int = 500) -> int:
        """One round of :func:`relay`; what went wrong is logged and tried again in a later round.

        Returns
        -------
        int
            Rows sent.
        """
        try:
            if self._producer is None:
                with self._database.read() as conn:
                    if outbox.backlog(conn).rows == 0:
                        return 0
                self._producer = self._make(self._broker)
            sent = relay(
                self._database,
                self._producer,
                limit=limit,
                namespace=self._broker.namespace,
                holder=self._holder,
                clock=self._clock,
            )
        except Exception as error:
            self.failures += 1
            if self.failures in (1, 10) or self.failures % 100 == 0:
                log.warning(
                    "relay_failed",
                    action="relay_failed",
                    failures=self.failures,
                    error=f"{type(error).__name__}: {error}",
                )
            self._drop_producer()
            return 0
        self.failures = 0
        return sent

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
        except Exception as error:
            log.info("relay_lease_kept", action="relay_lease_kept", error=str(error))

    def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close(timeout=1)
