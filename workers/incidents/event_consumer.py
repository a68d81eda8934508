"""Consumer of ``drift`` (what to look up) and ``activations`` (who serves what).

Neither is needed for anything to be right: findings are read from SQL, and activations are shown
to people. So whatever the broker does, the worker goes on; offsets are committed after SQL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog

from redistill.streams.errors import BrokerRefused, StreamsError, WireError
from redistill.streams.kafka.broker import Broker, consumer
from redistill.streams.store.database import Database, insert_ignore
from redistill.streams.wire.codec import Record, decode
from redistill.streams.wire.events import TOPICS, DriftFound, VersionActivated
from redistill.times import microseconds
from redistill.workers.store.tables import activations

__all__ = ["EventConsumer"]

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.5
"""A poll returns at once when there are records; this only bounds how late a stop is noticed."""

MAX_RECORDS = 500

HEADER = "ce_id"


class EventConsumer:
    """A consumer that is made when it is needed and again after every failure.

    Parameters
    ----------
    broker
        Where.
    group
        Consumer group; one for all repair workers of an installation.
    database
        Where activations are stored.
    on_finding
        Called with the id of each finding that was announced, once per poll and id.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        group: str,
        database: Database,
        on_finding: Callable[[str], Any],
        connect: Callable[..., Any] = consumer,
    ) -> None:
        self._broker = broker
        self._group = group
        self._database = database
        self._on_finding = on_finding
        self._connect = connect
        self._consumer: Any = None

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
        try:
            if self._consumer is None:
                self._open()
            polled = self._consumer.poll(timeout_ms=round(POLL_SECONDS * 1_000))
            batches = [(tp, list(records)) for tp, records in polled.items() if records]
            if not batches:
                return True
            self._handle([r for _, records in batches for r in records])
            self._consumer.commit()
        except Exception:
            self._drop()  # kafka-python: an unguarded poll or commit may never work again
            raise
        return True

    def _open(self) -> None:
        names = [self._broker.topic(TOPICS[event]) for event in (DriftFound, VersionActivated)]
        self._consumer = self._connect(
            self._broker, *names, group_id=self._group, max_poll_records=MAX_RECORDS
        )
        missing = sorted(set(names) - self._consumer.topics())
        if missing:  # kafka-python would wait for them in silence
            raise BrokerRefused(
                f"the broker does not show the topics {', '.join(missing)}: make them with"
                " `redistill topics apply`, or allow this user to read them"
            )

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

    def _handle(self, records: list[Any]) -> None:
        findings: dict[str, None] = {}
        served: list[dict[str, Any]] = []
        for raw in records:
            try:
                event = decode(_record(raw))
            except WireError as error:
                log.warning(
                    "record_unreadable",
                    action="record_unreadable",
                    topic=raw.topic,
                    partition=raw.partition,
                    offset=raw.offset,
                    error=str(error),
                )
                continue
            if isinstance(event, DriftFound):
                findings[str(event.finding_id)] = None
            elif isinstance(event, VersionActivated):
                headers = dict(raw.headers or ())
                served.append(
                    {
                        "event_id": headers[HEADER].decode(),
                        "model": event.model,
                        "instance_id": event.instance_id,
                        "version": event.version,
                        "sha256": event.sha256,
                        "epoch": event.epoch,
                        "at": microseconds(event.at),
                    }
                )
        if served:
            with self._database.begin() as conn:
                conn.execute(insert_ignore(activations), served)
        for finding_id in findings:
            try:
                self._on_finding(finding_id)
            except StreamsError:
                raise
            except Exception as error:
                # One finding that cannot be handled must not hold up the topic: the reconciler sees
                # it again, and says so.
                log.exception(
                    "finding_failed",
                    action="finding_failed",
                    finding_id=finding_id,
                    error=str(error),
                )


def _record(raw: Any) -> Record:
    return Record(
        topic=raw.topic,
        partition=raw.partition,
        offset=raw.offset,
        timestamp_ms=raw.timestamp,
        key=raw.key,
        value=raw.value,
        headers=raw.headers or (),
    )
