"""Job as a document: a line of the list, and the whole of one with steps and gates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redistill.workers.documents.document import iso
from redistill.workers.store.incident_queries import step_text

__all__ = [
    "WAITED_FOR",
    "JobDocument",
    "JobLine",
    "JobOutcome",
    "JobStep",
    "JobWait",
    "document_of_job",
    "line_of_job",
    "wait_of",
]

WAITED_FOR = {
    "labelled": "labelled rows",
    "gate_labelled": "labelled gate rows",
    "train": "rows to train on",
    "train_labelled": "labelled rows to train on",
    "asked": "rows to train on that the source asked for labelled",
}
"""What a job waits for, in words, by the name of the count."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobWait:
    """What a job waits for."""

    count: str
    """`labelled`, `gate_labelled`, `train`, `train_labelled` or `asked`."""
    said: str
    """The same in words."""
    have: int
    """How many there were at the last look."""
    need: int
    """At so many it goes on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobOutcome:
    """What came of a job so far."""

    why: str | None
    """In words."""
    reasons: list[str]
    """Gates that refused the candidate, and the like; empty: none did."""
    version: str | None
    """The version that it made, or went back to."""
    sha256: str | None
    """Of that version's file."""
    cause: str | None
    """What the diagnosis named."""
    seconds: float | None
    """Time of work."""
    last_error: str | None
    """Why it was tried again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobLine:
    """A recompression in a list."""

    job_id: str
    number: int
    """Its number, for commands."""
    model: str
    incident_id: str | None
    """The incident that it repairs; `null`: it was asked for, or is scheduled."""
    attempt: int
    """Which repair of its incident it is."""
    trigger_kind: str
    """`incident`, `actor`, `schedule` or `guard`."""
    trigger_id: str
    """The incident, who asked, or the time of the schedule."""
    state: str
    """`queued`, `running`, `waiting_labels`; or, when it is over, `succeeded`, `rejected`,
    `needs_person`, `failed`, `expired` or `cancelled`."""
    train_on: str
    """`teacher` or `labels`."""
    source: str | None
    """Label source that was asked for."""
    waived: dict[str, str]
    """Gates that a person took upon themselves, with who and why."""
    outcome: JobOutcome
    wait: JobWait | None
    """`null`: it does not wait for rows or labels."""
    tries: int
    created_at: str
    started_at: str | None
    deadline_at: str
    """Until then it waits for labels."""
    finished_at: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class JobStep:
    """A step of a job."""

    name: str
    """`window`, `diagnose`, `teacher_logits`, `train`, `quantize`, `gate`, `seal` or `publish`."""
    state: str
    """`running`, `done` or `failed`."""
    said: str
    """The same in a sentence, with what came of it."""
    seconds: float | None
    cpu_seconds: float | None
    at: str
    """When it was last written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobDocument(JobLine):
    """A recompression with everything that belongs to it."""

    steps: list[JobStep]
    gates: list[dict[str, Any]]
    """Each with `name`, `value`, `limit`, `passed` (`null`: undecided) and `why`."""
    gaps: list[dict[str, Any]]
    """Accuracy of each declared group, and the gap between the best and the worst served."""
    cost: dict[str, Any] | None
    """Of the run that judged it last: `cpu_seconds`, `earlier_cpu_seconds` (of steps that it took
    over), `wall_seconds`, `peak_bytes`, `package_joules` (of all CPU packages, for other processes,
    too), `estimated_joules` (its part of them), `no_energy` (why they are not known)."""
    recipes: list[dict[str, Any]]
    """Ways to make a candidate that were tried: `name`, `number` (which candidate of its incident
    faced fresh rows; `null`: it did not), `sha256`, `reasons` why it was refused or, where `open`,
    why only a person can decide about it, `gates`."""
    remedies: list[dict[str, Any]]
    """What was thought of each remedy before anything was made, cheapest first: `name`, `recipes`,
    `why_not` (why it is not possible; `null`: it is), `estimated_cpu_seconds` (`null`: nothing like
    it was measured for this model), `cpu_seconds` (measured; `null`: it was not tried)."""


def wait_of(row: Mapping[str, Any]) -> JobWait | None:
    """What a job waits for now; ``None``: it is at work, or over."""
    wait = row["outcome"].get("wait")
    if row["state"] != "waiting_labels" or not wait:
        return None
    count = str(wait["count"])
    return JobWait(
        count=count,
        said=WAITED_FOR.get(count, count),  # a worker may be newer than we
        have=int(row["gate_rows"] or 0),
        need=int(wait["rows"]),
    )


def line_of_job(row: Mapping[str, Any]) -> JobLine:
    """A job as ``incident_queries.jobs_listed`` reads it."""
    return JobLine(**_line(row))


def document_of_job(found: Mapping[str, Any]) -> JobDocument:
    """A job as ``incident_queries.job_detail`` reads it."""
    return JobDocument(
        **_line(found),
        steps=[_step(step) for step in found["steps"]],
        gates=found["gates"],
        gaps=found["gaps"],
        cost=found["cost"],
        recipes=found["recipes"],
        remedies=[_remedy(r, found["outcome"]) for r in found["outcome"].get("remedies", ())],
    )


def _remedy(remedy: Mapping[str, Any], outcome: Mapping[str, Any]) -> dict[str, Any]:
    measured = outcome.get("cpu_seconds", {})
    took = [measured[recipe] for recipe in remedy["recipes"] if recipe in measured]
    return {**remedy, "cpu_seconds": sum(took) if took else None}


def _line(row: Mapping[str, Any]) -> dict[str, Any]:
    own = ("job_id", "number", "model", "incident_id", "attempt", "state", "tries")
    times = ("created_at", "started_at", "deadline_at", "finished_at")
    outcome = {name: row["outcome"].get(name) for name in JobOutcome.__dataclass_fields__}
    outcome["reasons"] = list(outcome["reasons"] or ())
    return {
        **{name: row[name] for name in (*own, "trigger_kind", "trigger_id")},
        **{name: iso(row[name]) for name in times},
        "train_on": row["options"].get("train_on", "teacher"),
        "source": row["options"].get("source"),
        "wait": wait_of(row),
        "waived": row["options"].get("waived", {}),
        "outcome": JobOutcome(**outcome),
    }


def _step(step: Mapping[str, Any]) -> JobStep:
    return JobStep(
        name=step["name"],
        state=step["state"],
        said=step_text(step),
        seconds=step["seconds"],
        cpu_seconds=step["cpu_seconds"],
        at=iso(step["at"]) or "",
    )
