"""Scenes of drift and repair: a veil falls on the scanner, is found, diagnosed and answered."""

from __future__ import annotations

from typing import Any

from redistill.times import to_seconds
from redistill.workers.demo import data, facts
from redistill.workers.demo.facts import FindingFact, JobFact, VersionFact
from redistill.workers.demo.processes import SERVICES
from redistill.workers.demo.runner import DemoFailed, ScenarioRunner, accuracy_facts, accuracy_text
from redistill.workers.demo.scenes.common import (
    begun,
    database_of,
    enough,
    first,
    seconds_of,
    served,
    words_of,
)
from redistill.workers.demo.teacher import BASELINE, MODEL
from redistill.workers.demo.world import LABEL_SHARE, World

__all__ = ["drift_and_repair", "recovered"]

RECOVERY_SECONDS = 5.0
RECOVERED_WITHIN_POINTS = 4.0
"""Recovered: the truth under the veil is at most this far below the truth before it."""


def drift_and_repair(runner: ScenarioRunner) -> dict[str, Any]:
    """A grey veil on the scanner: found, diagnosed, repaired, published, swapped."""
    runner.enter("a grey veil on the scanner", "the teacher can cope with it, the student cannot")
    runner.processes.set_world(World(scene="veil", haze=data.HAZE))
    began = begun(runner, "veil")
    runner.since = began
    found = runner.until(
        "a finding of harm",
        lambda s: first(s.findings, lambda f: f.harmful is True and f.version == BASELINE),
        seconds=45,
    )
    detection = _tell_finding(runner, found, began)
    incident = runner.until(
        "an incident",
        lambda s: first(s.incidents, lambda i: i.incident_class == "harm"),
        seconds=15,
    )
    runner.say("incident", f"incident {incident.incident_id[:8]} opened: {incident.why}")
    diagnosed = runner.until(
        "the diagnosis (it needs 20 labels)",
        lambda s: first(
            s.incidents,
            lambda i: i.incident_id == incident.incident_id and i.cause not in (None, "unknown"),
        ),
        seconds=60,
    )
    cause = words_of(diagnosed.cause)
    why = diagnosed.why if diagnosed.why.startswith(cause) else f"{cause}: {diagnosed.why}"
    runner.say("diagnosis", f"diagnosis: {why}", cause=diagnosed.cause)
    runner.expect(
        diagnosed.cause == "compression_gap",
        f"the diagnosis was {diagnosed.cause}, not compression_gap: {diagnosed.why}",
    )
    job = runner.until(
        "the repair to end",
        lambda s: first(s.jobs, lambda j: j.incident_id == incident.incident_id and j.over),
        seconds=90,
    )
    runner.expect(
        job.state == "succeeded", f"the repair job ended {job.state}: {dict(job.outcome)}"
    )
    version = first(runner.snapshot().versions.values(), lambda v: v.job_id == job.job_id)
    if version is None:
        raise DemoFailed("the job succeeded, but the registry has no version of it")
    repair = _tell_repair(runner, job, version)
    move = runner.until(
        "the pointer to move", lambda s: first(s.moves, lambda m: m.stable == version.version),
        seconds=30,
    )  # fmt: skip
    swapped = served(runner, move)
    failed = sum(s.failed for s in runner.processes.stats())
    to_published = to_seconds(move.at - began)
    runner.say(
        "swapped",
        f"published {to_published:.1f} s after the veil fell; served by all {len(SERVICES)} "
        f"services {seconds_of(swapped)} later, {failed} failed requests",
        epoch=move.epoch,
        veil_to_published_seconds=round(to_published, 2),
        published_to_served_seconds=swapped,
        failed_requests=failed,
    )
    runner.expect(
        failed == 0, f"{failed} requests failed: {runner.processes.stats()[0].last_error}"
    )
    known = runner.measured(BASELINE, since=began)
    true = runner.truth("veil", BASELINE)
    runner.say(
        "during", "while it lasted: " + accuracy_text(known, true), **accuracy_facts(known, true)
    )
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


def recovered(runner: ScenarioRunner, figures: dict[str, Any]) -> dict[str, Any]:
    """The veil is still there; the new student copes."""
    version = figures["version"]
    runner.enter("recovered, under the same veil", "the new student answers")
    runner.processes.set_world(World(scene="after", haze=data.HAZE))
    began = begun(runner, "after")
    runner.version, runner.since = version, began
    known = enough(runner, version, began, RECOVERY_SECONDS)
    true = runner.truth("after", version)
    runner.say("recovered", accuracy_text(known, true), **accuracy_facts(known, true))
    before = figures["before"]["truth"]["accuracy"]
    runner.expect(
        true.accuracy >= before - RECOVERED_WITHIN_POINTS / 100,
        f"not recovered: truth {100 * true.accuracy:.1f}%, before the veil {100 * before:.1f}%",
    )
    runner.expect(
        (known.accuracy or 0.0) > figures["during"]["measured"]["high"],
        "the measured accuracy is not clearly above that under the veil",
    )
    return accuracy_facts(known, true)


def _tell_finding(runner: ScenarioRunner, found: FindingFact, began: int) -> dict[str, Any]:
    labels = facts.labels_until(
        database_of(runner), MODEL, BASELINE, since=began, made=found.stored_at
    )
    seconds = to_seconds(found.stored_at - began)
    runner.say(
        "finding",
        f"harm found {seconds:.1f} s and {labels} labels after the veil fell: "
        f"{found.body['reason']}",
        seconds=round(seconds, 2),
        labels=labels,
        finding=found.body,
    )
    return {"seconds": round(seconds, 2), "labels": labels, "label_share": LABEL_SHARE}


def _tell_repair(runner: ScenarioRunner, job: JobFact, version: VersionFact) -> dict[str, Any]:
    report = version.report
    gates = {g["name"]: g for g in report["gates"]}
    wall = to_seconds((job.finished_at or 0) - (job.started_at or 0))
    cpu = sum(s.cpu_seconds or 0.0 for s in job.steps)
    runner.say(
        "repair",
        f"job {job.number}: recipe {report['recipe_name']}, {report['chosen']} accepted in"
        f" {wall:.1f} s, {cpu:.1f} s of CPU ("
        + ", ".join(f"{s.name} {s.seconds:.1f}" for s in job.steps if s.seconds is not None)
        + ")",
        seconds=round(wall, 2),
        cpu_seconds=round(cpu, 2),
        chosen=report["chosen"],
    )
    for name, gate in gates.items():
        runner.say("gate", f"  gate {name}: {gate['why']}", gate=gate)
    chosen = next(v for v in report["variants"] if v["name"] == report["chosen"])
    teacher = report["teacher"]
    ratios = {
        "size_ratio": round(chosen["bytes"] / teacher["bytes"], 3),
        "latency_ratio": round(chosen["p50_ms"] / teacher["p50_ms"], 3),
    }
    runner.say(
        "student",
        f"the new student against its teacher: {ratios['size_ratio']:.2f} of the size, "
        f"{ratios['latency_ratio']:.2f} of the latency ({1000 * chosen['p50_ms']:.0f} µs of CPU)",
        **ratios,
    )
    return {"seconds": round(wall, 2), "cpu_seconds": round(cpu, 2), **ratios}
