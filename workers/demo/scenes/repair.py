"""The main act: a veil falls, is found, diagnosed and answered by a new student; it recovers."""

from __future__ import annotations

from typing import Any

from redistill.workers.demo import data, facts
from redistill.workers.demo.facts import Finding, Job, Version
from redistill.workers.demo.processes import SERVICES
from redistill.workers.demo.runner import DemoFailed, Director, accuracy_facts, accuracy_text
from redistill.workers.demo.scenes.common import (
    begun,
    enough,
    first,
    opened,
    seconds_of,
    served,
    words_of,
)
from redistill.workers.demo.teacher import BASELINE, MODEL
from redistill.workers.demo.world import LABEL_SHARE, World

RECOVERY_SECONDS = 5.0
RECOVERED_WITHIN_POINTS = 4.0
"""Recovered: the truth under the veil is at most this far below the truth before it."""


def veil(d: Director) -> dict[str, Any]:
    """A grey veil on the scanner: found, diagnosed, repaired, published, swapped."""
    d.enter("a grey veil on the scanner", "the teacher can cope with it, the student cannot")
    d.stage.set_world(World(scene="veil", veil=data.VEIL))
    began = begun(d, "veil")
    d.since = began
    found = d.until(
        "a finding of harm",
        lambda s: first(s.findings, lambda f: f.harmful is True and f.version == BASELINE),
        seconds=45,
    )
    detection = _tell_finding(d, found, began)
    incident = d.until(
        "an incident",
        lambda s: first(s.incidents, lambda i: i.incident_class == "harm"),
        seconds=15,
    )
    d.say("incident", f"incident {incident.incident_id[:8]} opened: {incident.why}")
    diagnosed = d.until(
        "the diagnosis (it needs 20 labels)",
        lambda s: first(
            s.incidents,
            lambda i: i.incident_id == incident.incident_id and i.cause not in (None, "unknown"),
        ),
        seconds=60,
    )
    cause = words_of(diagnosed.cause)
    why = diagnosed.why if diagnosed.why.startswith(cause) else f"{cause}: {diagnosed.why}"
    d.say("diagnosis", f"diagnosis: {why}", cause=diagnosed.cause)
    d.expect(
        diagnosed.cause == "compression_gap",
        f"the diagnosis was {diagnosed.cause}, not compression_gap: {diagnosed.why}",
    )
    job = d.until(
        "the repair to end",
        lambda s: first(s.jobs, lambda j: j.incident_id == incident.incident_id and j.over),
        seconds=90,
    )
    d.expect(job.state == "succeeded", f"the repair job ended {job.state}: {dict(job.outcome)}")
    version = first(d.snapshot().versions.values(), lambda v: v.job_id == job.job_id)
    if version is None:
        raise DemoFailed("the job succeeded, but the registry has no version of it")
    repair = _tell_repair(d, job, version)
    move = d.until(
        "the pointer to move", lambda s: first(s.moves, lambda m: m.stable == version.version),
        seconds=30,
    )  # fmt: skip
    swapped = served(d, move)
    failed = sum(s.failed for s in d.stage.stats())
    to_published = (move.at - began) / 1e6
    d.say(
        "swapped",
        f"published {to_published:.1f} s after the veil fell; served by all {len(SERVICES)} "
        f"services {seconds_of(swapped)} later, {failed} failed requests",
        epoch=move.epoch,
        veil_to_published_seconds=round(to_published, 2),
        published_to_served_seconds=swapped,
        failed_requests=failed,
    )
    d.expect(failed == 0, f"{failed} requests failed: {d.stage.stats()[0].last_error}")
    known = d.measured(BASELINE, since=began)
    true = d.truth("veil", BASELINE)
    d.say("during", "while it lasted: " + accuracy_text(known, true), **accuracy_facts(known, true))
    return {
        "during": accuracy_facts(known, true),
        "detection": detection,
        "repair": repair
        | {
            "veil_to_published_seconds": round(to_published, 2),
            "published_to_served_seconds": swapped,
        },
        "version": version.version,
        "incident": incident.incident_id,
    }


def recovered(d: Director, figures: dict[str, Any]) -> dict[str, Any]:
    """The veil is still there; the new student copes."""
    version = figures["version"]
    d.enter("recovered, under the same veil", "the new student answers")
    d.stage.set_world(World(scene="after", veil=data.VEIL))
    began = begun(d, "after")
    d.version, d.since = version, began
    known = enough(d, version, began, RECOVERY_SECONDS)
    true = d.truth("after", version)
    d.say("recovered", accuracy_text(known, true), **accuracy_facts(known, true))
    before = figures["before"]["truth"]["accuracy"]
    d.expect(
        true.accuracy >= before - RECOVERED_WITHIN_POINTS / 100,
        f"not recovered: truth {100 * true.accuracy:.1f}%, before the veil {100 * before:.1f}%",
    )
    d.expect(
        (known.accuracy or 0.0) > figures["during"]["measured"]["high"],
        "the measured accuracy is not clearly above that under the veil",
    )
    return accuracy_facts(known, true)


def _tell_finding(d: Director, found: Finding, began: int) -> dict[str, Any]:
    labels = facts.labels_until(opened(d), MODEL, BASELINE, since=began, made=found.stored_at)
    seconds = (found.stored_at - began) / 1e6
    d.say(
        "finding",
        f"harm found {seconds:.1f} s and {labels} labels after the veil fell: "
        f"{found.body['reason']}",
        seconds=round(seconds, 2),
        labels=labels,
        finding=found.body,
    )
    return {"seconds": round(seconds, 2), "labels": labels, "label_share": LABEL_SHARE}


def _tell_repair(d: Director, job: Job, version: Version) -> dict[str, Any]:
    report = version.report
    gates = {g["name"]: g for g in report["gates"]}
    wall = ((job.finished_at or 0) - (job.started_at or 0)) / 1e6
    cpu = sum(s.cpu_seconds or 0.0 for s in job.steps)
    d.say(
        "repair",
        f"job {job.number}: {report['chosen']} accepted in {wall:.1f} s, {cpu:.1f} s of CPU ("
        + ", ".join(f"{s.name} {s.seconds:.1f}" for s in job.steps if s.seconds is not None)
        + ")",
        seconds=round(wall, 2),
        cpu_seconds=round(cpu, 2),
        chosen=report["chosen"],
    )
    for name, gate in gates.items():
        d.say("gate", f"  gate {name}: {gate['why']}", gate=gate)
    chosen = next(v for v in report["variants"] if v["name"] == report["chosen"])
    teacher = report["teacher"]
    ratios = {
        "size_ratio": round(chosen["bytes"] / teacher["bytes"], 3),
        "latency_ratio": round(chosen["p50_ms"] / teacher["p50_ms"], 3),
    }
    d.say(
        "student",
        f"the new student against its teacher: {ratios['size_ratio']:.2f} of the size, "
        f"{ratios['latency_ratio']:.2f} of the latency ({1000 * chosen['p50_ms']:.0f} µs of CPU)",
        **ratios,
    )
    return {"seconds": round(wall, 2), "cpu_seconds": round(cpu, 2), **ratios}
