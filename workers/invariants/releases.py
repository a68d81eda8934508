"""Invariants of releases and what leads to them: jobs, gates, pointers, leases, services."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from redistill.files import sha256_of
from redistill.streams.client.release import FALLBACK
from redistill.streams.store.tables import leases
from redistill.workers.invariants import (
    candidates,
    job_trail,
    pointer_trail,
    registry_trail,
    waivers,
)
from redistill.workers.invariants.rule import Rule, RuleInput, RuleResult
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.store.tables import (
    activations,
    barred,
    job_steps,
    jobs,
    pointer_history,
    pointers,
    versions,
)

__all__ = ["RULES"]

LIVE = frozenset({"queued", "running", "waiting_labels"})
CLOCK_US = 5_000_000
"""Clocks of two machines may differ so much."""


def one_job(inputs: RuleInput) -> RuleResult:
    """Invariant 3."""
    violations: list[str] = []
    rows = inputs.conn.execute(sa.select(jobs)).all()
    attempts: dict[tuple[str, int], int] = {}
    live: dict[str, int] = {}
    for row in rows:
        if row.incident_id is not None:
            key = (row.incident_id, row.attempt)
            attempts[key] = attempts.get(key, 0) + 1
        if row.state in LIVE:
            live[row.model] = live.get(row.model, 0) + 1
        if (row.state in LIVE) != (row.live_mark == 1):
            violations.append(
                f"job {row.number} of {row.model} is {row.state}, its mark says otherwise"
            )
    violations += [
        f"attempt {a} of incident {i[:8]} has {n} jobs" for (i, a), n in attempts.items() if n > 1
    ]
    violations += [f"{model} has {n} live jobs" for model, n in live.items() if n > 1]
    releases_of_jobs = inputs.conn.execute(
        sa.select(versions.c.job_id, sa.func.count().label("n"))
        .where(versions.c.job_id.is_not(None))
        .group_by(versions.c.job_id)
    ).all()
    violations += [f"job {r.job_id[:8]} made {r.n} releases" for r in releases_of_jobs if r.n > 1]
    return RuleResult(
        figures={"jobs": len(rows), "live": sum(live.values()), "releases": len(releases_of_jobs)},
        violations=violations,
    )


def passed_gates(inputs: RuleInput) -> RuleResult:
    """Invariant 4."""
    violations: list[str] = []
    served = inputs.conn.execute(
        sa.select(pointer_history.c.model, pointer_history.c.stable, pointer_history.c.epoch)
    ).all()
    first = {r.model: r.stable for r in served if r.epoch == 1}
    ever = {(r.model, r.stable) for r in served}
    rows = inputs.conn.execute(sa.select(versions)).all()
    for row in rows:
        if row.status != "published" and (row.model, row.version) not in ever:
            continue
        name = f"{row.model} {row.version}"
        if not row.gate_passed:
            violations.append(f"{name} was published without having passed its gates")
        try:
            report = json.loads(row.report)
        except ValueError:
            violations.append(f"{name}: its gate report cannot be read")
            continue
        if report.get("policy_sha256") != row.policy_sha256:
            violations.append(f"{name} was judged under another policy than it names")
        if row.sha256 not in set(_judged(report)):
            violations.append(f"{name}: its gate report is not about its bytes ({row.sha256[:8]})")
        failed = [g["name"] for g in report.get("gates", ()) if g.get("passed") is not True]
        if failed:
            violations.append(f"{name}: its report says that {', '.join(failed)} did not pass")
        if row.kind == "baseline" and first.get(row.model) != row.version:
            violations.append(f"{name} is a baseline and was not the first that served")
    published = sum((r.model, r.version) in ever for r in rows)
    return RuleResult(
        figures={"versions": len(rows), "published": published}, violations=violations
    )


def _judged(report: dict[str, Any]) -> Iterator[str]:
    """SHA-256 of the graph that a report says passed."""
    chosen = report.get("chosen")
    for variant in report.get("variants", ()):
        if variant.get("name") == chosen:
            yield str(variant.get("sha256"))
    if report.get("mode") == "baseline" and report.get("incumbent"):
        yield str(report["incumbent"].get("sha256"))


def pointers_stand(inputs: RuleInput) -> RuleResult:
    """Invariant 5."""
    violations: list[str] = []
    layout = RepositoryLayout(inputs.home)
    known = {(r.model, r.version): r for r in inputs.conn.execute(sa.select(versions))}
    never = {(r.model, r.sha256): r.at for r in inputs.conn.execute(sa.select(barred))}
    history: dict[str, list[Any]] = {}
    for row in inputs.conn.execute(
        sa.select(pointer_history).order_by(pointer_history.c.model, pointer_history.c.epoch)
    ):
        history.setdefault(row.model, []).append(row)
    checked = 0
    for model, moves in history.items():
        epochs = [m.epoch for m in moves]
        if epochs != list(range(1, len(epochs) + 1)):
            violations.append(f"{model}: the epochs of its pointer are not 1 to {len(epochs)}")
        if any(b.at < a.at - CLOCK_US for a, b in itertools.pairwise(moves)):
            violations.append(f"{model}: a later epoch has an earlier time")
        for move in moves:
            version = known.get((model, move.stable))
            if version is None:
                violations.append(
                    f"{model}: epoch {move.epoch} names {move.stable}, which is not known"
                )
            elif version.sha256 != move.sha256:
                violations.append(
                    f"{model}: epoch {move.epoch} names other bytes than {move.stable} has"
                )
            if move.at > never.get((model, move.sha256), move.at):
                violations.append(
                    f"{model}: epoch {move.epoch} serves bytes that were barred before"
                )
    rows = inputs.conn.execute(sa.select(pointers)).all()
    for row in rows:
        moves = history.get(row.model, [])
        if not moves or (moves[-1].epoch, moves[-1].stable) != (row.epoch, row.stable):
            violations.append(f"{row.model}: its pointer is not the last of its history")
        for name in dict.fromkeys(v for v in (row.stable, _previous(moves)) if v is not None):
            entry = known.get((row.model, name))
            if entry is not None:
                checked += 1
                violations += _files(layout, row.model, entry)
    return RuleResult(
        figures={
            "pointers": len(rows),
            "moves": sum(map(len, history.values())),
            "releases": checked,
        },
        violations=violations,
    )


def _previous(moves: list[Any]) -> str | None:
    """What served before the present version."""
    current = moves[-1].stable if moves else None
    return next((m.stable for m in reversed(moves) if m.stable != current), None)


def _files(layout: RepositoryLayout, model: str, row: Any) -> list[str]:
    """Whether every file of a release is there, with the bytes that were signed."""
    files = json.loads(row.files)
    if not files:
        return [f"{model} {row.version}: its files were removed, it cannot be loaded again"]
    violations = []
    for name, entry in files.items():
        path = layout.path(model, name, entry["sha256"])
        if not path.is_file():
            violations.append(f"{model} {row.version}: {name} is missing ({path})")
        elif path.stat().st_size != entry["bytes"] or sha256_of(path) != entry["sha256"]:
            violations.append(
                f"{model} {row.version}: {name} has other bytes than were signed ({path})"
            )
    return violations


def fenced_writes(inputs: RuleInput) -> RuleResult:
    """Invariant 6: later steps of a job were written under the same or a later lease."""
    violations: list[str] = []
    tokens = {r.name: r.token for r in inputs.conn.execute(sa.select(leases))}
    highest: dict[str, int] = {}
    steps = inputs.conn.execute(
        sa.select(job_steps).order_by(job_steps.c.at, job_steps.c.token)
    ).all()
    for step in steps:
        before = highest.get(step.job_id, 0)
        if step.token < before:
            violations.append(
                f"job {step.job_id[:8]}: step {step.name} was written under lease {step.token},"
                f" after lease {before} had written"
            )
        highest[step.job_id] = max(before, step.token)
    for job_id, token in highest.items():
        token_now = tokens.get(f"job:{job_id}")
        if token_now is not None and token > token_now:
            violations.append(
                f"job {job_id[:8]}: a step names lease {token}, the last given is {token_now}"
            )
    return RuleResult(figures={"steps": len(steps), "leases": len(tokens)}, violations=violations)


def served_only_pointed(inputs: RuleInput) -> RuleResult:
    """Invariant 7."""
    violations: list[str] = []
    pointed: dict[tuple[str, str], int] = {}
    at_epoch: dict[tuple[str, int], tuple[str, str]] = {}
    for row in inputs.conn.execute(sa.select(pointer_history).order_by(pointer_history.c.epoch)):
        pointed.setdefault((row.model, row.sha256), row.at)
        at_epoch[row.model, row.epoch] = row.sha256, row.stable
    rows = inputs.conn.execute(sa.select(activations)).all()
    fallbacks = 0
    for row in rows:
        if row.epoch == 0 and row.version == FALLBACK:
            fallbacks += 1
            continue
        name = f"{row.instance_id} served {row.model} {row.version} ({row.sha256[:8]})"
        since = pointed.get((row.model, row.sha256))
        if since is None:
            violations.append(f"{name}, which no pointer ever named")
        elif row.at < since - CLOCK_US:
            violations.append(f"{name} before a pointer named it")
        elif row.epoch and at_epoch.get((row.model, row.epoch)) != (row.sha256, row.version):
            violations.append(f"{name} under epoch {row.epoch}, which named other bytes")
    return RuleResult(
        figures={"activations": len(rows), "declared_fallbacks": fallbacks}, violations=violations
    )


RULES = (
    Rule(
        number=3,
        text="one job per incident attempt, one live job per model, one release per job; who asked"
        " for a job is recorded, and what came of it is in the registry",
        parts=(one_job, job_trail.jobs_recorded, job_trail.jobs_led_to_releases),
    ),
    Rule(
        number=4,
        text="a published release passed its gates, for its bytes, under its policy, and is counted"
        " among the candidates of its incident; who waived a gate is recorded",
        parts=(
            passed_gates,
            candidates.counted,
            job_trail.tests_recorded,
            waivers.recorded,
            registry_trail.versions_recorded,
        ),
    ),
    Rule(
        number=5,
        text="pointers name existing, verified releases; epochs only grow; back is possible; the"
        " audit chain tells of every move",
        parts=(
            pointers_stand,
            pointer_trail.moves_recorded,
            pointer_trail.comparisons_follow,
            pointer_trail.requests_answered,
        ),
    ),
    Rule(
        number=6,
        text="a worker whose lease was taken writes nothing more",
        parts=(fenced_writes,),
    ),
    Rule(
        number=7,
        text="services serve only what was pointed to, or their declared fallback",
        parts=(served_only_pointed,),
    ),
)
