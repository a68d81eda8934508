"""Job queue in SQL: jobs are made once, claimed by one worker at a time, written only under the
claim's lease."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

import sqlalchemy as sa

from redistill.streams.errors import LeaseError
from redistill.streams.store import lease
from redistill.streams.store.database import Database, insert_ignore
from redistill.streams.store.tables import leases, properties, specs
from redistill.workers.errors import LeaseLost, WorkersError
from redistill.workers.store import event_counts
from redistill.workers.store.tables import jobs

__all__ = [
    "DONE",
    "LEASE_SECONDS",
    "LIVE",
    "MAX_DEATHS",
    "NUMBER",
    "Claim",
    "Job",
    "JobEnded",
    "claim",
    "claim_waiting",
    "create",
    "exhausted",
    "fenced",
    "finish",
    "get",
    "job_id_of",
    "job_of",
    "last",
    "live",
    "overdue",
    "park",
    "questions",
    "release",
    "reopen",
    "requeue",
    "waiting",
]

NAMESPACE = UUID("5b0c0a4e-6d0f-4f5a-9d6d-2f0f1f5c7a11")

LIVE = ("queued", "running", "waiting_labels")
DONE = ("succeeded", "rejected", "needs_person", "failed", "expired", "cancelled")
"""``needs_person``: only a person can decide about its candidate, which is kept; :func:`reopen`
takes it up again."""

LEASE_SECONDS = 10.0
"""How long a killed worker's job lies still; four missed heartbeats."""

MAX_DEATHS = 10
"""Workers that may die one after the other without getting a step further. Seldom is it the job's
fault (the work is done in another process), so more than ``retry.MAX_TRIES``.
"""

_END = ("why", "reasons", "seconds", "wait")
"""What the ``outcome`` of a job says of its end, and of what it waited for before."""
_FAILURES = ("last_error", "failures")
"""What it says of tries that failed since the job last got to a judgement."""

NUMBER = "job_number"
"""Name of the property that holds the last job's number."""


class JobEnded(WorkersError):
    """The job was cancelled or expired meanwhile: nothing more may be written for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A row of ``jobs``. Times are microseconds since 1970."""

    job_id: str
    number: int
    model: str
    incident_id: str | None
    attempt: int
    trigger_kind: str
    trigger_id: str
    state: str
    options: dict[str, Any]
    outcome: dict[str, Any]
    tries: int
    not_before: int
    deadline_at: int
    frozen_at: int | None
    gate_rows: int | None
    created_at: int
    started_at: int | None
    finished_at: int | None

    @property
    def waived(self) -> dict[str, str]:
        """Gates that a person took upon themselves for it: who and why, by gate."""
        return dict(self.options.get("waived", {}))

    @property
    def waits_since(self) -> int:
        """When what its deadline ends began: when it was made, or a person's answer took it up."""
        asked = self.outcome.get("asked")
        return int(asked[-1]["answered_at"]) if asked else self.created_at


@dataclass(frozen=True, slots=True)
class Claim:
    """A job and the right to write about it."""

    job: Job
    token: int

    @property
    def lease(self) -> str:
        """Name of the lease."""
        return lease_name(self.job.job_id)


def lease_name(job_id: str) -> str:
    """Name of a job's lease."""
    return f"job:{job_id}"


def job_of(row: Mapping[Any, Any]) -> Job:
    """A row as a value."""
    values = {f: row[f] for f in Job.__dataclass_fields__}
    values["options"] = json.loads(values["options"])
    values["outcome"] = json.loads(values["outcome"] or "{}")
    return Job(**values)


def get(conn: sa.Connection, job_id: str) -> Job | None:
    """One job."""
    row = conn.execute(sa.select(jobs).where(jobs.c.job_id == job_id)).mappings().one_or_none()
    return None if row is None else job_of(row)


def live(conn: sa.Connection, model: str) -> Job | None:
    """The model's job that is queued, running or waiting for labels; there is at most one."""
    row = (
        conn.execute(sa.select(jobs).where(jobs.c.model == model, jobs.c.live_mark == 1))
        .mappings()
        .one_or_none()
    )
    return None if row is None else job_of(row)


def waiting(conn: sa.Connection) -> list[Job]:
    """Jobs that wait for labels, oldest first."""
    rows = conn.execute(
        sa.select(jobs).where(jobs.c.state == "waiting_labels").order_by(jobs.c.created_at)
    )
    return [job_of(row) for row in rows.mappings()]


def job_id_of(*parts: object) -> str:
    """The id that follows from what a job is for: asking twice makes one job.

    Examples
    --------
    >>> job_id_of("incident", 1) == job_id_of("incident", 1) != job_id_of("incident", 2)
    True
    """
    return str(uuid5(NAMESPACE, "|".join(str(p) for p in parts)))


def create(
    conn: sa.Connection,
    job_id: str,
    *,
    model: str,
    trigger: tuple[str, str],
    deadline_at: int,
    now: int,
    incident_id: str | None = None,
    attempt: int = 1,
    options: Mapping[str, Any] | None = None,
    state: str = "queued",
    outcome: Mapping[str, Any] | None = None,
) -> bool:
    """Make a job.

    Parameters
    ----------
    job_id
        From :func:`job_id_of`.
    trigger
        Kind (``incident``, ``actor``, ``schedule``) and id of who asked.
    deadline_at
        When waiting for labels ends: microseconds since 1970.
    state
        ``queued``, or an end state for a job that could not be started (its reason is kept).

    Returns
    -------
    bool
        False: it exists already, or the model has another live job.
    """
    exists = sa.select(jobs.c.job_id).where(
        sa.or_(jobs.c.job_id == job_id, sa.and_(jobs.c.model == model, jobs.c.live_mark == 1))
        if state in LIVE
        else jobs.c.job_id == job_id
    )
    if conn.execute(exists).first() is not None:
        return False
    conn.execute(insert_ignore(properties).values(name=NUMBER, value="0"))
    locked = sa.select(properties.c.value).where(properties.c.name == NUMBER).with_for_update()
    counted = int(conn.execute(locked).scalar_one())
    # a property that was restored without its jobs must not number one as another: that insert
    # would be taken for one that is there already, and the job would never be made
    number = max(counted, conn.execute(sa.select(sa.func.max(jobs.c.number))).scalar() or 0) + 1
    made = conn.execute(
        insert_ignore(jobs).values(
            job_id=job_id,
            number=number,
            model=model,
            incident_id=incident_id,
            attempt=attempt,
            trigger_kind=trigger[0],
            trigger_id=trigger[1],
            state=state,
            options=json.dumps(dict(options or {}), sort_keys=True),
            outcome=None if outcome is None else json.dumps(dict(outcome), sort_keys=True),
            tries=0,
            not_before=now,
            deadline_at=deadline_at,
            created_at=now,
            finished_at=None if state in LIVE else now,
            live_mark=1 if state in LIVE else None,
        )
    )
    if made.rowcount != 1:  # another transaction was first
        return False
    conn.execute(sa.update(properties).where(properties.c.name == NUMBER).values(value=str(number)))
    if state not in LIVE:
        event_counts.count_job_end(conn, state, now=now)
    return True


def claim(database: Database, holder: str, *, now: int) -> Claim | None:
    """Take the oldest job that can be worked on: queued, or running under a lease that ran out.

    ``tries`` counts the workers that took it since it last got a step further (:func:`exhausted`).

    Returns
    -------
    Claim or None
        Running under our lease; ``None``: there is nothing to do.
    """
    with database.read() as conn:  # an idle worker writes nothing
        if not conn.execute(_claimable(now).limit(1)).first():
            return None
    with database.begin() as conn:
        for row in conn.execute(_claimable(now)).mappings().all():
            token = lease.acquire(
                conn, lease_name(row["job_id"]), holder, now=now, seconds=LEASE_SECONDS
            )
            if token is None:
                continue
            done = conn.execute(
                sa.update(jobs)
                .where(jobs.c.job_id == row["job_id"], jobs.c.state.in_(("queued", "running")))
                .values(
                    state="running",
                    tries=jobs.c.tries + 1,
                    started_at=sa.func.coalesce(jobs.c.started_at, now),
                )
            )
            if done.rowcount != 1:  # it ended between our look and our lease
                lease.release(conn, lease_name(row["job_id"]), token)
                continue
            taken = get(conn, row["job_id"])
            if taken is not None:
                return Claim(taken, token)
    return None


def _claimable(now: int) -> sa.Select[Any]:
    leased = sa.exists().where(
        leases.c.name == sa.literal("job:") + jobs.c.job_id, lease.living(now)
    )
    return (
        sa.select(jobs)
        .where(
            jobs.c.not_before <= now,
            sa.or_(jobs.c.state == "queued", sa.and_(jobs.c.state == "running", ~leased)),
        )
        .order_by(jobs.c.created_at)
    )


def claim_waiting(database: Database, job_id: str, holder: str, *, now: int) -> Claim | None:
    """Take a job that waits for labels, because there are enough new ones."""
    with database.begin() as conn:
        job = get(conn, job_id)
        if job is None or job.state != "waiting_labels":
            return None
        token = lease.acquire(conn, lease_name(job_id), holder, now=now, seconds=LEASE_SECONDS)
        if token is None:
            return None
        taken = conn.execute(
            sa.update(jobs)
            .where(jobs.c.job_id == job_id, jobs.c.state == "waiting_labels")
            .values(state="running", tries=1)
        )
        if taken.rowcount != 1:  # it ended between our look and our lease
            lease.release(conn, lease_name(job_id), token)
            return None
        claimed = get(conn, job_id)
    return None if claimed is None else Claim(claimed, token)


@contextmanager
def fenced(database: Database, claim: Claim, clock: Callable[[], int]) -> Iterator[sa.Connection]:
    """A transaction in which the job is ours and running until it ends.

    Raises
    ------
    LeaseLost
        Another worker has taken the job over.
    JobEnded
        It was cancelled or expired.
    """
    with database.begin() as conn:
        # The model first, as everybody who decides about it does: no two wait for each other.
        conn.execute(
            sa.select(specs.c.model).where(specs.c.model == claim.job.model).with_for_update()
        )
        try:
            lease.check(conn, claim.lease, claim.token, clock())
        except LeaseError as error:
            raise LeaseLost(str(error)) from error
        locked = sa.select(jobs.c.state).where(jobs.c.job_id == claim.job.job_id).with_for_update()
        state = conn.execute(locked).scalar_one()
        if state != "running":
            raise JobEnded(f"job {claim.job.job_id} is {state}")
        yield conn


def finish(
    conn: sa.Connection, job: Job, state: str, *, outcome: Mapping[str, Any], now: int
) -> None:
    """End a job (in a fenced transaction, or where nobody holds it)."""
    conn.execute(
        sa.update(jobs)
        .where(jobs.c.job_id == job.job_id)
        .values(
            state=state,
            outcome=json.dumps({**job.outcome, **outcome}, sort_keys=True),
            finished_at=now,
            live_mark=None,
        )
    )
    event_counts.count_job_end(conn, state, now=now)


def park(
    conn: sa.Connection,
    claim: Claim,
    *,
    outcome: Mapping[str, Any],
    gate_rows: int,
    now: int,
) -> None:
    """Let a job wait for labels and give its lease back; it stays the model's one live job.

    It has got further than what failed before, which counts no more.
    """
    got = {k: v for k, v in claim.job.outcome.items() if k not in _FAILURES}
    conn.execute(
        sa.update(jobs)
        .where(jobs.c.job_id == claim.job.job_id)
        .values(
            state="waiting_labels",
            tries=0,
            gate_rows=gate_rows,
            not_before=now,
            outcome=json.dumps({**got, **outcome}, sort_keys=True),
        )
    )
    release(conn, claim)


def requeue(conn: sa.Connection, claim: Claim, *, not_before: int, why: str, forgive: bool) -> None:
    """Put a job back; its folder keeps the finished steps.

    ``forgive``: it is no failure of the job (the worker was asked to stop).
    """
    job = get(conn, claim.job.job_id) or claim.job
    conn.execute(
        sa.update(jobs)
        .where(jobs.c.job_id == job.job_id)
        .values(
            state="queued",
            not_before=not_before,
            tries=max(0, job.tries - 1),
            outcome=json.dumps(
                {
                    **job.outcome,
                    "last_error": why,
                    "failures": job.outcome.get("failures", 0) + (not forgive),
                },
                sort_keys=True,
            ),
        )
    )
    lease.release(conn, claim.lease, claim.token)


def last(conn: sa.Connection, model: str, *, incident_id: str | None) -> Job | None:
    """The newest job of an incident, or of a model's schedule and people; whatever became of it."""
    row = (
        conn.execute(
            sa.select(jobs)
            .where(jobs.c.model == model, jobs.c.incident_id.is_not_distinct_from(incident_id))
            .order_by(jobs.c.number.desc())
            .limit(1)
        )
        .mappings()
        .one_or_none()
    )
    return None if row is None else job_of(row)


def questions(conn: sa.Connection, model: str) -> list[Job]:
    """Jobs of a model's schedule and people that ended with a question to a person, the newest
    first."""
    c = jobs.c
    asked = sa.and_(c.model == model, c.incident_id.is_(None), c.state == "needs_person")
    rows = conn.execute(sa.select(jobs).where(asked).order_by(c.number.desc()))
    return [job_of(row) for row in rows.mappings()]


def reopen(
    conn: sa.Connection, job: Job, *, options: Mapping[str, Any], deadline_at: int, now: int
) -> bool:
    """Take a job up again that ended with a question to a person.

    How it ended, and what failed on the way there, is over: of it the question stays, as the last
    of ``outcome.asked``.

    Parameters
    ----------
    options
        Added to those that it has.

    Returns
    -------
    bool
        False: it ended otherwise, or the model has another live job.
    """
    if job.state != "needs_person" or live(conn, job.model) is not None:
        return False
    kept = {k: v for k, v in job.outcome.items() if k not in (*_END, *_FAILURES)}
    question = {
        "at": job.finished_at,
        "answered_at": now,
        "why": job.outcome.get("why", ""),
        "waived": job.waived,
    }
    asked = [*job.outcome.get("asked", ()), question]
    conn.execute(
        sa.update(jobs)
        .where(jobs.c.job_id == job.job_id)
        .values(
            state="queued",
            outcome=json.dumps({**kept, "asked": asked}, sort_keys=True),
            tries=0,
            not_before=now,
            deadline_at=deadline_at,
            finished_at=None,
            live_mark=1,
            options=json.dumps({**job.options, **options}, sort_keys=True),
        )
    )
    return True


def release(conn: sa.Connection, claim: Claim) -> None:
    """Give the lease of a job that has ended back."""
    lease.release(conn, claim.lease, claim.token)


def exhausted(job: Job, *, alive: int = 0) -> bool:
    """Whether its workers died too often: then it may be the job that kills them.

    Parameters
    ----------
    alive
        Times that it was left by one that lived on, as when the database went away.
    """
    return job.tries - alive > MAX_DEATHS


def overdue(conn: sa.Connection, now: int) -> list[Job]:
    """Live jobs beyond their deadline that no worker is at work on."""
    leased = sa.exists().where(
        leases.c.name == sa.literal("job:") + jobs.c.job_id, lease.living(now)
    )
    rows = conn.execute(
        sa.select(jobs).where(jobs.c.state.in_(LIVE), jobs.c.deadline_at <= now, ~leased)
    )
    return [job_of(row) for row in rows.mappings()]
