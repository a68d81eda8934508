"""PagerDuty: incidents there by its Events API v2 (``/v2/enqueue``, ``/v2/change/enqueue``).

Fields and limits as PagerDuty's documentation has them: developer.pagerduty.com, *Events API v2*.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from redistill.workers.alerts.alert import Alert, Severity, State
from redistill.workers.alerts.channels.address import Address, parse, url_of
from redistill.workers.alerts.channels.called import Called, revealed
from redistill.workers.alerts.channels.exchange import Answer
from redistill.workers.alerts.channels.kind import ALERTS, ChannelKind
from redistill.workers.alerts.channels.option import option
from redistill.workers.alerts.channels.secret import Secret, secret_of
from redistill.workers.alerts.channels.text import clean, iso, title

__all__ = ["KIND"]

ACTIONS: Mapping[State, str] = {
    "firing": "trigger",
    "acknowledged": "acknowledge",
    "resolved": "resolve",
}
SEVERITIES: Mapping[Severity, str] = {"page": "critical", "warn": "warning", "info": "info"}
MOST_SUMMARY, MOST_KEY = 1_024, 255


def source_of(value: object) -> str:
    """Reader of the name under which we speak."""
    if not isinstance(value, str) or not value.strip() or len(value) > 255:
        raise ValueError("a name of at most 255 characters was expected")
    return value.strip()


@dataclass(frozen=True, kw_only=True)
class Options(Called):
    """Keys of ``kind = "pagerduty"``."""

    routing_key: Secret = option(
        secret_of, "integration key of the service (Events API v2), as env:NAME or file:/PATH"
    )
    url: Address = option(
        url_of,
        "where the API is, without /v2; `https://events.eu.pagerduty.com` in Europe",
        default=parse("https://events.pagerduty.com"),
    )
    source: str = option(source_of, "what PagerDuty shows as the source", default="redistill")

    def __post_init__(self) -> None:
        self.usable(self.url)


class PagerDuty:
    """One incident there per alert, found again by ``dedup_key``; releases are change events."""

    in_place = True
    repeat_seconds: float | None = None

    def __init__(self, options: Options) -> None:
        self._options = options

    def send(self, alert: Alert, *, seconds: float) -> None:
        """As ``Channel`` says."""
        options = self._options
        change = alert.kind == "change"
        event = _change(alert, options.source) if change else _event(alert, options.source)
        answer = options.call(
            "POST",
            options.url.at("/v2/change/enqueue" if change else "/v2/enqueue"),
            seconds=seconds,
            headers={"Content-Type": "application/json"},
            body=json.dumps({"routing_key": revealed(options.routing_key), **event}).encode(),
        )
        answer.check("PagerDuty", _said(answer))


def dedup_key(key: str) -> str:
    """An alert's key, or what stands for one that is too long there.

    Examples
    --------
    >>> dedup_key("incident:1"), len(dedup_key("x" * 300))
    ('incident:1', 64)
    """
    return key if len(key) <= MOST_KEY else hashlib.sha256(key.encode()).hexdigest()


def _event(alert: Alert, source: str) -> dict[str, object]:
    event: dict[str, object] = {
        "event_action": ACTIONS[alert.state],
        "dedup_key": dedup_key(alert.key),
        "payload": {
            "summary": clean(title(alert), MOST_SUMMARY),
            "source": source,
            "severity": SEVERITIES[alert.severity],
            "timestamp": iso(alert.opened_at),
            "component": clean(alert.model or "redistill"),
            "class": clean(alert.alert_class),
            "custom_details": _details(alert),
        },
        "client": "redistill",
    }
    return event | _links(alert, {"client_url": alert.url})


def _change(alert: Alert, source: str) -> dict[str, object]:
    """Change events have neither severity nor an action."""
    event: dict[str, object] = {
        "payload": {
            "summary": clean(alert.title, MOST_SUMMARY),
            "source": source,
            "timestamp": iso(alert.opened_at),
            "custom_details": _details(alert),
        }
    }
    return event | _links(alert, {})


def _links(alert: Alert, more: Mapping[str, object]) -> dict[str, object]:
    if not alert.url:
        return {}
    return {"links": [{"href": alert.url, "text": "its page in redistill"}], **more}


def _details(alert: Alert) -> dict[str, object]:
    said: dict[str, object] = {
        "version": clean(alert.version or ""),
        "how bad": clean(alert.how_bad),
        "since": clean(alert.began),
        "where": clean(alert.where),
        "done": clean(alert.done),
        "type": [clean(command) for command in alert.commands],
        "alerts": [clean(member, 300) for member in alert.members[:100]],
    }
    return {name: value for name, value in said.items() if value}


def _said(answer: Answer) -> str:
    """Its reasons, in the fields that the API has for them."""
    try:
        told = json.loads(answer.body)
    except ValueError:
        return ""
    if not isinstance(told, dict):
        return ""
    errors = told.get("errors")
    reasons = [told.get("message"), *(errors if isinstance(errors, list) else [])]
    return clean("; ".join(r for r in reasons if isinstance(r, str)), 200)


KIND = ChannelKind(
    name="pagerduty",
    said="PagerDuty's Events API v2: trigger, acknowledge, resolve, change events",
    options=Options,
    make=PagerDuty,
    carries=ALERTS,
)
