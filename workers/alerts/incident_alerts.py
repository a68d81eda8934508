"""Alerts made of rows: what SQL knows of an incident, of trouble with the installation, or of a
pointer, in the words that people read. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from redistill.workers.alerts.alert import Alert, Severity
from redistill.workers.alerts.words import (
    between,
    impact_text,
    impact_title,
    one_line,
    where_text,
)
from redistill.workers.store import alert_holds

__all__ = ["CHANGES", "of_change", "of_incident", "of_operational", "severity_of", "trial"]

Row = Mapping[str, Any]

STAGES = {
    "detected": "redistill looks at it",
    "diagnosing": "redistill looks for the cause",
    "waiting_labels": "redistill waits for labels",
    "repairing": "redistill repairs it",
    "awaiting_person": "a person must act",
    "guarding": "a repaired version serves, and is compared with what it replaced",
}
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
    main = _main(findings)
    impact: Row = main.get("impact") or {}
    why = one_line(str(incident["why"]))
    title = impact_title(impact) if impact.get("harmful") else ""
    title = title or one_line(str(main.get("reason") or why), 160).rstrip(".")
    model, version = (one_line(str(incident[name]), 80) for name in ("model", "version"))
    how_bad = impact_text(impact)
    return Alert(
        key=alert_holds.of_incident(number),
        kind="incident",
        state="resolved" if resolved else "firing",
        severity=severity_of(incident),
        alert_class=str(incident["incident_class"]),
        model=model,
        version=version,
        title=one_line(f"{model} {version}: {title}", 300),
        how_bad=one_line(how_bad) or "its effect on accuracy is not known: no label says so yet",
        where=one_line(where_text(findings)),
        done=one_line(_done(incident, why)),
        commands=() if resolved else _commands(incident, number[:8]),
        url=None if public_url is None else f"{public_url.rstrip('/')}/incidents/{number}",
        opened_at=int(incident["opened_at"]),
        began=between(incident["change_low"], incident["change_high"]),
        resolved_at=incident["resolved_at"],
    )


def _main(findings: Sequence[Row]) -> Row:
    """The finding that says most: measured harm first, of everything rather than of a slice."""

    def order(finding: Row) -> tuple[bool, bool, bool]:
        impact = finding.get("impact") or {}
        return (
            not impact.get("harmful"),
            impact.get("basis") != "measured",
            finding.get("scope") != "all",
        )

    return min(findings, key=order, default={})


def _done(incident: Row, why: str) -> str:
    if incident["status"] == "resolved":
        return f"resolved, {incident['resolution']}: {why}"
    attempt = f" (attempt {incident['attempt']})" if incident["attempt"] else ""
    return f"{STAGES.get(incident['stage'], incident['stage'])}{attempt}: {why}"


def _commands(incident: Row, number: str) -> tuple[str, ...]:
    """What a person can do, by what the incident waits for. Model names need no quoting."""
    shown = f"redistill incidents show {number}"
    taken = f"redistill incidents ack {number}"
    if incident["incident_class"] == "data_bug":
        ended = f'redistill incidents resolve {number} --reason "the feed was mended"'
        return (shown, taken, ended)
    if incident["stage"] == "awaiting_person":
        return (shown, f"redistill incidents approve {number}", taken)
    if incident["stage"] == "guarding":
        return (shown, f"redistill rollback {incident['model']}", taken)
    return (shown, taken)


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
