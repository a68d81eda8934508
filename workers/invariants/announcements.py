"""Announcements: what changed was announced, what was announced is in the topics, and nobody else
announced anything there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID, uuid5

import msgspec
import sqlalchemy as sa

from redistill.streams.store import ledger
from redistill.streams.store.tables import accuracy_states, findings, outbox, outcomes
from redistill.streams.wire.events import DriftFound
from redistill.times import HOUR, microseconds
from redistill.workers.invariants.rule import RuleInput, RuleResult
from redistill.workers.invariants.topic_facts import TopicFacts, digest

__all__ = ["findings_announced", "outbox_and_topics"]

CLOCK_US = HOUR
"""Clocks of a broker's clients differ by less."""
SAID = ("model", "version", "kind", "scope", "status", "severity", "revision")
"""What a finding's row says as well as its body."""


def findings_announced(inputs: RuleInput) -> RuleResult:
    """Part of invariant 2: the row of a finding, its body, and an announcement of each revision."""
    violations: list[str] = []
    drift = {
        r.event_id: r
        for r in inputs.conn.execute(
            sa.select(outbox.c.event_id, outbox.c.value).where(outbox.c.topic == "drift")
        )
    }
    made, unknown = 0, set(drift)
    revisions: set[str] = set()
    for row in inputs.conn.execute(sa.select(findings)):
        name = f"finding {row.finding_id[:8]} of {row.model}"
        made += row.revision + 1
        try:
            body = msgspec.json.decode(row.body, type=DriftFound)
            namespace = UUID(row.finding_id)
        except (msgspec.MsgspecError, ValueError):
            violations.append(f"{name}: its body, or its id, cannot be read")
            continue
        ids = [str(uuid5(namespace, str(n))) for n in range(row.revision + 1)]
        revisions |= set(ids)
        unknown -= set(ids)
        other = [n for n in SAID if getattr(row, n) != getattr(body, n)]
        if str(body.finding_id) != row.finding_id:
            other.append("finding_id")
        if microseconds(body.opened_at) != row.opened_at:
            other.append("opened_at")
        if other:
            violations.append(f"{name}: its row and its body differ in {', '.join(other)}")
        last = drift.get(ids[-1])
        if last is not None and bytes(last.value) != row.body.encode():
            violations.append(f"{name}: revision {row.revision} was announced with another content")
        if row.intake_revision is not None and row.intake_revision > row.revision:
            violations.append(f"{name}: a revision was taken in that it does not have")
    violations += _raised(inputs.conn)
    violations += [f"event {e[:8]} announces a finding that there is not" for e in sorted(unknown)]
    gone = inputs.counted.sum(ledger.OUTBOX_EXPIRED + "drift")
    if made != len(drift) + gone:
        violations.append(
            f"findings changed {made:,} times, {len(drift):,} announcements are there, {gone:,}"
            " expired"
        )
    compare = partial(_revisions_in_topic, revisions, inputs.unsent_of("drift"))
    return RuleResult(violations=violations, later=(compare,))


def _revisions_in_topic(
    revisions: set[str], unsent: set[str], topics: TopicFacts | None
) -> RuleResult:
    """The topic ``drift`` holds each revision of a finding, also where the outbox has expired."""
    if topics is None:
        return RuleResult()
    violations = [
        f"drift holds event {a.event_id[:8]}, which no finding made"
        for a in topics.announced.values()
        if a.topic == "drift" and a.before and a.event_id not in revisions
    ]
    if "drift" in topics.whole:
        violations += [
            f"event {e[:8]} of a finding is neither in the topic drift nor waiting"
            for e in sorted(revisions - topics.announced.keys() - unsent)
        ]
    return RuleResult(violations=violations)


def _raised(conn: sa.Connection) -> list[str]:
    """The outcome that raised an alarm was not made before the alarm was announced first: no gate
    judges by it, nor by those before it: whoever moves it back has an alarm judge itself."""
    first = {
        r.event_id: r.created_at
        for r in conn.execute(
            sa.select(outbox.c.event_id, outbox.c.created_at).where(outbox.c.topic == "drift")
        )
    }
    f, o = findings.c, outcomes.c
    made = sa.select(f.finding_id, f.model, f.raised_seq, o.made_at, accuracy_states.c.last_seq)
    made = made.select_from(
        findings.outerjoin(
            outcomes,
            sa.and_(o.model == f.model, o.version == f.version, o.seq == f.raised_seq),
        ).outerjoin(
            accuracy_states,
            sa.and_(accuracy_states.c.model == f.model, accuracy_states.c.version == f.version),
        )
    ).where(f.raised_seq.is_not(None))
    violations = []
    for row in conn.execute(made):
        announced = first.get(str(uuid5(UUID(row.finding_id), "0")))
        # later is lawful: 0.1 did not say it, and the upgrade takes the last that it may have been
        early = None not in (announced, row.made_at) and row.made_at < announced
        never = row.raised_seq < 1 or (row.last_seq is not None and row.raised_seq > row.last_seq)
        if early or never:
            violations.append(
                f"finding {row.finding_id[:8]} of {row.model}: outcome {row.raised_seq} did not"
                " raise it"
            )
    return violations


def outbox_and_topics(inputs: RuleInput) -> RuleResult:
    """Part of invariant 2: each row of the outbox is well formed, and the topics hold what was sent
    and nothing else."""
    violations: list[str] = []
    rows: list[_Row] = []
    stream = inputs.conn.execution_options(yield_per=1_000)
    with stream.execute(sa.select(outbox).order_by(outbox.c.seq)) as found:
        for row in found:
            name = f"event {row.event_id[:8]} for {row.topic}"
            violations += [f"{name}: {why}" for why in _form(inputs, row)]
            content = digest(row.key.encode(), bytes(row.value), _headers(row))
            rows.append(_Row(row.event_id, row.topic, content, row.sent_at is not None))
    kept_since = inputs.now - inputs.outbox_kept_us + CLOCK_US
    return RuleResult(
        figures={"announcements": sum(r.sent for r in rows)},
        violations=violations,
        later=(partial(_against_topics, rows, kept_since),),
    )


def _headers(row: Any) -> list[tuple[str, bytes]]:
    try:
        return [(k, v.encode()) for k, v in json.loads(row.headers).items()]
    except (AttributeError, ValueError):  # said already
        return []


class _Row(NamedTuple):
    """What is compared of a row of the outbox."""

    event_id: str
    topic: str
    digest: bytes
    sent: bool


def _against_topics(rows: Sequence[_Row], kept_since: int, topics: TopicFacts | None) -> RuleResult:
    """What is marked as sent is in the topics, with its content; what is there was announced,
    unless it is so old that the outbox keeps it no more."""
    if topics is None:
        return RuleResult()
    violations: list[str] = []
    for row in rows:
        record = topics.announced.get(row.event_id)
        name = f"event {row.event_id[:8]} for {row.topic}"
        if record is None:
            if row.sent and row.topic in topics.whole:
                violations.append(f"{name} is marked as sent, and is not in the topic")
        elif record.topic != row.topic:
            violations.append(f"{name} is in the topic {record.topic}")
        elif record.digest != row.digest:
            violations.append(f"{name} has another content in the topic")
    known = {row.event_id for row in rows}
    violations += [
        f"{a.topic} holds event {a.event_id[:8]}, which nobody announced"
        for a in topics.announced.values()
        if a.before and a.at > kept_since and a.event_id not in known
    ]
    return RuleResult(violations=violations)


def _form(inputs: RuleInput, row: Any) -> list[str]:
    """What is wrong with a row by itself."""
    try:
        headers = json.loads(row.headers)
    except ValueError:
        headers = None
    if not isinstance(headers, dict):
        return ["its headers cannot be read"]
    out = []
    if headers.get("ce_id") != row.event_id:
        out.append("its headers name another event")
    snapshot = inputs.published_snapshot
    if row.sent_at is not None and (row.after_snapshot or 0) > snapshot:
        out.append(f"it was sent before snapshot {row.after_snapshot} was published")
    return out
