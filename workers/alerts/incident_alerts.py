"""Alerts made of rows: what SQL knows of an incident, of trouble with the installation, or of a
pointer, in the words that people read. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from redistill.streams.wire import sentences
from redistill.times import utc
from redistill.workers.alerts.alert import Alert, Severity
from redistill.workers.incidents.broken_feeds import breakages
from redistill.workers.incidents.summary import summarised
from redistill.workers.store import alert_holds

__all__ = [
    "CHANGES",
    "between",
    "of_change",
    "of_incident",
    "of_operational",
    "one_line",
    "severity_of",
    "trial",
]

Row = Mapping[str, Any]

LONGEST = 600
"""Characters of one field: a reason may list many columns."""
CHANGES = {
    "publish": "{now} serves in place of {before}",
    "rollback": "rolled back from {before} to {now}",
    "automatic_rollback": "rolled back from {before} to {now} by redistill: it was worse",
}


def severity_of(incident: Row) -> Severity:
    """A person is needed now for a data bug, which no training repairs, and for what awaits a
    person; what redistill repairs or watches can wait until somebody is awake."""
    pages = incident["stage"] == "awaiting_person" or incident["incident_class"] == "data_bug"
    return "page" if pages else "warn"


def of_incident(incident: Row, findings: Sequence[Row], public_url: str | None) -> Alert:
    """The alert of an incident.

    Parameters
    ----------
    incident
        A row of ``incidents``.
    findings
        Bodies of its findings (``streams.wire.events.DriftFound`` as JSON objects), the oldest
        first.
    public_url
        Where people reach the web process; ``None``: nowhere.
    """
    number = str(incident["incident_id"])
    resolved = incident["status"] == "resolved"
    main = sentences.main_finding(findings)
    impact: Row = main.get("impact") or {}
    told = summarised(incident, findings)
    title = sentences.change(impact) if impact.get("harmful") else ""
    title = title or one_line(str(main.get("reason") or incident["why"]), 160).rstrip(".")
    model, version = (one_line(str(incident[name]), 80) for name in ("model", "version"))
    return Alert(
        key=alert_holds.of_incident(number),
        kind="incident",
        state="resolved" if resolved else "firing",
        severity=severity_of(incident),
        alert_class=str(incident["incident_class"]),
        model=model,
        version=version,
        title=one_line(f"{model} {version}: {title}", 300),
        how_bad=one_line(told.how_bad),
        where=one_line("; ".join(filter(None, (told.where, *told.why)))),
        done=one_line(told.doing),
        commands=told.commands,
        url=None if public_url is None else f"{public_url.rstrip('/')}/incidents/{number}",
        opened_at=int(incident["opened_at"]),
        began=between(incident["change_low"], incident["change_high"]),
        resolved_at=incident["resolved_at"],
        breakages=breakages(findings, ended=True)
        if incident["incident_class"] == "data_bug"
        else (),
    )


def one_line(text: str, longest: int = LONGEST) -> str:
    """A field of an alert: on one line, cut at its length."""
    return sentences.name(text, longest)


def between(low: int | None, high: int | None) -> str:
    """When a change began, by its bounds; empty where that is not known.

    Examples
    --------
    >>> between(0, 60_000_000), between(0, 0), between(None, 1)
    ('between 1970-01-01 00:00 and 1970-01-01 00:01 UTC', '1970-01-01 00:00 UTC', '')
    """
    if low is None or high is None:
        return ""
    first, last = (f"{utc(at):%Y-%m-%d %H:%M}" for at in (low, high))
    return f"{first} UTC" if first == last else f"between {first} and {last} UTC"


def of_operational(row: Row) -> Alert:
    """The alert of a row of ``operational_alerts``."""
    resolved = row["resolved_at"] is not None
    return Alert(
        key=f"operational:{row['alert_id']}",
        kind="operational",
        state="resolved" if resolved else "firing",
        severity=row["severity"],
        alert_class=row["kind"],
        model=row["model"],
        version=None,
        title=one_line(row["said"], 300).rstrip("."),
        where=one_line(row["subject"], 200),
        commands=() if resolved else (one_line(row["remedy"]),),
        opened_at=row["opened_at"],
        resolved_at=row["resolved_at"],
    )


def of_change(row: Row, public_url: str | None) -> Alert:
    """The alert of a pointer that moved: it happens once, and is over at once.

    Parameters
    ----------
    row
        Of ``pointer_history``, with ``before``: the version that served until then, if any.
    """
    before = row["before"] or "nothing"
    trigger = json.loads(row["trigger"])
    text = CHANGES.get(row["change"], "{now} serves").format(
        now=one_line(row["stable"], 80), before=one_line(before, 80)
    )
    caused = public_url is not None and trigger.get("kind") == "incident"
    return Alert(
        key=f"change:{row['model']}:{row['epoch']}",
        kind="change",
        state="resolved",
        severity="info",
        alert_class=row["change"],
        model=row["model"],
        version=one_line(row["stable"], 80),
        title=f"{row['model']}: {text}",
        done=one_line(row["reason"]),
        commands=(f"redistill models {row['model']}", f"redistill rollback {row['model']}"),
        url=f"{str(public_url).rstrip('/')}/incidents/{trigger['id']}" if caused else None,
        opened_at=row["at"],
        resolved_at=row["at"],
    )


def trial(channel: str, *, actor: str, now: int) -> Alert:
    """What ``redistill alerts test`` sends: it says that nothing is wrong."""
    return Alert(
        key=f"test:{channel}:{now}",
        kind="test",
        state="firing",
        severity="info",
        alert_class="test",
        model=None,
        version=None,
        title=f"a test of channel {channel}, nothing is wrong",
        done=f"sent by {actor} with `redistill alerts test`",
        opened_at=now,
    )
