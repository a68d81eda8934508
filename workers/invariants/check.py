"""Check of the invariants on the database and the topics: nothing was lost, doubled or forged.

Each rule looks at rows (and at logs, where a broker is given) and returns what it counted and what
contradicts it. A backlog is no contradiction: what has not been done yet is counted as pending.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from redistill.streams.kafka.broker import Broker
from redistill.streams.store.database import Database
from redistill.streams.store.tables import offsets, outbox
from redistill.workers.invariants import bounds, releases, streams
from redistill.workers.invariants.log_offsets import event_ids, logs
from redistill.workers.invariants.rule import Rule, RuleInput, RuleResult
from redistill.workers.models.registered import input_topics

__all__ = ["RULES", "SHOWN", "CheckedInvariant", "check"]

RULES = (*streams.RULES, *releases.RULES, *bounds.RULES)

SHOWN = 20
"""Contradictions listed for one rule; the rest is counted."""

SETTLE_SECONDS = 10.0
"""Workers that were started a moment ago find what waited while nobody ran; connecting takes them
seconds."""

ANNOUNCED = ("drift", "incidents", "releases")
"""Topics that hold every announcement of their kind; ``pointers`` is compacted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedInvariant:
    """One invariant, checked."""

    number: int
    text: str
    holds: bool
    figures: dict[str, int | float | str]
    """What was counted, by name."""
    problems: tuple[str, ...]
    """At most ``SHOWN``."""
    more: int
    """Further contradictions."""


def check(
    database: Database,
    *,
    now: int,
    home: Path,
    outbox_kept_us: int,
    broker: Broker | None = None,
    settle_seconds: float = SETTLE_SECONDS,
) -> list[CheckedInvariant]:
    """Check every invariant.

    Parameters
    ----------
    database
        Read in one transaction, so that all rules see the same moment, and before the topics: what
        is counted or sent by then must be in them.
    now
        Microseconds since 1970.
    home
        Where releases and objects lie.
    broker
        ``None``: only the database is looked at.
    settle_seconds
        How long workers that run may take to send what waits too long, before it is held against
        them.

    Raises
    ------
    BrokerUnavailable, BrokerRefused
        With the cause.
    """
    _settle(database, now, settle_seconds)
    with database.read() as conn:
        if not database.is_sqlite:
            conn.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        inputs = RuleInput(
            conn=conn,
            now=now,
            home=home,
            outbox_kept_us=outbox_kept_us,
            wal_bytes=_wal_bytes(database),
            offsets=conn.execute(sa.select(offsets)).all(),
        )
        sent = conn.execute(
            sa.select(outbox.c.event_id, outbox.c.topic).where(
                outbox.c.topic.in_(ANNOUNCED), outbox.c.sent_at.is_not(None)
            )
        ).all()
        read = [] if broker is None else input_topics(conn, broker.namespace)
        results = {rule.number: rule.check(inputs) for rule in RULES}
    if broker is not None:
        announced = logs(broker, ANNOUNCED)
        ids = event_ids(broker, announced) if all(x.begin == 0 for x in announced) else None
        in_logs = streams.against_logs(inputs.offsets, logs(broker, read))
        results[1] = results[1].with_more(in_logs)
        results[2] = results[2].with_more(streams.against_topics(sent, ids))
    return [_checked(rule, results[rule.number]) for rule in RULES]


def _settle(database: Database, now: int, seconds: float) -> None:
    """Give workers that have only just started the time to send what waited."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with database.read() as conn:
            if not bounds.unrelayed(conn, now):
                return
        time.sleep(0.2)


def _checked(rule: Rule, result: RuleResult) -> CheckedInvariant:
    return CheckedInvariant(
        number=rule.number,
        text=rule.text,
        holds=not result.violations,
        figures=result.figures,
        problems=tuple(result.violations[:SHOWN]),
        more=max(0, len(result.violations) - SHOWN),
    )


def _wal_bytes(database: Database) -> int | None:
    if not database.is_sqlite or database.url.database is None:
        return None
    wal = Path(database.url.database + "-wal")
    return wal.stat().st_size if wal.exists() else 0
