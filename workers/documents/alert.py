"""Alert as a document: what people are told now, who has it, and what each channel knows of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from redistill.workers.alerts.alert import Alert
from redistill.workers.documents.document import iso
from redistill.workers.store.alert_deliveries import Delivery

__all__ = ["AlertLine", "DeliveryLine", "HoldDocument", "TrialLine", "line_of_alert"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryLine:
    """What a channel was told of an alert."""

    channel: str
    """Its name in alerts.toml."""
    state: str
    """`owed`, `held` (for now), `told`, or `given_up` (it is tried once an hour)."""
    told_at: str | None
    """When it was told last; `null`: never."""
    owed_since: str | None
    """Since when it is owed what it was not told; `null`: it knows all."""
    tries: int
    """Failed ones in a row."""
    next_try_at: str | None
    """`null`: none has failed."""
    error: str | None
    """Of the last failed one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertLine:
    """An alert that is open."""

    key: str
    """`incident:ID`, `storm:ID`, `feed:ID` or `operational:ID`: what `incidents ack` and `snooze`
    take."""
    kind: str
    """`incident`, `storm` or `operational`."""
    alert_class: str
    """`harm`, `data_bug`, ... of incidents and storms; else what is wrong, such as `disk`."""
    state: str
    """`firing` or `acknowledged`: somebody has it in hand, or it rests."""
    severity: str
    """`page`, `warn` or `info`."""
    model: str | None
    """`null`: it concerns no one model."""
    title: str
    done: str
    """What redistill did, and who has it in hand."""
    opened_at: str
    url: str | None
    """Of its page."""
    members: list[str]
    """Of a storm, in words."""
    channels: list[DeliveryLine]
    """Empty: nobody was told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialLine:
    """What came of a test of a channel."""

    channel: str
    seconds: float
    error: str | None
    """`null`: it arrived."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HoldDocument:
    """Who has an alert in hand, or until when it rests."""

    key: str
    actor: str
    snoozed_until: str | None
    """`null`: it is acknowledged."""


def line_of_alert(alert: Alert, told: Iterable[Delivery]) -> AlertLine:
    """An alert in its present state, with its deliveries."""
    return AlertLine(
        key=alert.key,
        kind=alert.kind,
        alert_class=alert.alert_class,
        state=alert.state,
        severity=alert.severity,
        model=alert.model,
        title=alert.title,
        done=alert.done,
        opened_at=str(iso(alert.opened_at)),
        url=alert.url,
        members=list(alert.members),
        channels=[_line(row) for row in told],
    )


def _line(row: Delivery) -> DeliveryLine:
    return DeliveryLine(
        channel=row.channel,
        state=row.state,
        told_at=iso(row.sent_at),
        owed_since=iso(row.wanted_at) if row.state == "owed" else None,
        tries=row.tries,
        next_try_at=iso(row.not_before) if row.tries else None,
        error=row.error,
    )
