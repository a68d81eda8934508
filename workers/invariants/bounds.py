"""Bounds: the invariant of the audit chain, of backlogs and of files that would grow without a
worker's care."""

from __future__ import annotations

import sqlalchemy as sa

from redistill.streams.store import lease, properties
from redistill.streams.store.database import JOURNAL_BYTES
from redistill.streams.store.relay import LEASE
from redistill.streams.store.tables import leases, offsets, outbox
from redistill.times import MINUTE, to_seconds
from redistill.workers.invariants.rule import Figures, Rule, RuleInput, RuleResult
from redistill.workers.store import audit, audit_chain, audit_key
from redistill.workers.store.tables import audit as audit_entries

__all__ = ["RELAY_LAG_US", "RULES", "unrelayed"]

RELAY_LAG_US = 600_000_000
"""Workers send what waits within seconds; ten minutes are a fault."""
SIGN_OF_LIFE_US = MINUTE
"""A stream worker without a lease (PostgreSQL, no static id) shows itself by the offsets it stores.
"""


def bounded(inputs: RuleInput) -> RuleResult:
    """Invariant 8."""
    verified = audit_chain.verify(inputs.conn, key=inputs.audit_key)
    violations = [] if verified.problem is None else [f"the audit chain breaks: {verified.problem}"]
    violations += _keyed(inputs)
    violations += _anchored(inputs)
    unsent, oldest = _waiting(inputs.conn)
    lag = 0 if oldest is None else max(0, inputs.now - oldest)
    at_work = _at_work(inputs.conn, inputs.now)
    # Where nobody runs a backlog is only pending: nobody promised to send it meanwhile.
    if at_work and lag > RELAY_LAG_US:
        last = inputs.conn.execute(sa.select(sa.func.max(outbox.c.sent_at))).scalar()
        sent = "nothing was ever sent" if last is None else f"last sent {_ago(inputs.now - last)}"
        violations.append(
            f"workers run ({', '.join(at_work)}) and do not relay: an announcement waits since"
            f" {to_seconds(lag):,.0f} s, {sent}; their log says why (relay_failed)"
        )
    figures: Figures = {
        "audit_entries": verified.entries,
        "audit_head": verified.head[:16],
        "audit_macs": "not checked: the audit key is not here"
        if inputs.audit_key is None
        else "fit"
        if verified.problem is None
        else "do not fit",
        "unsent": unsent,
        "outbox_lag_s": round(to_seconds(lag), 1),
        "workers": "run" if at_work else "nobody runs",
    }
    if inputs.wal_bytes is not None:
        figures["wal_bytes"] = inputs.wal_bytes
        if inputs.wal_bytes > 4 * JOURNAL_BYTES:
            violations.append(
                f"SQLite's log has {inputs.wal_bytes:,} bytes, {4 * JOURNAL_BYTES:,} are allowed: a"
                " reader stays open"
            )
    return RuleResult(figures=figures, violations=violations)


def _keyed(inputs: RuleInput) -> list[str]:
    """Whether it is said which key counts, and it is the one that is here: MACs that nobody checks
    prove nothing."""
    if inputs.other_key is not None:
        return [f"no MAC can be checked: {inputs.other_key}"]
    if properties.get(inputs.conn, audit_key.AUDIT_KEY) is not None:
        return []
    anchored = inputs.signed is not None and inputs.signed.anchor is not None
    some = sa.select(audit_entries.c.seq).where(audit_entries.c.mac != "").limit(1)
    if not anchored and inputs.conn.execute(some).first() is None:
        return []
    return [
        "no MAC can be checked: the row audit_key of facts, which says by which key entries were"
        " made, is gone"
    ]


def _anchored(inputs: RuleInput) -> list[str]:
    """What stood in the chain when the timestamp was signed that clients read stands in it now."""
    anchor = None if inputs.signed is None else inputs.signed.anchor
    if anchor is None or audit.hash_of(inputs.conn, anchor.length) == anchor.head:
        return []
    return [f"the audit chain was cut or put back: what is signed says that it had {anchor}"]


def unrelayed(conn: sa.Connection, now: int) -> bool:
    """Whether workers run and an announcement waits too long: a fault, or they have only just
    started.
    """
    oldest = _waiting(conn)[1]
    return oldest is not None and now - oldest > RELAY_LAG_US and bool(_at_work(conn, now))


def _waiting(conn: sa.Connection) -> tuple[int, int | None]:
    """How many announcements could be sent, and since when the oldest of them waits."""
    published = properties.published_snapshot(conn)
    row = conn.execute(
        sa.select(sa.func.count(), sa.func.min(outbox.c.created_at)).where(
            outbox.c.sent_at.is_(None),
            sa.or_(outbox.c.after_snapshot.is_(None), outbox.c.after_snapshot <= published),
        )
    ).one()
    return int(row[0]), row[1]


def _at_work(conn: sa.Connection, now: int) -> list[str]:
    """What shows that workers run now: the leases they hold, else the offsets they store.

    The lease of the relay is none of them: it is given back after each round.
    """
    lease_names = conn.execute(
        sa.select(leases.c.name)
        .where(lease.living(now), leases.c.name != LEASE)
        .order_by(leases.c.name)
    ).scalars()
    if names := [f"lease {name}" for name in lease_names]:
        return names
    stored = conn.execute(sa.select(sa.func.max(offsets.c.updated_at))).scalar()
    if stored is not None and now - stored < SIGN_OF_LIFE_US:
        return [f"offsets stored {_ago(now - stored)}"]
    return []


def _ago(us: int) -> str:
    return f"{to_seconds(max(0, us)):,.0f} s ago"


RULES = (
    Rule(
        number=8,
        text="the audit chain verifies; backlogs and files stay bounded",
        parts=(bounded,),
    ),
)
