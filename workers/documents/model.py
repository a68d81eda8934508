"""Model as a document: a line of the list, the list with what is not counted yet, one model with
its versions, and what judged one version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redistill.times import to_seconds
from redistill.workers.documents.document import iso
from redistill.workers.store.model_status import accuracy, state
from redistill.workers.store.queries import Overview

__all__ = [
    "JudgedVersion",
    "Measure",
    "ModelDocument",
    "ModelIncident",
    "ModelLine",
    "ModelList",
    "Move",
    "UnbarredBytes",
    "VersionLine",
    "document_of_model",
    "line_of_model",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """A figure with its 95% interval."""

    basis: str
    """`measured`: on labels."""
    value: float
    low: float
    high: float
    n: int
    """Labelled rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelIncident:
    """The worst open incident of a model."""

    incident_class: str
    stage: str
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelLine:
    """A model in a list."""

    model: str
    level: str
    """`watch`, `rollback` or `repair`."""
    state: str
    """`awaiting a person`, `data bug`, `drifting`, `waiting for labels`, `repairing`, `guarding`,
    `rolled back`, `no data`, `labels late`, `healthy` or `learning`."""
    version: str | None
    """What serves; `null`: nothing was seen."""
    accuracy: Measure | None
    """Of the last labelled rows of that version; `null`: there are none."""
    labels_waiting: int
    """Labels whose prediction is not there yet."""
    label_lag_s: float | None
    """Median time from serving to label, of the last labels."""
    gate_rows_per_day: float | None
    """Rows with a label and stored features: what a repair is judged on."""
    last_event_at: str | None
    """When its last row was served, by the service's clock."""
    last_event_age_s: float | None
    """How long ago that is; 0 where the service's clock is ahead of the database's."""
    open_findings: int
    incident: ModelIncident | None
    job: str | None
    """State of the live job."""
    paused_until: str | None
    """No automatic repair until then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelList:
    """All models, worst first, and what is not counted yet."""

    models: list[ModelLine]
    unregistered: dict[str, int]
    """Models that were seen and that nobody registered, with their rows."""
    lag: int | None
    """Records of the input topics that no worker has counted; `null`: not known."""
    held: int | None
    """Records that wait for an open transaction to end."""
    lag_unknown: str | None
    """Why `lag` is not known, where a broker is set."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionLine:
    """A version of a model."""

    version: str
    serves: bool
    status: str
    kind: str
    sha256: str
    gate_passed: bool
    failed_gates: list[str]
    waived: dict[str, str]
    """Gates that a person took upon themselves, with who and why."""
    bytes: int | None
    """Of its file; `null`: retention removed it."""
    predecessor: str | None
    published_at: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """A move of a model's pointer."""

    at: str
    change: str
    """`publish`, `rollback` or `automatic_rollback`."""
    version: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelDocument(ModelLine):
    """A model with its versions."""

    versions: list[VersionLine]
    """Newest first."""
    moves: list[Move]
    """The last moves of the pointer, newest first."""
    comparison: dict[str, Any] | None
    """The newest version against its predecessor on the same rows: `version`, `predecessor`,
    `state`, `until`, and `result` (`wins`, `losses`, `ties`, `e_better`, `e_worse`; `labels` that
    counted, those that were `left_out` since they were more than three times as many as their
    source usually gives, and `usual_per_day` of all sources; before anything was compared
    `waits_for` says for what; `null` before the first look)."""
    labels: list[dict[str, Any]]
    """Who labelled within the last day: `source`, `bound` (to its topic), `counts`, `labels`."""
    stored: dict[str, Any]
    """What a repair can draw on: `rows`, `bytes`, `since`."""
    schedule: str | None
    """When the next scheduled recompression is due, in words."""
    trusted_rows: str | None
    """What the trusted rows can show, in words."""
    slice_tests: str | None
    """Which slices of the serving version have tests, or why none has, in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UnbarredBytes:
    """Bytes that may be published again."""

    model: str
    sha256: str
    versions: list[str]
    """Those that have these bytes."""
    barred_for: str
    """Why the automatic roll back took them away."""
    reason: str
    """Why a person lets them be published again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedVersion:
    """What judged a version."""

    version: str
    status: str
    kind: str
    sha256: str
    measured: dict[str, Any]
    """What the judged file costs and is worth; empty where its report does not say."""
    gates: list[dict[str, Any]]
    """Each with `name`, `value`, `limit`, `passed` (`null`: undecided) and `why`."""
    gaps: list[dict[str, Any]]
    """Accuracy of each declared group, and the gap between the best and the worst served."""
    documents: dict[str, str]
    """Where its model card, gate report, lineage and bill of materials lie, by name; empty: an
    older release, or retention has removed its files."""


def line_of_model(o: Overview, now: int) -> ModelLine:
    """A model for a list; ``now`` in microseconds since 1970."""
    return ModelLine(**_line(o, now))


def document_of_model(
    o: Overview,
    detail: Mapping[str, Any],
    now: int,
    *,
    schedule: str | None,
    trusted_rows: str | None,
    slice_tests: str | None,
) -> ModelDocument:
    """A model with what ``model_detail.detail`` reads of it."""
    return ModelDocument(
        **_line(o, now),
        versions=[VersionLine(**v) for v in detail["versions"]],
        moves=[Move(**m) for m in detail["moves"]],
        comparison=detail["comparison"],
        labels=detail["labels"],
        stored=detail["stored"],
        schedule=schedule,
        trusted_rows=trusted_rows,
        slice_tests=slice_tests,
    )


def _line(o: Overview, now: int) -> dict[str, Any]:
    measured = accuracy(o)
    served = o.last_served_at
    return {
        **{n: getattr(o, n) for n in ("model", "level", "version", "labels_waiting", "job")},
        "state": state(o, now),
        "accuracy": None
        if measured is None
        else Measure(
            basis="measured",
            value=measured.value,
            low=measured.low,
            high=measured.high,
            n=measured.n,
        ),
        "label_lag_s": None if o.label_lag_us is None else max(0.0, to_seconds(o.label_lag_us)),
        "gate_rows_per_day": o.gate_rows_per_day,
        "last_event_at": iso(served),
        "last_event_age_s": None if served is None else max(0.0, to_seconds(now - served)),
        "open_findings": o.open_findings,
        "incident": None
        if o.incident is None
        else ModelIncident(incident_class=o.incident[0], stage=o.incident[1], why=o.incident[2]),
        "paused_until": iso(o.paused_until),
    }
