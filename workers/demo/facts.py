"""Facts of a run, as the database has them: the scenario asserts nothing that is not found here."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from redistill.stats import clopper_pearson
from redistill.streams.store import tables as seen
from redistill.streams.store.database import Database
from redistill.workers.store import tables as acted

__all__ = [
    "Activation",
    "FindingFact",
    "IncidentFact",
    "JobFact",
    "Measured",
    "Move",
    "Reader",
    "Snapshot",
    "StepFact",
    "VersionFact",
    "announced",
    "labels_of",
    "labels_until",
    "measured",
    "next_offsets",
    "read",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class FindingFact:
    """A row of ``findings``; times are microseconds since 1970."""

    finding_id: str
    version: str
    kind: str
    scope: str
    status: str
    opened_at: int
    stored_at: int
    body: Mapping[str, Any]

    @property
    def harmful(self) -> bool | None:
        """Whether the event declares harm."""
        harmful: bool | None = self.body["impact"]["harmful"]
        return harmful


@dataclass(frozen=True, kw_only=True, slots=True)
class IncidentFact:
    """A row of ``incidents``."""

    incident_id: str
    version: str
    incident_class: str
    status: str
    stage: str
    cause: str | None
    decision: str | None
    why: str
    opened_at: int
    resolved_at: int | None
    resolution: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class StepFact:
    """A row of ``job_steps``."""

    name: str
    state: str
    seconds: float | None
    cpu_seconds: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class JobFact:
    """A row of ``jobs`` with its steps, oldest first."""

    job_id: str
    number: int
    incident_id: str | None
    state: str
    outcome: Mapping[str, Any]
    created_at: int
    started_at: int | None
    finished_at: int | None
    steps: tuple[StepFact, ...]

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.finished_at is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionFact:
    """A row of the registry."""

    version: str
    sha256: str
    kind: str
    status: str
    job_id: str | None
    report: Mapping[str, Any]
    bytes: int | None
    """Size of ``model.onnx``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """One change of the pointer."""

    epoch: int
    stable: str
    sha256: str
    change: str
    at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Activation:
    """A service said that it began to serve a version."""

    instance_id: str
    version: str
    epoch: int
    at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """Everything about one model, read in one transaction; lists are in the order of time."""

    findings: tuple[FindingFact, ...] = ()
    incidents: tuple[IncidentFact, ...] = ()
    jobs: tuple[JobFact, ...] = ()
    versions: Mapping[str, VersionFact] = field(default_factory=dict)
    moves: tuple[Move, ...] = ()
    activations: tuple[Activation, ...] = ()
    rows: int = 0
    """Predictions counted into state."""
    dead: int = 0
    """Records that went to the dead-letter topic."""
    lost_ranges: int = 0
    """Gaps: ranges of offsets that left the log before they were counted."""
    labels: int = 0

    def activated(self, epoch: int) -> dict[str, Activation]:
        """The first activation of each service at this epoch or a later one."""
        out: dict[str, Activation] = {}
        for a in self.activations:
            if a.epoch >= epoch:
                out.setdefault(a.instance_id, a)
        return out


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Accuracy on the labelled rows of a version: what redistill itself knows."""

    correct: int
    n: int

    @property
    def accuracy(self) -> float | None:
        """Share of right rows, ``None`` without any."""
        return self.correct / self.n if self.n else None

    def interval(self) -> tuple[float, float]:
        """Exact 95% interval of the accuracy."""
        return clopper_pearson(self.correct, self.n)


def read(database: Database, model: str) -> Snapshot:
    """Everything about one model, now."""
    with database.read() as conn:
        versions = [
            VersionFact(
                version=r["version"],
                sha256=r["sha256"],
                kind=r["kind"],
                status=r["status"],
                job_id=r["job_id"],
                report=json.loads(r["report"]),
                bytes=json.loads(r["files"]).get("model.onnx", {}).get("bytes"),
            )
            for r in _rows(conn, acted.versions, model, acted.versions.c.created_at)
        ]
        return Snapshot(
            findings=tuple(
                FindingFact(
                    **_pick(r, "finding_id version kind scope status opened_at stored_at"),
                    body=json.loads(r["body"]),
                )
                for r in _rows(conn, seen.findings, model, seen.findings.c.stored_at)
            ),
            incidents=tuple(
                IncidentFact(
                    **_pick(
                        r,
                        "incident_id version incident_class status stage cause decision why "
                        "opened_at resolved_at resolution",
                    )
                )
                for r in _rows(conn, acted.incidents, model, acted.incidents.c.opened_at)
            ),
            jobs=tuple(
                JobFact(
                    **_pick(r, "job_id number incident_id state created_at started_at finished_at"),
                    outcome=json.loads(r["outcome"] or "{}"),
                    steps=_steps(conn, r["job_id"]),
                )
                for r in _rows(conn, acted.jobs, model, acted.jobs.c.number)
            ),
            versions={v.version: v for v in versions},
            moves=tuple(
                Move(**_pick(r, "epoch stable sha256 change at"))
                for r in _rows(conn, acted.pointer_history, model, acted.pointer_history.c.epoch)
            ),
            activations=tuple(
                Activation(**_pick(r, "instance_id version epoch at"))
                for r in _rows(conn, acted.activations, model, acted.activations.c.at)
            ),
            **_counts(conn),
        )


class Reader:
    """Everything about one model, as often as one likes: read again only after somebody wrote.

    Parameters
    ----------
    database
        SQLite tells whether another connection has committed; PostgreSQL is read each time.
    model
        Its name.
    """

    def __init__(self, database: Database, model: str) -> None:
        self._database = database
        self._model = model
        self._known: tuple[int, Snapshot] | None = None
        self._file: sqlite3.Connection | None = None
        if database.is_sqlite:
            self._file = sqlite3.connect(database.url.database or "")

    def now(self) -> Snapshot:
        """What the database says now."""
        if self._file is None:
            return read(self._database, self._model)
        # asked before reading: what is written in between is found by the next look
        (version,) = self._file.execute("PRAGMA data_version").fetchone()
        if self._known is None or self._known[0] != version:
            self._known = version, read(self._database, self._model)
        return self._known[1]

    def close(self) -> None:
        """Close its own connection."""
        if self._file is not None:
            self._file.close()


def measured(
    database: Database, model: str, version: str, *, since: int = 0, until: int | None = None
) -> Measured:
    """Accuracy of a version on labelled rows served in ``[since, until)``, microseconds."""
    o = seen.outcomes.c
    query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(o.correct), 0)).where(
        o.model == model, o.version == version, o.served_at >= since
    )
    if until is not None:
        query = query.where(o.served_at < until)
    with database.read() as conn:
        n, correct = conn.execute(query).one()
    return Measured(correct=int(correct), n=int(n))


def labels_until(database: Database, model: str, version: str, *, since: int, made: int) -> int:
    """Labelled rows served since a time that had been joined by another: what a detector needed."""
    o = seen.outcomes.c
    query = sa.select(sa.func.count()).where(
        o.model == model, o.version == version, o.served_at >= since, o.made_at <= made
    )
    with database.read() as conn:
        return int(conn.execute(query).scalar_one())


def labels_of(database: Database, model: str, source: str) -> int:
    """Labels of a source that were stored, as were the rows that they are of."""
    c, j = seen.labels.c, seen.join_rows.c
    query = (
        sa.select(sa.func.count())
        .select_from(seen.labels)
        .join(seen.join_rows, sa.and_(j.model == c.model, j.id_hash == c.id_hash))
        .where(c.model == model, c.source == source)
    )
    with database.read() as conn:
        return int(conn.execute(query).scalar_one())


def next_offsets(database: Database) -> dict[tuple[str, int], int]:
    """Next offset to read, by topic and partition, of the topics that stream workers read."""
    o = seen.offsets.c
    with database.read() as conn:
        rows = conn.execute(sa.select(o.topic, o.partition, o.next_offset)).all()
    return {(topic, partition): next_offset for topic, partition, next_offset in rows}


def announced(database: Database) -> dict[str, int]:
    """Announcements sent, by topic, and those ``unsent``."""
    o = seen.outbox.c
    query = sa.select(o.topic, o.sent_at.is_(None), sa.func.count()).group_by(
        o.topic, o.sent_at.is_(None)
    )
    out = {"unsent": 0}
    with database.read() as conn:
        for topic, unsent, n in conn.execute(query):
            key = "unsent" if unsent else topic
            out[key] = out.get(key, 0) + n
    return out


def _rows(
    conn: sa.Connection, table: sa.Table, model: str, order: sa.ColumnElement[Any]
) -> Sequence[Mapping[str, Any]]:
    query = sa.select(table).where(table.c.model == model).order_by(order)
    return [dict(r) for r in conn.execute(query).mappings()]


def _pick(row: Mapping[str, Any], names: str) -> dict[str, Any]:
    return {name: row[name] for name in names.split()}


def _steps(conn: sa.Connection, job_id: str) -> tuple[StepFact, ...]:
    s = acted.job_steps.c
    query = sa.select(s.name, s.state, s.seconds, s.cpu_seconds).where(s.job_id == job_id)
    return tuple(
        StepFact(name=r.name, state=r.state, seconds=r.seconds, cpu_seconds=r.cpu_seconds)
        for r in conn.execute(query.order_by(s.at))
    )


def _counts(conn: sa.Connection) -> dict[str, int]:
    o = seen.offsets.c
    of_topic = {"predictions": 0, "labels": 0}
    dead = 0
    for topic, rows, lost in conn.execute(
        sa.select(o.topic, sa.func.sum(o.rows), sa.func.sum(o.dead)).group_by(o.topic)
    ):
        of_topic[topic.rsplit(".", 1)[-1]] = int(rows)
        dead += int(lost)
    gaps = int(conn.execute(sa.select(sa.func.count()).select_from(seen.gaps)).scalar_one())
    return {
        "rows": of_topic["predictions"],
        "labels": of_topic["labels"],
        "dead": dead,
        "lost_ranges": gaps,
    }
