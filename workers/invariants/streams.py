"""Invariants of streams: input is counted once, nothing that was found is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid5

import sqlalchemy as sa

from redistill.streams.store.tables import (
    accuracy_states,
    counters,
    findings,
    gaps,
    outbox,
    outcomes,
)
from redistill.times import utc
from redistill.workers.invariants.log_offsets import Log
from redistill.workers.invariants.rule import Rule, RuleInput, RuleResult
from redistill.workers.store.queries import OUTCOMES_EXPIRED
from redistill.workers.store.tables import incident_findings, incidents, jobs

__all__ = ["RULES", "against_logs", "against_topics"]


def counted_once(inputs: RuleInput) -> RuleResult:
    """Invariant 1: per partition, and for the outcomes that follow from the rows."""
    violations: list[str] = []
    totals = dict.fromkeys(("counted", "dead", "skipped", "gaps", "rows"), 0)
    lost, last_gap = _gap_offsets(inputs, violations)
    for row in inputs.offsets:
        partition = (row.topic_id, row.partition)
        name = f"{row.topic}/{row.partition}"
        passed = row.next_offset - row.first_offset
        accounted = row.counted + row.dead + row.skipped
        if passed != accounted:
            violations.append(
                f"{name}: {passed:,} offsets were passed, {accounted:,} are accounted for"
                f" ({row.counted:,} counted, {row.dead:,} dead, {row.skipped:,} skipped)"
            )
        if min(row.counted, row.dead, row.skipped, row.rows) < 0:
            violations.append(f"{name}: a count is negative")
        in_gaps = lost.get(partition, 0)
        if in_gaps > row.skipped:
            violations.append(
                f"{name}: gaps of {in_gaps:,} offsets, only {row.skipped:,} were skipped"
            )
        totals["counted"] += row.counted
        totals["dead"] += row.dead
        totals["skipped"] += row.skipped - in_gaps
        totals["gaps"] += in_gaps
        totals["rows"] += row.rows
    dead = inputs.conn.execute(
        sa.select(sa.func.count()).where(outbox.c.topic == "dlq")
    ).scalar_one()
    if dead > totals["dead"]:
        violations.append(
            f"{dead:,} dead letters were written, {totals['dead']:,} records are counted dead"
        )
    totals["outcomes"] = _outcomes(inputs, violations)
    figures: dict[str, int | float | str] = dict(totals)
    if last_gap is not None:
        figures["last_gap_found"] = utc(last_gap).isoformat(timespec="seconds")
    return RuleResult(figures=figures, violations=violations)


def against_logs(kept: Sequence[Any], logs: Sequence[Log]) -> RuleResult:
    """Invariant 1, the broker's half: what was produced and not yet passed is pending, or held by a
    transaction that is open.
    """
    violations: list[str] = []
    progress = {(r.topic_id, r.partition): r for r in kept}
    pending = held = produced = 0
    for log in logs:
        row = progress.get((log.topic_id, log.partition))
        following = log.begin if row is None else row.next_offset
        if following > log.end:
            violations.append(
                f"{log.topic}/{log.partition}: counted up to {following:,}, the log ends at"
                f" {log.end:,}"
            )
        pending += log.pending(following)
        held += log.held(following)
        produced += log.end - (log.begin if row is None else row.first_offset)
    return RuleResult(
        figures={"pending": pending, "held": held, "produced": produced}, violations=violations
    )


def _gap_offsets(
    inputs: RuleInput, violations: list[str]
) -> tuple[dict[tuple[str, int], int], int | None]:
    """Offsets in the recorded gaps of each partition, and when the newest gap was found; gaps never
    overlap.
    """
    out: dict[tuple[str, int], int] = {}
    newest: int | None = None
    last: dict[tuple[str, int], int] = {}
    query = sa.select(gaps).order_by(gaps.c.topic_id, gaps.c.partition, gaps.c.first)
    for row in inputs.conn.execute(query):
        partition = (row.topic_id, row.partition)
        if row.last < row.first or row.first <= last.get(partition, -1):
            violations.append(
                f"{row.topic}/{row.partition}: the gap {row.first}-{row.last} overlaps another"
            )
        last[partition] = row.last
        out[partition] = out.get(partition, 0) + row.last - row.first + 1
        newest = max(newest or 0, row.found_at)
    return out, newest


def _outcomes(inputs: RuleInput, violations: list[str]) -> int:
    """Every outcome was seen once by its detector, and is there unless retention deleted it."""
    there: dict[tuple[str, str], tuple[int, int]] = {}
    query = sa.select(
        outcomes.c.model, outcomes.c.version, sa.func.count(), sa.func.max(outcomes.c.seq)
    ).group_by(outcomes.c.model, outcomes.c.version)
    for model, version, rows, last in inputs.conn.execute(query):
        there[model, version] = int(rows), int(last)
    missing_outcomes: dict[str, int] = {}
    for row in inputs.conn.execute(sa.select(accuracy_states)):
        name = f"{row.model} {row.version}"
        rows, last = there.pop((row.model, row.version), (0, row.last_seq))
        if row.n != row.last_seq:
            violations.append(
                f"{name}: its detector saw {row.n} outcomes, the last is number {row.last_seq}"
            )
        if last > row.last_seq:
            violations.append(f"{name}: outcome {last} is there, its detector saw {row.last_seq}")
        missing_outcomes[row.model] = missing_outcomes.get(row.model, 0) + row.last_seq - rows
    violations += [
        f"{m} {v}: {rows} outcomes that no detector saw" for (m, v), (rows, _) in there.items()
    ]
    query_expired = sa.select(counters.c.model, counters.c.value).where(
        counters.c.name == OUTCOMES_EXPIRED
    )
    expired = {model: int(n) for model, n in inputs.conn.execute(query_expired)}
    for model, missing in missing_outcomes.items():
        if missing != expired.get(model, 0):
            violations.append(
                f"{model}: {missing} outcomes are missing, retention deleted"
                f" {expired.get(model, 0)}"
            )
    return inputs.conn.execute(sa.select(sa.func.count()).select_from(outcomes)).scalar_one()


def nothing_lost(inputs: RuleInput) -> RuleResult:
    """Invariant 2: each finding was announced, and taken in with an incident or a reason."""
    violations: list[str] = []
    attached = set(inputs.conn.execute(sa.select(incident_findings.c.finding_id)).scalars())
    rows = inputs.conn.execute(sa.select(findings)).all()
    known = {r.finding_id for r in rows}
    events = {
        r.event_id: r.sent_at
        for r in inputs.conn.execute(
            sa.select(outbox.c.event_id, outbox.c.sent_at).where(outbox.c.topic == "drift")
        )
    }
    waiting = unsent = 0
    for row in rows:
        name = f"finding {row.finding_id[:8]} of {row.model}"
        if row.intake_revision is None or row.intake_revision < row.revision:
            waiting += 1
        elif row.finding_id not in attached and not row.intake_note:
            violations.append(
                f"{name} was taken in, but has neither an incident nor a reason why not"
            )
        event_id = str(uuid5(UUID(row.finding_id), str(row.revision)))
        if event_id in events:
            unsent += events[event_id] is None
        elif row.stored_at > inputs.now - inputs.outbox_kept_us:
            violations.append(f"{name}, revision {row.revision}, was never announced")
    violations += [
        f"an incident refers to finding {f[:8]}, which does not exist" for f in attached - known
    ]
    violations += _incidents(inputs)
    return RuleResult(
        figures={
            "findings": len(rows),
            "waiting": waiting,
            "unsent": unsent,
            "incidents": inputs.conn.execute(
                sa.select(sa.func.count()).select_from(incidents)
            ).scalar_one(),
        },
        violations=violations,
    )


def _incidents(inputs: RuleInput) -> list[str]:
    """An incident ends in a job, or in a recorded reason; it is open or resolved, never both."""
    violations: list[str] = []
    with_job = set(inputs.conn.execute(sa.select(jobs.c.incident_id)).scalars())
    for row in inputs.conn.execute(sa.select(incidents)):
        name = f"incident {row.incident_id[:8]} of {row.model}"
        if row.incident_id not in with_job and not (row.why or "").strip():
            violations.append(f"{name} has neither a job nor a reason why not")
        if (row.status == "open") != (row.open_mark == 1):
            violations.append(f"{name} is {row.status}, its mark says otherwise")
        if row.status == "resolved" and not row.resolution:
            violations.append(f"{name} is resolved without a reason")
    twice = inputs.conn.execute(
        sa.select(incidents.c.model, incidents.c.incident_class, sa.func.count().label("n"))
        .where(incidents.c.status == "open")
        .group_by(incidents.c.model, incidents.c.incident_class)
        .having(sa.func.count() > 1)
    )
    violations += [f"{r.model} has {r.n} open incidents of class {r.incident_class}" for r in twice]
    return violations


def against_topics(sent: Sequence[Any], ids: set[str] | None) -> RuleResult:
    """Invariant 2, the broker's half: what is marked as sent is in the topics.

    Parameters
    ----------
    ids
        ``ce_id`` of everything in them; ``None``: they do not go back to the first announcement, or
        could not be read in time, so that nothing follows from an absence.
    """
    if ids is None:
        return RuleResult(figures={})
    violations = [
        f"event {row.event_id[:8]} for {row.topic} is marked as sent, and is not in the topic"
        for row in sent
        if row.event_id not in ids
    ]
    return RuleResult(figures={"announcements": len(sent)}, violations=violations)


RULES = (
    Rule(
        number=1,
        text="every input offset is counted once: counted + dead + skipped + gaps + pending + held"
        " = produced",
        check=counted_once,
    ),
    Rule(
        number=2,
        text="no finding is lost: announced, and an incident or a reason why not",
        check=nothing_lost,
    ),
)
