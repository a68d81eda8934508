"""Check of the invariants on the database and the topics: nothing was lost, doubled or forged.

Each rule looks at rows (and at logs, where a broker is given) and returns what it counted and what
contradicts it. A backlog is no contradiction: what has not been done yet is counted as pending.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from redistill.streams.kafka.broker import Broker
from redistill.streams.store import properties
from redistill.streams.store.database import Database
from redistill.workers.invariants import (
    bounds,
    log_offsets,
    model_specs,
    releases,
    signed_registry,
    signed_view,
    streams,
)
from redistill.workers.invariants.rule import Rule, RuleInput, RuleResult
from redistill.workers.invariants.signed_view import SignedView
from redistill.workers.invariants.topic_facts import ANNOUNCED, Log, TopicFacts
from redistill.workers.models.registered import input_topics
from redistill.workers.releases.release_files import RepositoryLayout

__all__ = ["RULES", "SHOWN", "CheckedInvariant", "check"]

RULES = tuple(
    sorted(
        (
            *streams.RULES,
            *releases.RULES,
            *bounds.RULES,
            *signed_registry.RULES,
            *model_specs.RULES,
        ),
        key=lambda rule: rule.number,
    )
)

SHOWN = 20
"""Contradictions listed for one rule; the rest is counted."""

SETTLE_SECONDS = 10.0
"""Workers that were started a moment ago find what waited while nobody ran; connecting takes them
seconds."""


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
    state_key: bytes | None = None,
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
    state_key
        Seals the states of detectors; ``None``: it is not here, and they are not looked into.
    settle_seconds
        How long workers that run may take to send what waits too long, before it is held against
        them.

    Raises
    ------
    BrokerUnavailable, BrokerRefused
        With the cause.
    """
    _settle(database, now, settle_seconds)
    layout = RepositoryLayout(home)
    # What is signed, and what is announced, was in the database before: it is looked at first.
    signed = signed_view.look(layout)
    standing = [] if broker is None else log_offsets.logs(broker, ANNOUNCED)
    if _is_behind(database, signed):  # it was signed again while it was read
        signed = signed_view.look(layout)
    with database.read() as conn:
        if not database.is_sqlite:
            conn.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        inputs = RuleInput(
            conn=conn,
            now=now,
            home=home,
            outbox_kept_us=outbox_kept_us,
            wal_bytes=_wal_bytes(database),
            signed=signed,
            state_key=state_key,
        )
        found = _judge(inputs)
        read = [] if broker is None else input_topics(conn, broker.namespace)
    # ... and what is counted, or marked as sent, is in the topics: these are read afterwards.
    topics = None if broker is None else _facts(broker, read, standing)
    return [_checked(rule, found[rule.number].settled(topics)) for rule in RULES]


def _judge(inputs: RuleInput) -> dict[int, RuleResult]:
    """What every rule found, by its number; what is left for the broker still to be settled."""
    return {rule.number: rule.check(inputs) for rule in RULES}


def _facts(broker: Broker, read: Sequence[str], standing: Sequence[Log]) -> TopicFacts:
    """Ask the broker; ``read``: the topics that stream workers read."""
    before = {(x.topic, x.partition): x.end for x in standing}
    inputs = log_offsets.logs(broker, read)
    announced, whole = [], []
    for topic in ANNOUNCED:  # one that takes too long keeps no other from being read
        partitions = log_offsets.logs(broker, [topic])
        records = log_offsets.announced(broker, partitions, before=before)
        announced += records or []
        if records is not None and partitions and all(x.begin == 0 for x in partitions):
            whole.append(topic)
    return TopicFacts.of(inputs, announced, whole=whole)


def _is_behind(database: Database, signed: SignedView) -> bool:
    with database.read() as conn, suppress(ValueError):  # a rule says that it cannot be read
        return signed.snapshot < properties.published_snapshot(conn)
    return False


def _settle(database: Database, now: int, seconds: float) -> None:
    """Give workers that have only just started the time to send what waited."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with database.read() as conn, suppress(ValueError):
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
