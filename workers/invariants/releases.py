"""Invariants of the acting side: jobs, releases, pointers, leases, services, the audit chain, bounds."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from redistill.streams.client.release import FALLBACK, sha256_of
from redistill.streams.store import properties
from redistill.streams.store.database import JOURNAL_BYTES
from redistill.streams.store.outbox import LEASE
from redistill.streams.store.tables import leases, offsets, outbox
from redistill.workers.invariants.check import Evidence, Finding, Rule
from redistill.workers.releases.files import Place
from redistill.workers.store import audit
from redistill.workers.store.tables import (
    activations,
    barred,
    job_steps,
    jobs,
    pointer_history,
    pointers,
    versions,
)

LIVE = frozenset({"queued", "running", "waiting_labels"})
CLOCK_US = 5_000_000
"""Clocks of two machines may differ so much."""
RELAY_LAG_US = 600_000_000
"""Workers send what waits within seconds; ten minutes are a fault."""
SIGN_OF_LIFE_US = 60_000_000
"""A stream worker without a lease (PostgreSQL, no static id) shows itself by the offsets it stores."""


def one_job(e: Evidence) -> Finding:
    """Invariant 3."""
    broken: list[str] = []
    rows = e.conn.execute(sa.select(jobs)).all()
    attempts: dict[tuple[str, int], int] = {}
    live: dict[str, int] = {}
    for row in rows:
        if row.incident_id is not None:
            key = (row.incident_id, row.attempt)
            attempts[key] = attempts.get(key, 0) + 1
        if row.state in LIVE:
            live[row.model] = live.get(row.model, 0) + 1
        if (row.state in LIVE) != (row.live_mark == 1):
            broken.append(
                f"job {row.number} of {row.model} is {row.state}, its mark says otherwise"
            )
    broken += [
        f"attempt {a} of incident {i[:8]} has {n} jobs" for (i, a), n in attempts.items() if n > 1
    ]
    broken += [f"{model} has {n} live jobs" for model, n in live.items() if n > 1]
    made = e.conn.execute(
        sa.select(versions.c.job_id, sa.func.count().label("n"))
        .where(versions.c.job_id.is_not(None))
        .group_by(versions.c.job_id)
    ).all()
    broken += [f"job {r.job_id[:8]} made {r.n} releases" for r in made if r.n > 1]
    return Finding(
        figures={"jobs": len(rows), "live": sum(live.values()), "releases": len(made)},
        broken=broken,
    )


def passed_gates(e: Evidence) -> Finding:
    """Invariant 4."""
    broken: list[str] = []
    served = e.conn.execute(
        sa.select(pointer_history.c.model, pointer_history.c.stable, pointer_history.c.epoch)
    ).all()
    first = {r.model: r.stable for r in served if r.epoch == 1}
    ever = {(r.model, r.stable) for r in served}
    rows = e.conn.execute(sa.select(versions)).all()
    for row in rows:
        if row.status != "published" and (row.model, row.version) not in ever:
            continue
        name = f"{row.model} {row.version}"
        if not row.gate_passed:
            broken.append(f"{name} was published without having passed its gates")
        try:
            report = json.loads(row.report)
        except ValueError:
            broken.append(f"{name}: its gate report cannot be read")
            continue
        if report.get("policy_sha256") != row.policy_sha256:
            broken.append(f"{name} was judged under another policy than it names")
        if row.sha256 not in set(_judged(report)):
            broken.append(f"{name}: its gate report is not about its bytes ({row.sha256[:8]})")
        failed = [g["name"] for g in report.get("gates", ()) if g.get("passed") is not True]
        if failed:
            broken.append(f"{name}: its report says that {', '.join(failed)} did not pass")
        if row.kind == "baseline" and first.get(row.model) != row.version:
            broken.append(f"{name} is a baseline and was not the first that served")
    published = sum((r.model, r.version) in ever for r in rows)
    return Finding(figures={"versions": len(rows), "published": published}, broken=broken)


def _judged(report: dict[str, Any]) -> Iterator[str]:
    """SHA-256 of the graph that a report says passed."""
    chosen = report.get("chosen")
    for variant in report.get("variants", ()):
        if variant.get("name") == chosen:
            yield str(variant.get("sha256"))
    if report.get("mode") == "baseline" and report.get("incumbent"):
        yield str(report["incumbent"].get("sha256"))


def pointers_stand(e: Evidence) -> Finding:
    """Invariant 5."""
    broken: list[str] = []
    place = Place(e.home)
    known = {(r.model, r.version): r for r in e.conn.execute(sa.select(versions))}
    never = {(r.model, r.sha256): r.at for r in e.conn.execute(sa.select(barred))}
    history: dict[str, list[Any]] = {}
    for row in e.conn.execute(
        sa.select(pointer_history).order_by(pointer_history.c.model, pointer_history.c.epoch)
    ):
        history.setdefault(row.model, []).append(row)
    checked = 0
    for model, moves in history.items():
        epochs = [m.epoch for m in moves]
        if epochs != list(range(1, len(epochs) + 1)):
            broken.append(f"{model}: the epochs of its pointer are not 1 to {len(epochs)}")
        if any(b.at < a.at - CLOCK_US for a, b in itertools.pairwise(moves)):
            broken.append(f"{model}: a later epoch has an earlier time")
        for move in moves:
            version = known.get((model, move.stable))
            if version is None:
                broken.append(
                    f"{model}: epoch {move.epoch} names {move.stable}, which is not known"
                )
            elif version.sha256 != move.sha256:
                broken.append(
                    f"{model}: epoch {move.epoch} names other bytes than {move.stable} has"
                )
            if move.at > never.get((model, move.sha256), move.at):
                broken.append(f"{model}: epoch {move.epoch} serves bytes that were barred before")
    rows = e.conn.execute(sa.select(pointers)).all()
    for row in rows:
        moves = history.get(row.model, [])
        if not moves or (moves[-1].epoch, moves[-1].stable) != (row.epoch, row.stable):
            broken.append(f"{row.model}: its pointer is not the last of its history")
        for name in dict.fromkeys(v for v in (row.stable, _previous(moves)) if v is not None):
            entry = known.get((row.model, name))
            if entry is not None:
                checked += 1
                broken += _files(place, row.model, entry)
    return Finding(
        figures={
            "pointers": len(rows),
            "moves": sum(map(len, history.values())),
            "releases": checked,
        },
        broken=broken,
    )


def _previous(moves: list[Any]) -> str | None:
    """What served before the present version."""
    current = moves[-1].stable if moves else None
    return next((m.stable for m in reversed(moves) if m.stable != current), None)


def _files(place: Place, model: str, row: Any) -> list[str]:
    """Whether every file of a release is there, with the bytes that were signed."""
    files = json.loads(row.files)
    if not files:
        return [f"{model} {row.version}: its files were removed, it cannot be loaded again"]
    broken = []
    for name, entry in files.items():
        path = place.path(model, name, entry["sha256"])
        if not path.is_file():
            broken.append(f"{model} {row.version}: {name} is missing ({path})")
        elif path.stat().st_size != entry["bytes"] or sha256_of(path) != entry["sha256"]:
            broken.append(
                f"{model} {row.version}: {name} has other bytes than were signed ({path})"
            )
    return broken


def fenced(e: Evidence) -> Finding:
    """Invariant 6: later steps of a job were written under the same or a later lease."""
    broken: list[str] = []
    tokens = {r.name: r.token for r in e.conn.execute(sa.select(leases))}
    highest: dict[str, int] = {}
    steps = e.conn.execute(sa.select(job_steps).order_by(job_steps.c.at, job_steps.c.token)).all()
    for step in steps:
        before = highest.get(step.job_id, 0)
        if step.token < before:
            broken.append(
                f"job {step.job_id[:8]}: step {step.name} was written under lease {step.token}, after"
                f" lease {before} had written"
            )
        highest[step.job_id] = max(before, step.token)
    for job_id, token in highest.items():
        held = tokens.get(f"job:{job_id}")
        if held is not None and token > held:
            broken.append(f"job {job_id[:8]}: a step names lease {token}, the last given is {held}")
    return Finding(figures={"steps": len(steps), "leases": len(tokens)}, broken=broken)


def served_only_pointed(e: Evidence) -> Finding:
    """Invariant 7."""
    broken: list[str] = []
    pointed: dict[tuple[str, str], int] = {}
    at_epoch: dict[tuple[str, int], str] = {}
    for row in e.conn.execute(sa.select(pointer_history).order_by(pointer_history.c.epoch)):
        pointed.setdefault((row.model, row.sha256), row.at)
        at_epoch[row.model, row.epoch] = row.sha256
    rows = e.conn.execute(sa.select(activations)).all()
    fallbacks = 0
    for row in rows:
        if row.epoch == 0 and row.version == FALLBACK:
            fallbacks += 1
            continue
        name = f"{row.instance_id} served {row.model} {row.version} ({row.sha256[:8]})"
        since = pointed.get((row.model, row.sha256))
        if since is None:
            broken.append(f"{name}, which no pointer ever named")
        elif row.at < since - CLOCK_US:
            broken.append(f"{name} before a pointer named it")
        elif row.epoch and at_epoch.get((row.model, row.epoch)) != row.sha256:
            broken.append(f"{name} under epoch {row.epoch}, which named other bytes")
    return Finding(
        figures={"activations": len(rows), "declared_fallbacks": fallbacks}, broken=broken
    )


def bounded(e: Evidence) -> Finding:
    """Invariant 8."""
    verified = audit.verify(e.conn)
    broken = [] if verified.problem is None else [f"the audit chain breaks: {verified.problem}"]
    unsent, oldest = _waiting(e.conn)
    lag = 0 if oldest is None else max(0, e.now - oldest)
    at_work = _at_work(e.conn, e.now)
    # Where nobody runs a backlog is only pending: nobody promised to send it meanwhile.
    if at_work and lag > RELAY_LAG_US:
        last = e.conn.execute(sa.select(sa.func.max(outbox.c.sent_at))).scalar()
        sent = "nothing was ever sent" if last is None else f"last sent {_ago(e.now - last)}"
        broken.append(
            f"workers run ({', '.join(at_work)}) and do not relay: an announcement waits since"
            f" {lag / 1e6:,.0f} s, {sent}; their log says why (relay_failed)"
        )
    figures: dict[str, int | float | str] = {
        "audit_entries": verified.entries,
        "audit_head": verified.head[:16],
        "unsent": unsent,
        "outbox_lag_s": round(lag / 1e6, 1),
        "workers": "run" if at_work else "nobody runs",
    }
    if e.wal_bytes is not None:
        figures["wal_bytes"] = e.wal_bytes
        if e.wal_bytes > 4 * JOURNAL_BYTES:
            broken.append(
                f"SQLite's log has {e.wal_bytes:,} bytes, {4 * JOURNAL_BYTES:,} are allowed: a reader"
                " stays open"
            )
    return Finding(figures=figures, broken=broken)


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
    held = conn.execute(
        sa.select(leases.c.name)
        .where(leases.c.expires_at > now, leases.c.name != LEASE)
        .order_by(leases.c.name)
    ).scalars()
    if names := [f"lease {name}" for name in held]:
        return names
    stored = conn.execute(sa.select(sa.func.max(offsets.c.updated_at))).scalar()
    if stored is not None and now - stored < SIGN_OF_LIFE_US:
        return [f"offsets stored {_ago(now - stored)}"]
    return []


def _ago(us: int) -> str:
    return f"{max(0, us) / 1e6:,.0f} s ago"


RULES: list[tuple[int, str, Rule]] = [
    (3, "one job per incident attempt, one live job per model, one release per job", one_job),
    (4, "a published release passed its gates, for its bytes, under its policy", passed_gates),
    (
        5,
        "pointers name existing, verified releases; epochs only grow; back is possible",
        pointers_stand,
    ),
    (6, "a worker whose lease was taken writes nothing more", fenced),
    (7, "services serve only what was pointed to, or their declared fallback", served_only_pointed),
    (8, "the audit chain verifies; backlogs and files stay bounded", bounded),
]
