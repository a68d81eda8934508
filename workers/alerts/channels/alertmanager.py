"""Alertmanager: alerts to Prometheus' Alertmanager, by its API v2 (``/api/v2/alerts``).

An alert there is its labels; what is told under others is another alert. It fires until its
``endsAt``, so what goes on is told again in time. A cluster is told member by member: a channel
for each, as its manual has it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from redistill.times import now_us, to_seconds, to_us
from redistill.workers.alerts.alert import Alert, Severity
from redistill.workers.alerts.channels.called import Url
from redistill.workers.alerts.channels.channel import DeliveryFailed
from redistill.workers.alerts.channels.exchange import Answer
from redistill.workers.alerts.channels.kind import ALERTS, HEARTBEAT, ChannelKind
from redistill.workers.alerts.channels.option import number, option
from redistill.workers.alerts.channels.text import clean, iso, plain

__all__ = ["KIND"]

SEVERITIES: Mapping[Severity, str] = {"page": "critical", "warn": "warning", "info": "info"}
"""Ours -> the words that routing trees of Prometheus usually have."""
NAMES = {
    "incident": "RedistillIncident",
    "storm": "RedistillStorm",
    "operational": "RedistillOperational",
    "change": "RedistillChange",
    "heartbeat": "RedistillWatchdog",
    "test": "RedistillTest",
}
REPEATS = 4
"""So often an alert that goes on is told within the time that one telling lasts, as Prometheus
does: three may be lost."""
LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
RESERVED = frozenset({"alertname", "redistill_key", "severity", "class", "model"})
MOST_REMEMBERED = 10_000


def labels_of(value: object) -> Mapping[str, str]:
    """Reader of further labels."""
    if not isinstance(value, Mapping) or not all(isinstance(v, str) for v in value.values()):
        raise ValueError('a table of texts was expected, like { team = "ml" }')
    for name in value:
        if not LABEL.fullmatch(name) or name in RESERVED:
            raise ValueError(f"{name!r} is no name of a label, or one that redistill sets")
    return dict(value)


@dataclass(frozen=True, kw_only=True)
class Options(Url):
    """Keys of ``kind = "alertmanager"``."""

    lasts_seconds: float = option(
        number(20, 3_600),
        "so long Alertmanager counts an alert as firing after we last told it; what goes on is"
        " told four times in that time",
        default=240.0,
    )
    labels: Mapping[str, str] = option(labels_of, "further labels of every alert", default=None)


class Alertmanager:
    """Tells firing alerts again every ``repeat_seconds``."""

    in_place = True

    def __init__(self, options: Options) -> None:
        self._options = options
        self.repeat_seconds: float | None = options.lasts_seconds / REPEATS
        self._told: dict[str, Mapping[str, str]] = {}
        """Key -> labels. What another process told under other labels ends by itself."""

    def send(self, alert: Alert, *, seconds: float) -> None:
        """As ``Channel`` says; where labels changed, the alert with the old ones is ended."""
        options, now = self._options, now_us()
        current = _labels(alert, options.labels or {})
        posted = [_posted(alert, current, now, options.lasts_seconds)]
        before = self._told.get(alert.key)
        if before is not None and before != current:
            posted.append({**posted[0], "labels": before, "endsAt": iso(_end(alert, now))})
        answer = options.call(
            "POST",
            options.address().at("/api/v2/alerts"),
            seconds=seconds,
            headers={"Content-Type": "application/json", **options.credentials()},
            body=json.dumps(posted).encode(),
        )
        answer.check("Alertmanager", _said(answer))
        self._remember(alert, current)
        if alert.state != "resolved":
            _check_clock(answer, now, options.lasts_seconds)

    def _remember(self, alert: Alert, current: Mapping[str, str]) -> None:
        self._told.pop(alert.key, None)
        if alert.state != "resolved":
            self._told[alert.key] = current
            if len(self._told) > MOST_REMEMBERED:
                del self._told[next(iter(self._told))]


def _labels(alert: Alert, more: Mapping[str, str]) -> Mapping[str, str]:
    """What makes it this alert, and what routes look at. An empty label is no label there."""
    of_alert = {
        "alertname": NAMES[alert.kind],
        "redistill_key": alert.key,
        # the word of Prometheus' own watchdog, which routing trees know
        "severity": "none" if alert.kind == "heartbeat" else SEVERITIES[alert.severity],
        "class": clean(alert.alert_class),
        "model": clean(alert.model or ""),
    }
    return {**more, **{name: value for name, value in of_alert.items() if value}}


def _end(alert: Alert, now: int) -> int:
    """When a resolved alert ended: never before it began, which is refused."""
    ended = now if alert.resolved_at is None else alert.resolved_at
    return max(ended, alert.opened_at)


def _posted(
    alert: Alert, own: Mapping[str, str], now: int, lasts_seconds: float
) -> dict[str, object]:
    """One alert of the API's ``postableAlerts``."""
    resolved = alert.state == "resolved" and alert.kind != "change"
    if resolved:
        end = _end(alert, now)
    else:
        end = max(now, alert.opened_at) + to_us(lasts_seconds)
    said = {
        "summary": clean(alert.title),
        "description": plain(alert),
        "state": alert.state,
        "how_bad": clean(alert.how_bad),
        "where": clean(alert.where),
        "done": clean(alert.done),
        "version": clean(alert.version or ""),
        "commands": "\n".join(map(clean, alert.commands)),
    }
    posted: dict[str, object] = {
        "labels": own,
        "annotations": {name: text for name, text in said.items() if text},
        "startsAt": iso(alert.opened_at),
        "endsAt": iso(end),
    }
    return posted | ({"generatorURL": alert.url} if alert.url else {})


def _said(answer: Answer) -> str:
    """Its reason: a JSON text, as the API has it."""
    try:
        reason = json.loads(answer.body)
    except ValueError:
        return ""
    return clean(reason, 200) if isinstance(reason, str) else ""


def _check_clock(answer: Answer, now: int, lasts_seconds: float) -> None:
    """An alert whose end has passed by the receiver's clock is resolved there, and nobody hears.

    Raises
    ------
    DeliveryFailed
        The clocks differ by half of what an alert lasts.
    """
    if answer.clock is None:
        return
    ahead = to_seconds(answer.clock - now)
    if ahead * 2 > lasts_seconds:
        raise DeliveryFailed(
            f"the clock of Alertmanager is {ahead:.0f} s ahead of this machine's, so that it takes"
            f" what fires for resolved: mend the clocks, or raise `lasts_seconds`"
        )


KIND = ChannelKind(
    name="alertmanager",
    said="Prometheus' Alertmanager, by its API v2",
    options=Options,
    make=Alertmanager,
    carries=ALERTS | HEARTBEAT,
)
