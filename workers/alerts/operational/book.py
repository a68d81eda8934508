"""Book of operational alerts: rows that open, are told anew and end. One is open for a kind and
subject at a time."""

from __future__ import annotations

from uuid import UUID, uuid5

import sqlalchemy as sa

from redistill.streams.store.database import insert_ignore
from redistill.times import HOUR
from redistill.workers.alerts.alert import Severity
from redistill.workers.alerts.operational.reading import Settled
from redistill.workers.store.tables import operational_alerts

__all__ = ["AGAIN_US", "alert_id", "enter", "open_alert", "opened", "resolve"]

NAMESPACE = UUID("0c8f3a52-6f0e-4d0b-8f55-0b1d0f4f7a21")

AGAIN_US = HOUR
"""The sentence of an open alert is told anew no sooner: its figure moves all the time, and channels
tell every change."""


def alert_id(kind: str, subject: str, opened_at: int) -> str:
    """Of the alert that opened then."""
    return str(uuid5(NAMESPACE, f"{kind}\n{subject}\n{opened_at}"))


def opened(conn: sa.Connection, kind: str) -> set[str]:
    """Subjects of the open alerts of a kind."""
    a = operational_alerts.c
    rows = conn.execute(sa.select(a.subject).where(a.kind == kind, a.open_mark == 1))
    return set(rows.scalars())


def open_alert(
    conn: sa.Connection,
    kind: str,
    subject: str,
    *,
    severity: Severity,
    said: str,
    remedy: str,
    model: str | None = None,
    now: int,
) -> bool:
    """Open an alert, or tell the open one anew if what it says has changed and that is due.

    Parameters
    ----------
    kind, subject
        What it is about: one alert for both is open at a time.
    said
        One sentence with the figure in it.
    remedy
        What to do or to type.
    model
        That it concerns.
    now
        Microseconds since 1970.

    Returns
    -------
    bool
        Whether it was opened.
    """
    a = operational_alerts.c
    known = conn.execute(
        sa.select(a.alert_id, a.severity, a.said, a.remedy, a.updated_at).where(
            a.kind == kind, a.subject == subject, a.open_mark == 1
        )
    ).one_or_none()
    if known is None:
        made = conn.execute(
            insert_ignore(operational_alerts).values(
                alert_id=alert_id(kind, subject, now),
                kind=kind,
                subject=subject,
                model=model,
                severity=severity,
                said=said,
                remedy=remedy,
                opened_at=now,
                updated_at=now,
                open_mark=1,
            )
        )
        return made.rowcount == 1
    same = (known.said, known.remedy) == (said, remedy)
    if known.severity != severity or (not same and now - known.updated_at >= AGAIN_US):
        conn.execute(
            sa.update(operational_alerts)
            .where(a.alert_id == known.alert_id)
            .values(severity=severity, said=said, remedy=remedy, updated_at=now)
        )
    return False


def resolve(conn: sa.Connection, kind: str, subject: str, *, now: int) -> bool:
    """End the open alert about a subject, never before it began; false: there is none."""
    a = operational_alerts.c
    at = sa.case((a.opened_at > now, a.opened_at), else_=now)  # a clock may have been set back
    done = conn.execute(
        sa.update(operational_alerts)
        .where(a.kind == kind, a.subject == subject, a.open_mark == 1)
        .values(resolved_at=at, updated_at=at, open_mark=None)
    )
    return done.rowcount == 1


def enter(
    conn: sa.Connection, kind: str, settled: Settled, *, severity: Severity, now: int
) -> tuple[list[str], list[str]]:
    """Write what was decided about a kind; subjects that opened, and that ended."""
    began = [
        r.subject
        for r in settled.firing
        if open_alert(
            conn,
            kind,
            r.subject,
            severity=severity,
            said=r.said,
            remedy=r.remedy,
            model=r.model,
            now=now,
        )
    ]
    ended = [s for s in sorted(settled.ended) if resolve(conn, kind, s, now=now)]
    return began, ended
