"""Scheduler of what happens by the clock: recompressions on a cron expression, retention, expiry of
stuck jobs.

APScheduler is only the alarm clock, in memory: it wakes every half minute, and what is due is found
from SQL and the cron expressions. A job's id follows from the model and its scheduled time, so two
workers, or one that slept, make one job. This is the only file that imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa
import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from redistill.files import disk_refuses
from redistill.streams.errors import LeaseError, StoreUnavailable
from redistill.streams.store import lease
from redistill.streams.store.clock import steady_us
from redistill.streams.store.database import Database
from redistill.times import SECOND, microseconds, now_us, utc
from redistill.workers.incidents.model_context import ModelContext, load, load_all
from redistill.workers.models import cron
from redistill.workers.store import audit, job_queue
from redistill.workers.store.tables import jobs

__all__ = ["LEASE", "Scheduler", "make_due_job"]

log = structlog.get_logger(__name__)

LEASE = "scheduler"
LEASE_SECONDS = 30.0

FIRST_SECONDS = 5.0
"""Chores begin so long after the start: whoever takes over looks at schedules before."""

SET_US = 5 * SECOND
"""A clock that is moved by more than this was set: NTP slews by less than .5 ms a second."""

OPTIONS: dict[str, Any] = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
"""However late a wake-up is, it counts; several missed ones are one; none overtakes another."""

ACTOR = "schedule"


def make_due_job(conn: sa.Connection, model_context: ModelContext, *, now: int) -> str | None:
    """Make the job of a model's last scheduled time, unless there is one.

    A time before the model was registered does not count. Where another job is live the row is made
    all the same, ended, with the reason: a schedule that did nothing leaves a trace.

    Returns
    -------
    str or None
        The job's id; ``None``: nothing was due.
    """
    if model_context.schedule is None or model_context.level != "repair":
        return None
    fire = cron.parse(model_context.schedule).until(utc(now))
    if fire is None or microseconds(fire) <= model_context.registered_at:
        return None
    job_id = job_queue.job_id_of(model_context.model, fire.isoformat())
    if job_queue.get(conn, job_id) is not None:
        return None
    if conn.execute(_later(model_context.model, fire, now)).first() is not None:
        return None  # the expression was changed: its past is not made up for
    refusal = _refusal(conn, model_context)
    created = job_queue.create(
        conn,
        job_id,
        model=model_context.model,
        trigger=("schedule", fire.isoformat()),
        deadline_at=now + model_context.wait,
        now=now,
        state="queued" if refusal is None else "cancelled",
        outcome=None if refusal is None else {"reasons": [refusal], "why": refusal},
    )
    if not created:
        return None
    audit.append(
        conn,
        ACTOR,
        "job.scheduled",
        model_context.model,
        {"job_id": job_id, "time": fire.isoformat(), "refused": refusal},
        now,
    )
    log.info("job_scheduled", action="job_scheduled", model=model_context.model, job_id=job_id)
    return job_id


def _later(model: str, fire: datetime, now: int) -> sa.Select[Any]:
    return sa.select(jobs.c.job_id).where(
        jobs.c.model == model,
        jobs.c.trigger_kind == "schedule",
        jobs.c.trigger_id > fire.isoformat(),
        jobs.c.trigger_id <= utc(now).isoformat(),  # not what a clock made that was ahead
    )


def _refusal(conn: sa.Connection, model_context: ModelContext) -> str | None:
    live = job_queue.live(conn, model_context.model)
    if live is not None:
        return f"job {live.job_id} of this model was still at work"
    if model_context.approval == "paused":
        return 'repairs are paused in model.toml ([repair] approval = "paused")'
    return None


class _Every(IntervalTrigger):  # type: ignore[misc]
    """So long after the wake-up before, and never one that was missed: after a clock jumps ahead by
    40 days the library would list all of them, millions, before it drops them."""

    def get_next_fire_time(self, _: datetime | None, now: datetime) -> datetime:
        return now + timedelta(seconds=self.interval_length)


class Scheduler:
    """Makes the jobs of the models' schedules when they are due, and does the housekeeping of the
    fleet.

    Parameters
    ----------
    database
        The rows.
    holder
        Unique per process start; whoever holds the lease ``scheduler`` does the work.
    chores
        Name → (every so many seconds, function): retention, expiry.
    on_job
        Called when a job was made.
    clock
        Microseconds since 1970.
    look_seconds
        How often the schedules are looked at: a job is made at most so late.
    process, steady
        Microseconds of this machine's clock, and of one that nobody sets: see :meth:`keep_time`.
    """

    def __init__(
        self,
        database: Database,
        *,
        holder: str,
        chores: dict[str, tuple[float, Callable[[], Any]]],
        on_job: Callable[[], None],
        clock: Callable[[], int],
        look_seconds: float = 30.0,
        process: Callable[[], int] = now_us,
        steady: Callable[[], int] = steady_us,
    ) -> None:
        self._database = database
        self._holder = holder
        self._on_job = on_job
        self._clock = clock
        self._unreadable: dict[str, str] = {}
        self._apart: Callable[[], int] = lambda: process() - steady()
        self._last_apart = self._apart()
        self._timer = BackgroundScheduler(timezone=UTC)
        rounds = [("schedules", 0.0, look_seconds, self.fire_all)]
        for name, (seconds, work) in chores.items():
            rounds.append((name, min(seconds, FIRST_SECONDS), seconds, partial(self._chore, work)))
        start = datetime.now(UTC)
        for name, first, seconds, work in rounds:
            self._timer.add_job(
                self._tried,
                _Every(seconds=seconds, timezone=UTC),
                args=(name, work),
                id=name,
                next_run_time=start + timedelta(seconds=first),
                **OPTIONS,
            )

    def start(self) -> None:
        """Begin to wake."""
        self._timer.start()

    def stop(self) -> None:
        """Wake no more; what is at work is finished."""
        if self._timer.running:
            self._timer.shutdown(wait=True)

    def keep_time(self) -> None:
        """Do every chore now if this machine's clock was set since the last call; call it every few
        seconds. APScheduler goes by that clock: one that was set back by a month would let all
        chores rest for a month."""
        apart = self._apart()
        if abs(apart - self._last_apart) <= SET_US:
            return
        self._last_apart = apart
        log.info("clock_was_set", action="clock_was_set")
        for chore in self._timer.get_jobs():
            chore.modify(next_run_time=datetime.now(UTC))

    def fire_all(self) -> None:
        """Make the jobs that are due, and make up for what was while nobody was awake."""
        with self._database.read() as conn:
            schedules = {t.model: t.schedule for t in load_all(conn) if t.schedule is not None}
        for model, expression in schedules.items():
            if (wrong := cron.problem(expression)) is None:
                self._tried(f"schedule of {model}", partial(self.fire, model))
            elif self._unreadable.get(model) != expression:  # an earlier release let it in
                self._unreadable[model] = expression
                log.warning(
                    "schedule_unreadable",
                    action="schedule_unreadable",
                    model=model,
                    schedule=expression,
                    error=f"{wrong}; register the model with another [repair] schedule",
                )

    def fire(self, model: str) -> str | None:
        """Make the job that is due for a model; its id if one was made."""
        if (token := self._hold()) is None:
            return None
        now = self._clock()
        with self._database.begin() as conn:
            model_context = load(conn, model, lock=True)
            if model_context is None or not self._still(conn, token, now):
                return None
            job_id = make_due_job(conn, model_context, now=now)
        if job_id is not None:
            self._on_job()
        return job_id

    def _chore(self, work: Callable[[], Any]) -> None:
        if self._hold() is not None:
            work()

    def _tried(self, name: str, work: Callable[[], Any]) -> None:
        try:
            work()
        except StoreUnavailable:
            return  # which is said once for all tasks
        except Exception as error:  # the next round may do better
            expected = getattr(error, "retriable", None) is not None or disk_refuses(error)
            log.warning(
                "chore_failed",
                action="chore_failed",
                chore=name,
                error=f"{type(error).__name__}: {error}",
                exc_info=not expected,
            )

    def _hold(self) -> int | None:
        with self._database.begin() as conn:
            return lease.acquire(
                conn, LEASE, self._holder, now=self._clock(), seconds=LEASE_SECONDS
            )

    def _still(self, conn: sa.Connection, token: int, now: int) -> bool:
        try:
            lease.check(conn, LEASE, token, now)
        except LeaseError as error:
            log.warning("scheduler_lost", action="scheduler_lost", error=str(error))
            return False
        return True
