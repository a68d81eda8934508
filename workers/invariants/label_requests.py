"""Requests for labels: their rows, what was announced of them, and the budget that they kept to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from redistill.streams.monitor.suspicion import CONFIDENCE, slice_of
from redistill.streams.store import ledger, properties
from redistill.streams.store.stored_requests import reason
from redistill.streams.store.tables import label_request_rows, label_requests, outbox
from redistill.streams.wire.events import LabelsRequested
from redistill.streams.wire.hashing import id_hashes, signed
from redistill.times import DAY, microseconds
from redistill.workers.invariants.rule import RuleInput, RuleResult

__all__ = ["requests_add_up"]

TOPIC = "label-requests"


def requests_add_up(inputs: RuleInput) -> RuleResult:
    """Part of invariant 2: each request has the rows that it says, and was announced with them."""
    violations: list[str] = []
    rows: dict[str, list[Any]] = defaultdict(list)
    for row in inputs.conn.execute(sa.select(label_request_rows)):
        rows[row.request_id].append(row)
    told, unread = _told(inputs.conn)
    violations += unread
    expired = inputs.counted.sum(ledger.OUTBOX_EXPIRED + TOPIC) > 0
    requests = inputs.conn.execute(sa.select(label_requests)).all()
    for request in requests:
        name = f"request {request.request_id[:8]} of {request.model}"
        mine = rows.pop(request.request_id, [])
        violations += [f"{name}: {why}" for why in _wrong(request, mine)]
        events = told.pop(request.request_id, [])
        if events:
            violations += [f"{name}: {why}" for why in _announced(request, mine, events)]
        elif not expired:
            violations.append(f"{name} was never announced")
    violations += [f"rows ask for labels in request {r[:8]}, which is not there" for r in rows]
    violations += [
        f"request {r[:8]} was announced, and is not there" for r in _missing(inputs, told)
    ]
    violations += _hashes(inputs.conn, requests)
    violations += _over_budget(inputs, requests)
    return RuleResult(figures={"label_requests": len(requests)}, violations=violations)


def _told(conn: sa.Connection) -> tuple[dict[str, list[LabelsRequested]], list[str]]:
    """The announcements that the outbox still has, by their request; and those that cannot be
    read."""
    told: dict[str, list[LabelsRequested]] = defaultdict(list)
    unread: list[str] = []
    query = sa.select(outbox.c.event_id, outbox.c.value).where(outbox.c.topic == TOPIC)
    for row in conn.execute(query.order_by(outbox.c.seq)):
        try:
            event = msgspec.json.decode(bytes(row.value), type=LabelsRequested)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            unread.append(f"event {row.event_id[:8]} for {TOPIC} cannot be read")
            continue
        if row.event_id.partition(":")[0] != str(event.request_id):
            unread.append(f"event {row.event_id[:8]} for {TOPIC} tells of another request")
        told[str(event.request_id)].append(event)
    return told, unread


def _missing(inputs: RuleInput, told: Mapping[str, Sequence[LabelsRequested]]) -> list[str]:
    """Requests that only the outbox knows, and retention did not delete."""
    return [
        request
        for request, events in told.items()
        if not inputs.counted.of(events[0].model, ledger.REQUESTS_EXPIRED)
    ]


def _wrong(request: Any, rows: Sequence[Any]) -> list[str]:
    """What a request and its rows contradict each other in."""
    out = []
    if len(rows) != request.rows:
        out.append(f"it asks for {request.rows:,} labels, {len(rows):,} rows are there")
    if slice_of(request.why) != request.slice or (
        request.slice is None and request.why not in ("harm", CONFIDENCE)
    ):
        out.append(f"it says {request.why!r} of the slice {request.slice!r}")
    if not 0 < request.p_include <= 1:
        out.append(f"rows were drawn with probability {request.p_include}")
    for row in rows:
        if (row.model, row.asked_at) != (request.model, request.asked_at):
            out.append(f"row {row.id} was asked for at another time, or of another model")
        if not request.first_served_at <= row.served_at <= request.last_served_at:
            out.append(f"row {row.id} is none that could be drawn")
    return out


def _announced(request: Any, rows: Sequence[Any], events: Sequence[LabelsRequested]) -> list[str]:
    """In what a request and its announcements differ."""
    out = []
    for event in events:
        said = (event.model, event.version, event.slice, event.budget_left, event.reason)
        wanted = (
            *(request.model, request.version, request.slice, request.budget_left),
            reason(request.why),
        )
        if said != wanted or microseconds(event.at) != request.asked_at:
            out.append("it was announced otherwise")
    asked = {
        (r.id, microseconds(r.served_at), r.inclusion_probability) for e in events for r in e.rows
    }
    if asked != {(r.id, r.served_at, request.p_include) for r in rows}:
        out.append("other rows were announced, or with another probability")
    if abs(sum(e.cost or 0.0 for e in events) - request.cost) > 1e-6 * max(1.0, request.cost):
        out.append("it was announced at another cost")
    return out


def _hashes(conn: sa.Connection, requests: Sequence[Any]) -> list[str]:
    """Rows with the hash of another id: their answers would not be known for what they are."""
    if not requests:
        return []
    salt = bytes.fromhex(properties.get(conn, properties.SALT) or "")
    r = label_request_rows.c
    found = conn.execute(sa.select(r.id, r.id_hash)).all()
    hashes = signed(id_hashes([row.id for row in found], salt)).tolist()
    return [
        f"row {row.id} was asked for under the hash of another id"
        for row, wanted in zip(found, hashes, strict=True)
        if row.id_hash != wanted
    ]


def _over_budget(inputs: RuleInput, requests: Sequence[Any]) -> list[str]:
    """Days on which more was asked for than was allowed, or what was left is told otherwise."""
    out: list[str] = []
    used: Counter[tuple[str, int]] = Counter()
    for r in sorted(requests, key=lambda r: (r.model, r.asked_at, -r.budget_left)):
        day = (r.model, r.asked_at // DAY)
        used[day] += r.rows
        if inputs.counted.of(r.model, ledger.REQUESTS_EXPIRED):
            continue  # others of that day may be gone
        if r.budget_left != r.budget - used[day]:
            out.append(
                f"request {r.request_id[:8]} of {r.model}: of {r.budget:,} labels a day"
                f" {used[day]:,} were asked for by then, and {r.budget_left:,} are said to be left"
            )
    return out
