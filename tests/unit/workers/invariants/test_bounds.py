"""The rule of bounds: an audit chain that verifies, a backlog that somebody works on, files that
end."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from history import NOW, Breaks, RuleChecks, holds, set_

from redistill.streams.store import lease, properties
from redistill.streams.store.database import JOURNAL_BYTES, Database
from redistill.streams.store.relay import LEASE
from redistill.streams.store.tables import offsets
from redistill.streams.store.tables import outbox as outbox_table
from redistill.times import DAY
from redistill.workers.invariants import bounds
from redistill.workers.invariants.rule import RuleInput, RuleResult
from redistill.workers.jobs.scheduler import LEASE as SCHEDULER
from redistill.workers.store import audit
from redistill.workers.store.tables import audit as audit_table

RULE = {rule.number: rule for rule in bounds.RULES}


def worker_that_does_not_relay(conn: sa.Connection) -> None:
    """As a repair worker leaves it: it holds the scheduler's lease, and the relay's between rounds
    is nobody's.
    """
    lease.acquire(conn, SCHEDULER, "w", now=NOW + 2 * DAY - 1, seconds=30)
    conn.execute(sa.update(outbox_table).values(sent_at=None))


def stream_worker_that_does_not_relay(conn: sa.Connection) -> None:
    conn.execute(sa.update(offsets).values(updated_at=NOW + 2 * DAY - 5_000_000))
    conn.execute(sa.update(outbox_table).values(sent_at=None))


BREAKS: Breaks = {
    "a changed audit entry": (8, "(release.publish of credit by cli:you) was changed", set_(audit_table, audit_table.c.seq == 2, actor="cli:you")),
    "a worker that does not relay": (8, "workers run (lease scheduler) and do not relay", worker_that_does_not_relay),
    "a stream worker that does not": (8, "offsets stored 5 s ago) and do not relay", stream_worker_that_does_not_relay),
}  # fmt: skip


class TestBounds(RuleChecks):
    RULES = bounds.RULES
    BREAKS = BREAKS


def test_backlog_is_pending_where_nobody_runs(database: Database, tmp_path: Path) -> None:
    with database.begin() as conn:
        conn.execute(sa.update(outbox_table).values(sent_at=None))
    found = holds(database, tmp_path, RULE[8])
    assert found.violations == []
    assert (found.figures["unsent"], found.figures["workers"]) == (3, "nobody runs")
    assert found.figures["outbox_lag_s"] == 2 * 86_400


def test_relays_own_lease_is_no_sign_of_a_worker(database: Database, tmp_path: Path) -> None:
    with database.begin() as conn:
        lease.acquire(conn, LEASE, "w", now=NOW + 2 * DAY - 1, seconds=30)
    assert holds(database, tmp_path, RULE[8]).figures["workers"] == "nobody runs"


def test_announcement_of_a_snapshot_that_is_not_out_yet_does_not_wait(
    database: Database, tmp_path: Path
) -> None:
    with database.begin() as conn:
        worker_that_does_not_relay(conn)
        conn.execute(sa.update(outbox_table).values(after_snapshot=5))
    assert holds(database, tmp_path, RULE[8]).violations == []
    with database.begin() as conn:
        properties.put(conn, properties.PUBLISHED_SNAPSHOT, "5")
    (violation,) = holds(database, tmp_path, RULE[8]).violations
    assert "nothing was ever sent; their log says why (relay_failed)" in violation


def test_short_backlog_is_no_fault(database: Database) -> None:
    now = NOW + bounds.RELAY_LAG_US
    with database.begin() as conn:
        lease.acquire(conn, SCHEDULER, "w", now=now, seconds=30)
        conn.execute(sa.update(outbox_table).values(sent_at=None))
    with database.read() as conn:
        assert not bounds.unrelayed(conn, now)
        assert bounds.unrelayed(conn, now + 1)


def test_last_time_that_something_was_sent_is_told(database: Database, tmp_path: Path) -> None:
    with database.begin() as conn:
        worker_that_does_not_relay(conn)
        row = dict(conn.execute(sa.select(outbox_table).limit(1)).mappings().one())
        sent = row | {"seq": 99, "event_id": "x", "sent_at": NOW + 2 * DAY - 7_000_000}
        conn.execute(sa.insert(outbox_table).values(**sent))
    (violation,) = holds(database, tmp_path, RULE[8]).violations
    assert "last sent 7 s ago" in violation


def with_log(database: Database, size: int) -> RuleResult:
    with database.read() as conn:
        return RULE[8].check(
            RuleInput(conn=conn, now=NOW, home=Path(), outbox_kept_us=DAY, wal_bytes=size)
        )


def test_log_that_a_reader_keeps_from_ending_is_a_violation(database: Database) -> None:
    limit = 4 * JOURNAL_BYTES
    assert with_log(database, limit).violations == []
    assert with_log(database, limit).figures["wal_bytes"] == limit
    (violation,) = with_log(database, limit + 1).violations
    assert "a reader stays open" in violation


def test_head_of_the_audit_chain_is_told(database: Database, tmp_path: Path) -> None:
    figures = holds(database, tmp_path, RULE[8]).figures
    assert (figures["audit_entries"], len(str(figures["audit_head"]))) == (2, 16)
    with database.begin() as conn:
        properties.put(conn, audit.HEAD, f"9 {'0' * 64}")
    (violation,) = holds(database, tmp_path, RULE[8]).violations
    assert violation.startswith("the audit chain breaks")
