"""Incident as a document: a line of the list, and the whole of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redistill.workers.documents.document import iso
from redistill.workers.documents.job import JobDocument, document_of_job
from redistill.workers.incidents.broken_feeds import BrokenFeed

__all__ = [
    "BrokenFeedLine",
    "IncidentDocument",
    "IncidentLine",
    "TimelineEntry",
    "document_of_incident",
    "line_of_incident",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class IncidentLine:
    """An incident in a list."""

    incident_id: str
    """Its id; how it begins is enough for commands."""
    model: str
    version: str
    """Which version it is about."""
    incident_class: str
    """`harm`, `data_bug`, ..."""
    status: str
    """`open` or `resolved`."""
    stage: str
    """`detected`, `diagnosing`, `waiting_labels`, `repairing`, `awaiting_person`, `guarding` or
    `resolved`."""
    resolution: str | None
    """How it ended; `null` while it is open."""
    cause: str | None
    """What the diagnosis named; `null`: not known yet."""
    decision: str | None
    """What the policy chose; `null`: nothing yet."""
    why: str
    """The reason of all this, in words."""
    attempt: int
    """Repairs so far."""
    change_low: str | None
    """The change began after this, ..."""
    change_high: str | None
    """... and before this."""
    opened_at: str
    updated_at: str
    resolved_at: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TimelineEntry:
    """Something that happened."""

    at: str
    what: str
    """`opened`, `decided`, `job 3: train`, ..."""
    why: str
    """In words, with who did it."""
    seconds: float | None
    """How long it took; `null`: it takes no time, or is not over."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BrokenFeedLine:
    """A column that is broken in the same way in several models since about the same time."""

    columns: list[dict[str, str]]
    """Each `column` with the `rule` of the contract that it breaks (`missing`, ...)."""
    since: str
    """When the first of the models was found broken."""
    incidents: dict[str, str]
    """Open incidents with their models, this one among them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IncidentDocument(IncidentLine):
    """An incident with everything that belongs to it."""

    findings: list[dict[str, Any]]
    """Events `drift` as they went over the wire (`streams/wire/schemas`), each with `attached_at`
    and `note`."""
    jobs: list[JobDocument]
    """Its recompressions, the first first."""
    timeline: list[TimelineEntry]
    """What happened, oldest first."""
    broken_feeds: list[BrokenFeedLine]
    """What is broken in other models, too; empty where nothing is."""


def line_of_incident(row: Mapping[str, Any]) -> IncidentLine:
    """A row of ``incidents`` for a list."""
    return IncidentLine(**_line(row))


def document_of_incident(found: Mapping[str, Any], feeds: Sequence[BrokenFeed]) -> IncidentDocument:
    """An incident as ``incident_queries.detail`` reads it, and the broken feeds that it is of."""
    return IncidentDocument(
        **_line(found),
        findings=[{**f, "attached_at": iso(f["attached_at"])} for f in found["findings"]],
        jobs=[document_of_job(job) for job in found["jobs"]],
        timeline=[TimelineEntry(**{**step, "at": _told(step["at"])}) for step in found["timeline"]],
        broken_feeds=[_feed(feed) for feed in feeds],
    )


def _feed(feed: BrokenFeed) -> BrokenFeedLine:
    return BrokenFeedLine(
        columns=[{"column": column, "rule": rule} for column, rule in feed.columns],
        since=_told(feed.since),
        incidents={member.incident_id: member.model for member in feed.members},
    )


def _line(row: Mapping[str, Any]) -> dict[str, Any]:
    times = ("change_low", "change_high", "opened_at", "updated_at", "resolved_at")
    return {n: iso(row[n]) if n in times else row[n] for n in IncidentLine.__dataclass_fields__}


def _told(us: int) -> str:
    return iso(us) or ""
