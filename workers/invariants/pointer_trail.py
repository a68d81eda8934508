"""Pointers as the audit chain tells them: every move is a row of a history and an entry, and what
follows from it, a comparison, a bar, a pause, is there."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from typing import Any

import sqlalchemy as sa

from redistill.times import DAY
from redistill.workers.invariants.rule import RuleInput, RuleResult
from redistill.workers.releases import release_requests
from redistill.workers.releases.post_release_monitor import E_LIMIT
from redistill.workers.store.tables import (
    barred,
    monitored_releases,
    pauses,
    pointer_history,
    pointers,
)
from redistill.workers.store.tables import (
    release_requests as requests,
)

__all__ = ["comparisons_follow", "moves_recorded", "requests_answered"]

STATES = frozenset({"watching", "better", "worse", "expired", "superseded"})


def moves_recorded(inputs: RuleInput) -> RuleResult:
    """Part of invariant 5: the history of each pointer, and its last move."""
    violations: list[str] = []
    conn, trail = inputs.conn, inputs.trail.moves
    history: dict[str, list[Any]] = defaultdict(list)
    query = sa.select(pointer_history).order_by(pointer_history.c.model, pointer_history.c.epoch)
    for row in conn.execute(query):
        moves = history[row.model]
        told = trail.get((row.model, row.epoch), [])
        name = f"{row.model}: epoch {row.epoch}"
        if len(told) != 1:
            violations.append(f"{name} stands {len(told)} times in the audit chain")
        else:
            said = {"version": row.stable, "sha256": row.sha256, "reason": row.reason}
            said["previous"] = moves[-1].stable if moves else None
            other = [n for n, value in said.items() if told[0].body.get(n) != value]
            other += [] if told[0].action == f"release.{row.change}" else ["change"]
            other += [] if told[0].at == row.at else ["at"]
            trigger = told[0].body.get("trigger")
            try:
                other += [] if trigger in (None, json.loads(row.trigger)) else ["trigger"]
            except ValueError:
                other.append("trigger")
            if other:
                violations.append(
                    f"{name}: the audit chain says otherwise about {', '.join(other)}"
                )
        moves.append(row)
    violations += [
        f"{model}: the audit chain tells of epoch {epoch}, which is not in its history"
        for model, epoch in sorted(trail)
        if epoch not in {m.epoch for m in history[model]}
    ]
    for row in conn.execute(sa.select(pointers)):
        last = next(iter(history[row.model][-1:]), None)
        if last is None:
            continue
        told = trail.get((row.model, last.epoch), [])
        moved_at = told[0].written_at if told else last.at
        if (last.reason, moved_at) != (row.reason, row.moved_at):
            violations.append(
                f"{row.model}: its pointer moved for another reason or at another time"
            )
    pointed = set(conn.execute(sa.select(pointers.c.model)).scalars())
    violations += [f"{m}: its pointer is gone" for m in history if history[m] and m not in pointed]
    violations += _barred(inputs, history)
    return RuleResult(violations=violations)


def _barred(inputs: RuleInput, history: dict[str, list[Any]]) -> list[str]:
    """Bytes that an automatic roll back took away are barred, with its reason and time, unless a
    person lifted that."""
    wanted: dict[tuple[str, str], tuple[str, int]] = {}
    for model, moves in history.items():
        for before, move in itertools.pairwise(moves):
            if move.change == "automatic_rollback":  # an earlier reason is kept
                wanted.setdefault((model, before.sha256), (move.reason, move.at))
    lifted = inputs.trail.lifted
    violations = []
    rows = {(r.model, r.sha256): r for r in inputs.conn.execute(sa.select(barred))}
    for (model, digest), row in rows.items():
        reason = wanted.get((model, digest))
        if reason is None:
            violations.append(f"{model}: {digest[:8]} is barred, and no roll back took it away")
        elif (model, digest) not in lifted and reason != (row.reason, row.at):
            violations.append(f"{model}: {digest[:8]} is barred for another reason, or since then")
    violations += [
        f"{model}: {digest[:8]} was taken away by a roll back, and is not barred"
        for model, digest in sorted(wanted.keys() - rows.keys() - lifted)
    ]
    for model, moves in history.items():
        paused = [m.at for m in moves if m.change != "publish"]
        until = inputs.conn.execute(
            sa.select(pauses.c.until).where(pauses.c.model == model)
        ).scalar_one_or_none()
        if paused and (until is None or until < paused[-1]):
            violations.append(f"{model}: it was rolled back, and its repair was not paused")
    return violations


def comparisons_follow(inputs: RuleInput) -> RuleResult:
    """Part of invariant 5: each published version is compared with what it replaced, and what that
    said was done."""
    violations: list[str] = []
    history: dict[str, list[Any]] = defaultdict(list)
    query = sa.select(pointer_history).order_by(pointer_history.c.model, pointer_history.c.epoch)
    for row in inputs.conn.execute(query):
        history[row.model].append(row)
    rows = {(r.model, r.epoch): r for r in inputs.conn.execute(sa.select(monitored_releases))}
    expected: dict[tuple[str, int], tuple[Any, Any, Any]] = {}
    for model, moves in history.items():
        for before, move, after in zip(moves, moves[1:], [*moves[2:], None], strict=False):
            if move.change == "publish":
                expected[model, move.epoch] = before, move, after
    for key, row in rows.items():
        name = f"{row.model}: the comparison of epoch {row.epoch}"
        of = expected.get(key)
        if of is None:
            violations.append(f"{name} is of no release that replaced another")
            continue
        before, move, after = of
        if (row.version, row.predecessor, row.since) != (move.stable, before.stable, move.at):
            violations.append(f"{name} compares other versions, or since another time")
        violations += [f"{name} {why}" for why in _verdict(row, after)]
    violations += [
        f"{model}: epoch {epoch} was published, and is compared with nothing"
        for model, epoch in sorted(expected.keys() - rows.keys())
    ]
    return RuleResult(violations=violations)


def _verdict(row: Any, after: Any) -> list[str]:
    if row.state not in STATES:
        return [f"is {row.state}, which none is"]
    out = []
    if row.state == "watching" and after is not None:
        out.append("goes on, though another version serves")
    if row.state == "superseded" and after is None:
        out.append("was given up, though no other version serves")
    if row.until < row.since or row.until - row.since > 30 * DAY:
        out.append("ends before it begins, or never")
    try:
        found = None if row.result is None else json.loads(row.result)
        said = {} if found is None else found
        e_worse, e_better = said.get("e_worse", 0.0), said.get("e_better", 0.0)
    except (ValueError, AttributeError):
        return [*out, "cannot be read"]
    worse = e_worse >= E_LIMIT
    better = not worse and e_better >= E_LIMIT
    if (worse, better) != (row.state == "worse", row.state == "better"):
        out.append(f"is {row.state}, its e-values say otherwise")
    if found is None and row.last_seq:
        out.append("looked at outcomes, and found nothing")
    return out


def requests_answered(inputs: RuleInput) -> RuleResult:
    """Part of invariant 5: a request that was granted moved the pointer, once."""
    violations: list[str] = []
    granted: Counter[tuple[str, int]] = Counter()
    for row in inputs.conn.execute(sa.select(requests)):
        name = f"the {row.kind} of {row.model} that {row.actor} asked for"
        request = release_requests.of_row(row)
        if inputs.audit_key is not None and not request.is_authentic(inputs.audit_key):
            since = inputs.trail.adopted.get(row.model)
            if since is None or row.created_at > since:  # those before were never signed
                violations.append(f"{name} was made or changed without the audit key")
        if (row.done_at is None) != (row.result is None):
            violations.append(f"{name} is answered by halves")
            continue
        if row.done_at is None or row.result is None:
            continue
        try:
            body, result = json.loads(row.body), json.loads(row.result)
            if not result["ok"] or result.get("snapshot") is None:
                continue
            told = inputs.trail.moves.get((row.model, int(result["epoch"])), [])
        except (ValueError, KeyError, TypeError):
            violations.append(f"{name} cannot be read, or its answer cannot")
            continue
        granted[row.model, int(result["epoch"])] += 1
        wanted = body.get("version") or body.get("to")
        for entry in told:
            said = (entry.action, entry.actor, entry.written_at, entry.body.get("version"))
            if said != (f"release.{row.kind}", row.actor, row.done_at, result.get("version")):
                violations.append(f"{name}: the audit chain says otherwise")
            elif wanted is not None and wanted != entry.body.get("version"):
                violations.append(f"{name} was for {wanted}, and {entry.body['version']} serves")
            elif body.get("reason") not in (None, entry.body.get("reason")):
                violations.append(f"{name} had another reason")
            elif (result.get("previous"), result.get("sha256")) != (
                entry.body.get("previous"),
                entry.body.get("sha256"),
            ):
                violations.append(f"{name}: its answer names other releases")
        if not told:
            violations.append(f"{name} was granted, and moved nothing")
    violations += [
        f"{model}: epoch {epoch} answers {n} requests"
        for (model, epoch), n in granted.items()
        if n > 1
    ]
    return RuleResult(violations=violations)
