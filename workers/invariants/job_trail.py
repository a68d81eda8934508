"""Jobs as the audit chain and the registry tell them: who asked for each, and what came of it."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import Any

import sqlalchemy as sa

from redistill.streams.store import properties
from redistill.streams.store.tables import leases
from redistill.workers.invariants.audit_trail import Told
from redistill.workers.invariants.rule import RuleInput, RuleResult
from redistill.workers.store.event_counts import JOB_ENDS
from redistill.workers.store.job_queue import DONE, LIVE, NUMBER, job_id_of
from redistill.workers.store.tables import fresh_tests, job_steps, jobs, pointer_history, versions

__all__ = ["jobs_led_to_releases", "jobs_recorded", "tests_recorded"]

LAST_STEPS = ("gate", "seal", "publish")
"""Of a job that made a release."""
STEP_STATES = ("running", "done", "failed")


def jobs_recorded(inputs: RuleInput) -> RuleResult:
    """Part of invariant 3: somebody asked for each job, and each that was asked for is there."""
    violations: list[str] = []
    trail = inputs.trail.jobs
    known: set[str] = set()
    numbers: list[int] = []
    ends: Counter[str] = Counter()
    for row in inputs.conn.execute(sa.select(jobs).order_by(jobs.c.number)):
        known.add(row.job_id)
        numbers.append(row.number)
        ends[row.state] += 1
        name = f"job {row.number} of {row.model}"
        told = trail.get(row.job_id)
        if told is None:
            violations.append(f"{name}: the audit chain does not say who asked for it")
        elif other := _differences(row, told):
            violations.append(f"{name}: the audit chain says otherwise about {', '.join(other)}")
        violations += [f"{name}: {why}" for why in _form(row)]
    violations += [
        f"the audit chain tells of job {i[:8]} of {told.subject}, which is not there"
        for i, told in trail.items()
        if i not in known and not told.action.endswith("taken_up")
    ]
    if numbers != list(range(1, len(numbers) + 1)):
        violations.append(f"jobs are not numbered 1 to {len(numbers)}")
    if int(properties.get(inputs.conn, NUMBER) or 0) != max(numbers, default=0):
        violations.append(f"the last job has number {max(numbers, default=0)}, not what is noted")
    counted = inputs.counted.starting(JOB_ENDS)
    violations += [
        f"{ends[state]} jobs are {state}, {counted.get(state, 0)} ever ended so"
        for state in DONE
        if ends[state] > counted.get(state, 0)
    ]
    return RuleResult(violations=violations)


def _differences(row: Any, told: Told) -> list[str]:
    body, other = told.body, []
    asked: dict[str, Any] = {}
    if told.action == "incident.job_made":
        trigger, attempt = ("incident", told.subject), int(body["attempt"])
        expected: dict[str, Any] = {
            "model": body["model"],
            "incident_id": told.subject,
            "attempt": attempt,
            "created_at": told.at,
            "job_id": job_id_of(told.subject, attempt),
        }
    elif told.action == "job.scheduled":
        trigger = ("schedule", str(body["time"]))
        expected = {
            "model": told.subject,
            "incident_id": None,
            "attempt": 1,
            "created_at": told.at,
            "job_id": job_id_of(told.subject, body["time"]),
        }
    else:
        trigger = ("actor", told.actor)
        expected = {
            "model": told.subject,
            "incident_id": None,
            "attempt": 1,
            "created_at": told.at,
        }
        asked = {k: v for k, v in body.items() if k != "job_id"}
    try:  # who waived a gate is asked by a rule of its own
        options = {k: v for k, v in json.loads(row.options).items() if k != "waived"}
    except (ValueError, AttributeError):
        options = None
    if options != asked:
        other.append("options")
    expected |= dict(zip(("trigger_kind", "trigger_id"), trigger, strict=True))
    return other + [n for n, value in expected.items() if getattr(row, n) != value]


def _form(row: Any) -> list[str]:
    """What is wrong with a row by itself."""
    out = []
    if row.state not in (*LIVE, *DONE):
        out.append(f"it is {row.state}, which no job is")
    if (row.finished_at is None) != (row.state in LIVE):
        out.append(f"it is {row.state}, and has {'no' if row.finished_at is None else 'an'} end")
    for text in (row.options, row.outcome or "{}"):
        try:
            json.loads(text)
        except ValueError:
            out.append("its options or its outcome cannot be read")
    return out


def jobs_led_to_releases(inputs: RuleInput) -> RuleResult:
    """Part of invariant 3: a job that succeeded is one that published what it made or an earlier
    release, and the other way about."""
    conn, violations = inputs.conn, list[str]()
    moves: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for move in conn.execute(sa.select(pointer_history).order_by(pointer_history.c.epoch)):
        moves[move.model, move.stable].append(move)
    made = {
        r.job_id: r for r in conn.execute(sa.select(versions).where(versions.c.job_id.is_not(None)))
    }
    steps: dict[str, dict[str, Any]] = defaultdict(dict)
    for step in conn.execute(sa.select(job_steps)):
        steps[step.job_id][step.name] = step
    ended = _ends(inputs)
    known: set[str] = set()
    for row in conn.execute(sa.select(jobs)):
        known.add(row.job_id)
        name = f"job {row.number} of {row.model}"
        version = made.get(row.job_id)
        if row.state == "succeeded" and version is None and _outcome(row).get("version"):
            served = moves[row.model, str(_outcome(row)["version"])]
            violations += [f"{name}: {why}" for why in _went_back(row, served, steps[row.job_id])]
        elif (row.state == "succeeded") != (version is not None):
            violations.append(
                f"{name} is {row.state}, and made {'no' if version is None else 'a'} release"
            )
        told = ended.get(row.job_id)
        if told and row.finished_at is not None and row.finished_at not in told:
            violations.append(f"{name} ended at another time than its incident was told")
        if version is not None:
            entered = inputs.trail.entered.get((row.model, version.version), [])
            together = any("report_sha256" in told.body for told in entered)
            of_version = moves[row.model, version.version]
            violations += [
                f"{name}: {why}"
                for why in _release(row, version, of_version, steps, together=together)
            ]
    violations += [
        f"{r.model} {r.version} names job {r.job_id[:8]}, which is not there"
        for r in made.values()
        if r.job_id not in known
    ]
    with_lease = set(conn.execute(sa.select(leases.c.name)).scalars())
    for job_id, of_job in steps.items():
        if f"job:{job_id}" not in with_lease:
            violations.append(f"job {job_id[:8]} has steps, and nobody ever held its lease")
        violations += [
            f"job {job_id[:8]}: step {s.name} is {s.state}, which no step is"
            for s in of_job.values()
            if s.state not in STEP_STATES
        ]
    return RuleResult(violations=violations)


def _outcome(row: Any) -> dict[str, Any]:
    """What came of a job; empty where it cannot be read, which is said elsewhere."""
    try:
        found = json.loads(row.outcome or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _went_back(row: Any, moves: list[Any], steps: dict[str, Any]) -> list[str]:
    """What contradicts that a job ended by going back to an earlier release."""
    outcome = _outcome(row)
    move = next((m for m in moves if m.epoch == outcome.get("epoch")), None)
    if move is None or move is moves[0]:
        return ["it went back to a release, and the pointer was not moved to one that served"]
    out = []
    if (move.sha256, move.change) != (outcome.get("sha256"), "publish"):
        out.append("its outcome names another release than it went back to")
    done = steps.get("publish")
    if done is None or done.state != "done":
        return [*out, "it went back to a release without the step publish"]
    try:
        detail = json.loads(done.detail or "{}")
    except ValueError:
        detail = None
    if detail != {"version": move.stable, "epoch": move.epoch}:
        out.append("its step publish names another release than it went back to")
    if not move.at == done.at == row.finished_at:
        out.append("its end, its last step and the move of the pointer have different times")
    return out


def _ends(inputs: RuleInput) -> dict[str, set[int]]:
    """When the incident of a job was told that it ended."""
    out: dict[str, set[int]] = defaultdict(set)
    for entries in inputs.trail.incidents.values():
        for told in entries:
            if told.action == "incident.published" and told.body.get("job_id"):
                out[str(told.body["job_id"])].add(told.at)
    return out


def _release(row: Any, version: Any, moves: list[Any], steps: Any, *, together: bool) -> list[str]:
    """What contradicts the release of a job; ``together``: all that one transaction wrote has one
    time, as with older programs it had not."""
    out = []
    if version.model != row.model:
        out.append("its release is of another model")
    first = next(iter(moves), None)
    if first is None:
        return [*out, "its release never served"]
    try:
        outcome = json.loads(row.outcome or "{}")
    except ValueError:
        return out
    said = (outcome.get("version"), outcome.get("sha256"), outcome.get("epoch"))
    if said != (version.version, version.sha256, first.epoch):
        out.append("its outcome names another release than it made")
    done = steps[row.job_id]
    missing = [n for n in LAST_STEPS if n not in done or done[n].state != "done"]
    if missing:
        return [*out, f"it made a release without the steps {', '.join(missing)}"]
    try:
        detail = json.loads(done["publish"].detail or "{}")
    except ValueError:
        detail = None
    if detail != {"version": version.version, "epoch": first.epoch}:
        out.append("its step publish names another release than it made")
    one_moment = first.at == done["publish"].at == done["seal"].at == row.finished_at
    if together and not one_moment:
        out.append("its end, its last steps and the move of the pointer have different times")
    return out


def tests_recorded(inputs: RuleInput) -> RuleResult:
    """Part of invariant 4: candidates that faced the fresh rows of an incident are those that the
    audit chain tells of."""
    violations = []
    known: set[tuple[str, str]] = set()
    for row in inputs.conn.execute(sa.select(fresh_tests)):
        key = (row.incident_id, row.sha256)
        known.add(key)
        told = inputs.trail.tested.get(key, [])
        since = {"number": row.number, "version": row.version, "since": row.since}
        if not any(
            (t.at, t.body.get("job_id"), t.body.get("recipe")) == (row.at, row.job_id, row.recipe)
            and all(t.body.get(n, value) == value for n, value in since.items())
            for t in told
        ):
            violations.append(
                f"incident {row.incident_id[:8]}: the audit chain says otherwise about candidate"
                f" {row.number}"
            )
    violations += [
        f"incident {i[:8]}: candidate {s[:8]} faced fresh rows, and is not counted"
        for i, s in sorted(inputs.trail.tested.keys() - known)
    ]
    return RuleResult(violations=violations)
