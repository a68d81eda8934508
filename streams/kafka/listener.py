"""Listener on topics: a consumer that is made when it is needed and again after every failure.

What it hears is never needed for anything to be right, so whatever the broker does, its process
goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from redistill.streams.errors import BrokerRefused
from redistill.streams.kafka.broker import Broker, cause, consumer

__all__ = ["LONGEST_PAUSE_SECONDS", "LOOK_SECONDS", "TopicListener"]

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.5
"""A poll returns at once when there are records; this only bounds how late a stop is noticed."""

LOOK_SECONDS, ANSWER_MS = 5.0, 3_000
"""After so long without a record the broker is asked for something. kafka-python says nothing of
one that is away and leaves sockets open while it tries again; where one is frozen it takes half a
processor and 10 MB more each second. So no consumer is kept beside a broker that is away."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
"""Between two tries while the broker refuses us."""

MAX_RECORDS = 500


class TopicListener:
    """Polls topics and hands over what came.

    Parameters
    ----------
    broker
        Where.
    topics
        Of the wire contract, without the namespace.
    group
        Consumer group, which commits what was handled; ``None``: none, and only what comes from
        now on is heard.
    handle
        Given the records of a poll; what it raises lets them come again, in a group.
    """

    def __init__(
        self,
        broker: Broker,
        topics: Sequence[str],
        *,
        group: str | None,
        handle: Callable[[list[Any]], None],
        connect: Callable[..., Any] = consumer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._broker = broker
        self._topics = [broker.topic(name) for name in topics]
        self._group = group
        self._handle = handle
        self._connect = connect
        self._consumer: Any = None
        self._clock = clock
        self._heard_at = 0.0
        self._refused: BrokerRefused | None = None
        self._refused_until = 0.0
        self._pause = FIRST_PAUSE_SECONDS

    def run_once(self) -> bool:
        """Poll once and handle what came.

        Returns
        -------
        bool
            True: a poll waits by itself, so that the next may follow at once.

        Raises
        ------
        BrokerUnavailable, BrokerRefused
            With the cause; the next call tries again.
        StreamsError
            SQL could not be written: nothing was committed, the records come again.
        """
        if self._refused is not None and self._clock() < self._refused_until:
            raise self._refused
        try:
            if self._consumer is None:
                self._open()
            polled = self._consumer.poll(timeout_ms=round(POLL_SECONDS * 1_000))
            batches = [(tp, list(records)) for tp, records in polled.items() if records]
            if not batches:
                self._look()
                return True
            self._heard()
            self._handle([r for _, records in batches for r in records])
            if self._group is not None:
                self._consumer.commit()
        except Exception as error:
            self._drop()  # kafka-python: an unguarded poll or commit may never work again
            if not type(error).__module__.startswith("kafka."):
                self._rest(error)
                raise
            why = cause(error, self._broker)
            self._rest(why)
            raise why from error
        return True

    def _rest(self, error: Exception) -> None:
        """Ask a broker that refuses us seldom: somebody has to do something first."""
        if not isinstance(error, BrokerRefused):
            return
        self._pause = min(LONGEST_PAUSE_SECONDS, 2 * self._pause)
        self._refused, self._refused_until = error, self._clock() + self._pause

    def _look(self) -> None:
        """Whether the broker is still there."""
        if self._clock() - self._heard_at < LOOK_SECONDS:
            return
        try:
            self._consumer.end_offsets(self._consumer.assignment(), timeout_ms=ANSWER_MS)
        except Exception as error:
            raise cause(error, self._broker) from error
        self._heard()

    def _heard(self) -> None:
        self._heard_at = self._clock()
        self._refused, self._pause = None, FIRST_PAUSE_SECONDS

    def _open(self) -> None:
        start = {} if self._group is not None else {"auto_offset_reset": "latest"}
        self._consumer = self._connect(
            self._broker,
            *self._topics,
            group_id=self._group,
            max_poll_records=MAX_RECORDS,
            **start,
        )
        missing = sorted(set(self._topics) - self._consumer.topics())
        if missing:  # kafka-python would wait for them in silence
            raise BrokerRefused(
                f"the broker does not show the topics {', '.join(missing)}: make them with"
                " `redistill topics apply`, or allow this user to read them"
            )
        self._heard_at = self._clock()

    def close(self) -> None:
        """Leave the group."""
        self._drop()

    def _drop(self) -> None:
        if self._consumer is not None:
            try:
                self._consumer.close(timeout_ms=1_000)
            except Exception as error:  # it is being thrown away
                log.debug("consumer_close_failed", action="consumer_close_failed", error=str(error))
            self._consumer = None
