"""Standstill: work that should go on, and does not. Retention, announcements, jobs."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from redistill.streams.store.tables import outbox
from redistill.times import to_seconds, utc
from redistill.workers.alerts.operational.look import Look
from redistill.workers.alerts.operational.reading import Reading
from redistill.workers.alerts.operational.words import amount, count, duration
from redistill.workers.store import clock_problem
from redistill.workers.store.tables import job_steps, jobs

__all__ = ["jobs_stuck", "outbox_unsent", "retention_stopped"]

RETENTION_OPENS_SECONDS = 600.0
"""A process that was held up looks like a wrong clock, and is none a few minutes later."""
UNSENT_OPENS_SECONDS, UNSENT_CLOSES_SECONDS = 120.0, 30.0
"""Age of the oldest announcement: the relay sends ten times a second, and tries a topic that fails
every minute."""
JOBS_OPENS_SECONDS = 900.0
"""No job goes on for so long although one could; or twice as long as its process may work without a
word, where that is longer."""


def retention_stopped(look: Look) -> Sequence[Reading]:
    """For how long nothing has been deleted for its age."""
    problem = clock_problem.get(look.conn)
    if problem is None:
        return []
    lasted = max(0, look.now - problem.since)
    until = "" if problem.until is None else f"; it ends at {utc(problem.until):%Y-%m-%d %H:%M}Z"
    return [
        Reading(
            subject="retention",
            value=to_seconds(lasted),
            opens=RETENTION_OPENS_SECONDS,
            closes=0,
            said=f"nothing has been deleted for its age for {duration(lasted)}: {problem.why}"
            + until,
            remedy=f"set the clocks right (chrony or another NTP client) on the database's machine"
            f" and on that of {problem.holder}; retention goes on by itself",
        )
    ]


def outbox_unsent(look: Look) -> Sequence[Reading]:
    """How long the oldest announcement of each topic has waited."""
    o = outbox.c
    rows = look.conn.execute(
        sa.select(o.topic, sa.func.count(), sa.func.min(o.created_at))
        .where(o.sent_at.is_(None))
        .group_by(o.topic)
        .order_by(o.topic)
    )
    return [
        _unsent(str(topic), int(n), max(0, look.now - int(oldest))) for topic, n, oldest in rows
    ]


def _unsent(topic: str, n: int, waited: int) -> Reading:
    return Reading(
        subject=topic,
        value=to_seconds(waited),
        opens=UNSENT_OPENS_SECONDS,
        closes=UNSENT_CLOSES_SECONDS,
        said=f"{count(n, 'announcement')} of {topic} {amount(n, 'waits', 'wait')} to be sent, the"
        f" oldest for {duration(waited)}",
        remedy="the log of the stream and repair workers says why (`relay_failed`,"
        " `event_refused`); `redistill topics apply --dry-run` whether the topic is there. SQL"
        " knows all of it: nothing is lost",
    )


def jobs_stuck(look: Look) -> Sequence[Reading]:
    """How long jobs have been due while none of them went on."""
    j = jobs.c
    due = sa.and_(j.not_before <= look.now, j.state.in_(("queued", "running")))
    n, first = look.conn.execute(
        sa.select(sa.func.count(), sa.func.min(j.not_before)).where(due)
    ).one()
    if not n:
        return []
    times = [
        look.conn.execute(sa.select(sa.func.max(column))).scalar()
        for column in (j.started_at, j.finished_at, job_steps.c.at)
    ]
    moved = max(t for t in (first, *times) if t is not None)
    still = max(0, look.now - int(moved))
    number = look.conn.execute(sa.select(sa.func.min(j.number)).where(due)).scalar()
    opens = max(JOBS_OPENS_SECONDS, 2 * look.settings.child_seconds)
    return [
        Reading(
            subject="jobs",
            value=to_seconds(still),
            opens=opens,
            closes=opens / 3,
            said=f"{count(int(n), 'job')} could be worked on, and none has gone on for"
            f" {duration(still)}",
            remedy=f"look whether a repair worker runs (`redistill run repair`); `redistill jobs"
            f" show {number}` shows the oldest of them",
        )
    ]
