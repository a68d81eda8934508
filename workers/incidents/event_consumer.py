"""Consumer of ``drift`` (what to look up) and ``activations`` (who serves what).

Neither is needed for anything to be right: findings are read from SQL, and activations are shown
to people. So whatever the broker does, the worker goes on; offsets are committed after SQL.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import structlog

from redistill.quiet import Quiet
from redistill.streams.errors import StreamsError, WireError
from redistill.streams.kafka.broker import Broker, consumer
from redistill.streams.kafka.listener import TopicListener
from redistill.streams.store.database import Database, insert_ignore
from redistill.streams.wire.codec import identified
from redistill.streams.wire.events import TOPICS, DriftFound, VersionActivated
from redistill.streams.wire.reading import is_ours, read_each
from redistill.times import microseconds
from redistill.workers.store.tables import activations

__all__ = ["EventConsumer"]

log = structlog.get_logger(__name__)


class EventConsumer(TopicListener):
    """Looks findings up and stores activations as they are announced.

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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        topics = [TOPICS[event] for event in (DriftFound, VersionActivated)]
        super().__init__(
            broker, topics, group=group, handle=self._take, connect=connect, clock=clock
        )
        self._database = database
        self._on_finding = on_finding
        self._quiet = Quiet()

    def _take(self, records: list[Any]) -> None:
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
