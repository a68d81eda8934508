"""Proof that nothing was lost, doubled or forged: the invariants, checked on the database and the topics.

Each rule looks at rows (and at logs, where a broker is given) and returns what it counted and what contradicts it. A
backlog is no contradiction: what has not been done yet is counted as pending.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from redistill.streams.kafka.broker import Broker
from redistill.streams.store.database import Database
from redistill.streams.store.tables import offsets, outbox
from redistill.workers.invariants.log_offsets import event_ids, logs

SHOWN = 20
"""Contradictions listed for one rule; the rest is counted."""

SETTLE_SECONDS = 10.0
"""Workers that were started a moment ago find what waited while nobody ran; connecting takes them seconds."""

INPUTS = ("predictions", "labels")
ANNOUNCED = ("drift", "incidents", "releases")
"""Topics that hold every announcement of their kind; ``pointers`` is compacted."""


@dataclass(kw_only=True, slots=True)
class Evidence:
    """What a rule looks at."""

    conn: sa.Connection
    now: int
    """Microseconds since 1970."""
    home: Path
    outbox_kept_us: int
    """How long sent announcements are kept."""
    wal_bytes: int | None = None
    """Size of SQLite's write-ahead log; ``None``: not SQLite."""
    offsets: Sequence[Any] = ()
    """Progress of every partition, to be compared with the logs."""
    sent: Sequence[Any] = ()
    """Id and topic of every announcement that is marked as sent, to be looked for in the topics."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What a rule found."""

    figures: dict[str, int | float | str]
    """What was counted, by name."""
    broken: list[str] = field(default_factory=list)
    """What contradicts the rule, a sentence each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """One invariant, checked."""

    number: int
    text: str
    holds: bool
    figures: dict[str, int | float | str]
    problems: tuple[str, ...]
    """At most ``SHOWN``."""
    more: int
    """Further contradictions."""


Rule = Callable[[Evidence], Finding]


def check(
    database: Database,
    *,
    now: int,
    home: Path,
    outbox_kept_us: int,
    broker: Broker | None = None,
    settle_seconds: float = SETTLE_SECONDS,
) -> list[Checked]:
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
    from redistill.workers.invariants import releases, streams

    rules = [*streams.RULES, *releases.RULES]
    deadline = time.monotonic() + settle_seconds
    while time.monotonic() < deadline:
        with database.read() as conn:
            if not releases.unrelayed(conn, now):
                break
        time.sleep(0.2)
    with database.read() as conn:
        if not database.is_sqlite:
            conn.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        evidence = Evidence(
            conn=conn,
            now=now,
            home=home,
            outbox_kept_us=outbox_kept_us,
            wal_bytes=_wal_bytes(database),
            offsets=conn.execute(sa.select(offsets)).all(),
            sent=conn.execute(
                sa.select(outbox.c.event_id, outbox.c.topic).where(
                    outbox.c.topic.in_(ANNOUNCED), outbox.c.sent_at.is_not(None)
                )
            ).all(),
        )
        found = {number: (text, rule(evidence)) for number, text, rule in rules}
    if broker is not None:
        announced = logs(broker, ANNOUNCED)
        ids = event_ids(broker, announced) if all(x.begin == 0 for x in announced) else None
        for number, more in (
            (1, streams.against_logs(evidence.offsets, logs(broker, INPUTS))),
            (2, streams.against_topics(evidence.sent, ids)),
        ):
            text, first = found[number]
            found[number] = (
                text,
                Finding(figures=first.figures | more.figures, broken=first.broken + more.broken),
            )
    return [_checked(number, *found[number]) for number in sorted(found)]


def _checked(number: int, text: str, found: Finding) -> Checked:
    return Checked(
        number=number,
        text=text,
        holds=not found.broken,
        figures=found.figures,
        problems=tuple(found.broken[:SHOWN]),
        more=max(0, len(found.broken) - SHOWN),
    )


def _wal_bytes(database: Database) -> int | None:
    if not database.is_sqlite or database.url.database is None:
        return None
    wal = Path(database.url.database + "-wal")
    return wal.stat().st_size if wal.exists() else 0
