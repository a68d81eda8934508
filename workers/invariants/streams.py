"""Invariants of streams: input is counted once, nothing that was found is lost."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID, uuid5

import sqlalchemy as sa

from redistill.streams.store.ledger import OUTCOMES_EXPIRED
from redistill.streams.store.tables import (
    accuracy_states,
    findings,
    gaps,
    outbox,
    outcomes,
)
from redistill.times import utc
from redistill.workers.invariants import (
    announcements,
    feature_blocks,
    incident_trail,
    label_requests,
    outcome_rows,
    row_sums,
    sealed_states,
)
from redistill.workers.invariants.rule import Rule, RuleInput, RuleResult
from redistill.workers.invariants.topic_facts import TopicFacts
from redistill.workers.store.tables import incident_findings, incidents, jobs

__all__ = ["RULES"]


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
    totals["outcomes"] = _outcomes(inputs, violations)
    figures: dict[str, int | float | str] = dict(totals)
    if last_gap is not None:
        figures["last_gap_found"] = utc(last_gap).isoformat(timespec="seconds")
    return RuleResult(figures=figures, violations=violations)


def against_logs(inputs: RuleInput) -> RuleResult:
    """Part of invariant 1: the logs of the inputs."""
    compare = (partial(_against_logs, inputs.offsets), partial(_deleted_topics, inputs.offsets))
    return RuleResult(later=compare)


def _against_logs(offsets: Sequence[Any], topics: TopicFacts | None) -> RuleResult:
    """What was produced and not yet passed is pending, or held by a transaction that is open, and
    the equation of the rule holds."""
    if topics is None:
        return RuleResult()
    violations: list[str] = []
    progress = {(r.topic_id, r.partition): r for r in offsets}
    pending = held = produced = 0
    for log in topics.logs:
        row = progress.get((log.topic_id, log.partition))
        following = log.begin if row is None else row.next_offset
        name = f"{log.topic}/{log.partition}"
        if following > log.end:
            violations.append(f"{name}: counted up to {following:,}, the log ends at {log.end:,}")
        if row is not None and row.log_end is not None and row.log_end > log.end >= following:
            violations.append(
                f"{name}: its log ended at {row.log_end:,} when it was looked at, it ends at"
                f" {log.end:,}"
            )
        if row is not None:
            first, passed = row.first_offset, row.counted + row.dead + row.skipped
            waiting = log.pending(following) + log.held(following)
            if following <= log.end and first + passed + waiting != log.end:
                violations.append(
                    f"{name}: {log.end - first:,} offsets were produced, {passed + waiting:,} are"
                    " counted, dead, skipped, pending or held"
                )
            if row.topic != log.topic:
                violations.append(f"{name} is counted as {row.topic}")
        pending += log.pending(following)
        held += log.held(following)
        produced += log.end - (log.begin if row is None else row.first_offset)
    return RuleResult(
        figures={"pending": pending, "held": held, "produced": produced}, violations=violations
    )


def _deleted_topics(offsets: Sequence[Any], topics: TopicFacts | None) -> RuleResult:
    """What nobody had read of a topic when it was deleted stands in a gap.

    A topic that was made again has the old one's name and another id. How far the log of the
    old one went is known from when it was looked at last.
    """
    violations: list[str] = []
    now = {log.topic: log.topic_id for log in topics.logs} if topics is not None else {}
    for row in sorted(offsets, key=lambda r: r.updated_at, reverse=True):
        now.setdefault(row.topic, row.topic_id)  # nobody asked: that which was counted last
    ids: dict[str, set[str]] = {}
    for row in offsets:
        ids.setdefault(row.topic, set()).add(row.topic_id)
        name = f"{row.topic}/{row.partition}"
        if row.log_end is not None and row.log_end < row.next_offset:
            violations.append(
                f"{name}: counted up to {row.next_offset:,}, and its log was seen to end at"
                f" {row.log_end:,}"
            )
        unread = (row.log_end or 0) - row.next_offset
        if row.topic_id != now[row.topic] and unread > 0:
            violations.append(
                f"{name}: the topic was deleted with {unread:,} records that nobody had read, and"
                " no gap says so: a stream worker notes it when it starts"
            )
    again = sum(len(of) - 1 for of in ids.values())
    return RuleResult(figures={"recreated": again} if again else {}, violations=violations)


def _gap_offsets(
    inputs: RuleInput, violations: list[str]
) -> tuple[dict[tuple[str, int], int], int | None]:
    """Offsets in the recorded gaps of each partition, and when the newest gap was found; gaps never
    overlap.
    """
    out: dict[tuple[str, int], int] = {}
    newest: int | None = None
    last: dict[tuple[str, int], int] = {}
    known = {(r.topic_id, r.partition): r for r in inputs.offsets}
    query = sa.select(gaps).order_by(gaps.c.topic_id, gaps.c.partition, gaps.c.first)
    for row in inputs.conn.execute(query):
        partition = (row.topic_id, row.partition)
        if row.last < row.first or row.first <= last.get(partition, -1):
            violations.append(
                f"{row.topic}/{row.partition}: the gap {row.first}-{row.last} overlaps another"
            )
        at = known.get(partition)
        if at is None or row.topic != at.topic or row.first < at.first_offset:
            violations.append(
                f"{row.topic}/{row.partition}: the gap {row.first}-{row.last} is in no log that was"
                " read"
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
    expired = inputs.counted.by_model(OUTCOMES_EXPIRED)
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


RULES = (
    Rule(
        number=1,
        text="every input offset is counted once: counted + dead + skipped + gaps + pending + held"
        " = produced; every row is with a detector, a label, a name, or expired",
        parts=(
            counted_once,
            against_logs,
            row_sums.rows_add_up,
            row_sums.labels_add_up,
            row_sums.samples_add_up,
            row_sums.dead_letters,
            feature_blocks.blocks_say_the_same,
            sealed_states.states_say_the_same,
        ),
    ),
    Rule(
        number=2,
        text="no finding is lost: announced, and an incident or a reason why not; the topics hold"
        " what was announced, and nothing else",
        parts=(
            nothing_lost,
            announcements.findings_announced,
            announcements.outbox_and_topics,
            label_requests.requests_add_up,
            incident_trail.incidents_recorded,
            incident_trail.incidents_told,
            incident_trail.holds_recorded,
        ),
    ),
    Rule(
        number=9,
        text="every outcome follows from its label and its prediction, and a detector saw it",
        parts=(
            outcome_rows.outcomes_follow,
            outcome_rows.labels_lead_to_outcomes,
            sealed_states.errors_add_up,
        ),
    ),
)
