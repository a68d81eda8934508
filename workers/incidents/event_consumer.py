"""Consumer of ``drift`` (what to look up) and ``activations`` (who serves what).

Neither is needed for anything to be right: findings are read from SQL, and activations are shown
to people. So whatever the broker does, the worker goes on; offsets are committed after SQL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import structlog

from redistill.quiet import Quiet
from redistill.streams.errors import BrokerRefused, StreamsError, WireError
from redistill.streams.kafka.broker import Broker, consumer
from redistill.streams.store.database import Database, insert_ignore
from redistill.streams.wire.codec import identified
from redistill.streams.wire.events import TOPICS, DriftFound, VersionActivated
from redistill.streams.wire.reading import is_ours, read_each
from redistill.times import microseconds
from redistill.workers.store.tables import activations

__all__ = ["EventConsumer"]

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.5
"""A poll returns at once when there are records; this only bounds how late a stop is noticed."""

MAX_RECORDS = 500


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
        self._quiet = Quiet()

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
        told, unreadable = read_each(records, _told)
        findings = dict.fromkeys(one for one in told if isinstance(one, str))
        unreadable += self._store([one for one in told if isinstance(one, _Activation)])
        for raw, why in unreadable:
            self._left_out(raw, why)
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

    def _store(self, served: list[_Activation]) -> list[tuple[Any, WireError]]:
        """Store activations; returns those that the database does not take, as no column may."""
        if not served:
            return []
        try:
            self._insert([one.row for one in served])
        except Exception as error:
            if is_ours(error):
                raise
            _, refused = read_each(served, lambda one: self._insert([one.row]))
            return [(one.record, why) for one, why in refused]
        return []

    def _insert(self, rows: list[dict[str, Any]]) -> None:
        with self._database.begin() as conn:
            conn.execute(insert_ignore(activations), rows)

    def _left_out(self, raw: Any, why: WireError) -> None:
        """Say of a record that it could not be read, once a minute for each topic and kind."""
        if (more := self._quiet.ask(f"{raw.topic} {why.kind}")) is None:
            return
        say = log.error if why.code == "failed" else log.warning
        say(
            "record_unreadable",
            action="record_unreadable",
            topic=raw.topic,
            partition=raw.partition,
            offset=raw.offset,
            error=str(why),
            more=more,
        )


class _Activation(NamedTuple):
    record: Any
    row: dict[str, Any]


def _told(raw: Any) -> str | _Activation | None:
    """What a record says: the id of a finding, or who serves what; ``None``: neither."""
    event_id, event = identified(raw)
    if isinstance(event, DriftFound):
        return str(event.finding_id)
    if not isinstance(event, VersionActivated):
        return None
    row = {
        "event_id": event_id,
        "model": event.model,
        "instance_id": event.instance_id,
        "version": event.version,
        "sha256": event.sha256,
        "epoch": event.epoch,
        "at": microseconds(event.at),
    }
    return _Activation(raw, row)
