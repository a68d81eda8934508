"""Holds: who has an alert in hand (acknowledged), or wants to hear of it later (snoozed).

A hold concerns people only: it changes nothing about detectors, jobs and policy. Each is written
into the audit chain with who asked for it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import sqlalchemy as sa

from redistill.streams.store.database import upsert
from redistill.times import utc
from redistill.workers.store import audit
from redistill.workers.store.tables import alert_holds

__all__ = ["Hold", "acknowledge", "clear", "of_incident", "read", "snooze"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    """Of one alert; times are microseconds since 1970."""

    acknowledged_at: int | None = None
    acknowledged_by: str | None = None
    snoozed_until: int | None = None
    snoozed_by: str | None = None


def read(conn: sa.Connection) -> dict[str, Hold]:
    """All holds by the key of their alert."""
    rows = conn.execute(sa.select(alert_holds)).mappings()
    return {
        row["alert_key"]: Hold(**{k: v for k, v in row.items() if k != "alert_key"}) for row in rows
    }


def acknowledge(conn: sa.Connection, key: str, *, subject: str, actor: str, now: int) -> None:
    """Note that somebody has an alert in hand: nobody else is woken for it, and a snooze ends.

    Parameters
    ----------
    subject
        What the audit entry is about: the incident's id, or the key of another alert.
    """
    _set(conn, key, Hold(acknowledged_at=now, acknowledged_by=actor))
    audit.append(conn, actor, _action(key, "acknowledged"), subject, None, now)


def snooze(
    conn: sa.Connection, key: str, *, until: int, subject: str, actor: str, now: int
) -> None:
    """Let an alert rest until a time, after which it is told again if it still fires; an
    acknowledgement ends with it. A time that is past ends a snooze."""
    _set(conn, key, Hold(snoozed_until=until, snoozed_by=actor))
    said = f"until {utc(until).isoformat(timespec='seconds')}"
    audit.append(conn, actor, _action(key, "snoozed"), subject, {"why": said}, now)


def of_incident(incident_id: str) -> str:
    """Key of an incident's alert.

    Examples
    --------
    >>> of_incident("7")
    'incident:7'
    """
    return f"incident:{incident_id}"


def clear(conn: sa.Connection, key: str) -> None:
    """Forget who had it in hand: it is about new trouble."""
    conn.execute(sa.delete(alert_holds).where(alert_holds.c.alert_key == key))


def _action(key: str, what: str) -> str:
    return f"{'incident' if key.startswith('incident:') else 'alert'}.{what}"


def _set(conn: sa.Connection, key: str, hold: Hold) -> None:
    conn.execute(upsert(alert_holds, ["alert_key"]).values(alert_key=key, **asdict(hold)))
