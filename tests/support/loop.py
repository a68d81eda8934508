"""Rows as the stream workers and ``register`` leave them in SQL, for tests of what is done about
them."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from redistill.files import sha256_of_bytes
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.store.database import Database, connect
from redistill.streams.store.findings import store_findings
from redistill.streams.store.tables import metadata, profiles, specs
from redistill.streams.wire.block import Feature, Schema
from redistill.streams.wire.events import (
    ChangePoint,
    Contributor,
    Detector,
    DriftFound,
    Impact,
    Statistic,
    Window,
)
from redistill.times import HOUR, SECOND, to_seconds, utc
from redistill.workers.incidents.model_context import FleetLimits
from redistill.workers.models.spec import (
    DataSection,
    LabelsSection,
    ModelSection,
    ModelSpec,
    RepairSection,
    TeacherSection,
    WatchSection,
)
from redistill.workers.store import audit
from redistill.workers.store.tables import pointer_history, pointers, versions

NOW = 1_764_000_000 * SECOND
"""November 2025, in microseconds: where the tests' clocks begin."""

LIMITS = FleetLimits(cool_down=HOUR, fleet_jobs_per_day=24)
SHA = "ab" * 32


class Clock:
    """A clock that stands until it is moved; microseconds since 1970."""

    def __init__(self, now: int = NOW) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def seconds(self) -> float:
        """The same time in seconds."""
        return to_seconds(self.now)

    def forward(self, microseconds: int) -> int:
        """Move it."""
        self.now += microseconds
        return self.now


def opened(url: str) -> Database:
    """A database with all tables."""
    database = connect(url)
    metadata.create_all(database.engine)
    return database


def spec(name: str = "credit", *, level: str = "repair", **repair: Any) -> ModelSpec:
    """A specification with two features."""
    return ModelSpec(
        name=name,
        level=level,
        model=ModelSection(version="v1", onnx="student.onnx"),
        teacher=TeacherSection(onnx="teacher.onnx") if level == "repair" else None,
        schema=Schema(
            features=(Feature(name="x"), Feature(name="y")), classes=("repay", "default")
        ),
        data=DataSection(reference="reference.parquet", trusted="trusted.parquet", order="time"),
        labels=LabelsSection(sources=("ledger",)),
        watch=WatchSection(tolerance_points=2.0),
        repair=RepairSection(**({"max_jobs_per_day": 5} | repair)),
    )


def register(
    conn: sa.Connection, model: ModelSpec, *, version: str | None = "v1", now: int = NOW
) -> None:
    """A registered model whose pointer names ``version`` (``None``: it has no pointer)."""
    watch = {
        "model": model.name,
        "level": model.level,
        "schema": model.schema,
        "label_sources": model.labels.sources,
        "tolerance_points": model.watch.tolerance_points,
    }
    from redistill.streams.monitor.config import WatchConfig

    conn.execute(
        sa.insert(specs).values(
            model=model.name,
            revision=1,
            config_sha256=model.config_sha256(),
            level=model.level,
            watch=WatchConfig(**watch).to_json().decode(),
            spec=model.to_json(),
            registered_at=now - HOUR,
            updated_at=now - HOUR,
        )
    )
    if version is not None:
        point(conn, model.name, version, now=now - HOUR, kind="baseline")


def told(conn: sa.Connection, *, now: int) -> None:
    """Let the audit chain tell of the models as they stand, where a test wrote their rows."""
    for row in conn.execute(sa.select(specs)).all():
        body = {
            "level": row.level,
            "config_sha256": row.config_sha256,
            "spec_sha256": sha256_of_bytes(row.spec.encode()),
            "watch_sha256": sha256_of_bytes(row.watch.encode()),
        }
        known = conn.execute(sa.select(profiles.c.version).where(profiles.c.model == row.model))
        for version in known.scalars().all() or [None]:
            told_of = body | {"version": version}
            audit.append(conn, "test", "model.changed", row.model, told_of, now)


def point(
    conn: sa.Connection, model: str, version: str, *, now: int = NOW, kind: str = "actor"
) -> None:
    """Move the pointer: the rows that matter to incidents, without files and keys."""
    errors = [1] * 50 + [0] * 950
    base = BaseError.from_errors(sa_array(errors), ordered=False)
    conn.execute(
        sa.insert(profiles).values(model=model, version=version, base_error=base.to_json())
    )
    conn.execute(
        sa.insert(versions).values(
            model=model,
            version=version,
            sha256=SHA,
            manifest_sha256=SHA,
            kind="baseline" if kind == "baseline" else "repaired",
            status="published",
            files=json.dumps({"model.onnx": {"sha256": SHA, "bytes": 1}}),
            report="{}",
            gate_passed=True,
            created_at=now,
            published_at=now,
        )
    )
    old = conn.execute(sa.select(pointers.c.epoch).where(pointers.c.model == model)).scalar()
    epoch = 1 if old is None else old + 1
    conn.execute(sa.delete(pointers).where(pointers.c.model == model))
    conn.execute(
        sa.insert(pointers).values(
            model=model, stable=version, epoch=epoch, reason="test", moved_at=now, announced_at=now
        )
    )
    conn.execute(
        sa.insert(pointer_history).values(
            model=model,
            epoch=epoch,
            stable=version,
            sha256=SHA,
            change="publish",
            reason="test",
            trigger=json.dumps({"kind": kind, "id": "x"}),
            at=now,
        )
    )


def sa_array(values: list[int]) -> Any:
    """A list as a numpy array."""
    import numpy as np

    return np.asarray(values, np.uint8)


def finding(
    *,
    model: str = "credit",
    version: str = "v1",
    kind: str = "accuracy",
    status: str = "open",
    severity: str = "critical",
    harmful: bool | None = True,
    scope: str = "all",
    revision: int = 0,
    finding_id: UUID | None = None,
    resolution: str | None = None,
    reference: float = 0.95,
    current: float = 0.4,
    contributors: tuple[str, ...] = (),
    at: int = NOW,
) -> DriftFound:
    """A finding: by default, of harm."""
    return DriftFound(
        finding_id=finding_id or uuid4(),
        model=model,
        version=version,
        status=status,
        severity=severity,
        kind=kind,
        scope=scope,
        detector=Detector(name="e-detector"),
        statistic=Statistic(value=2e5, threshold=1e5),
        change_point=ChangePoint(low=utc(at - 10 * SECOND), high=utc(at - 8 * SECOND)),
        window=Window(start=utc(at - 10 * SECOND), end=utc(at), rows=300, labelled=25),
        contributors=[
            Contributor(column=c, distance="psi", value=1.0, noise_floor=0.1) for c in contributors
        ],
        impact=Impact(
            metric="accuracy",
            reference=reference,
            current=current,
            low=current - 0.1,
            high=current + 0.1,
            basis="measured",
            n=25,
            harmful=harmful,
        ),
        reason=f"error {1 - reference:.1%} -> {1 - current:.1%}",
        resolution=resolution,
        opened_at=utc(at),
        at=utc(at),
        revision=revision,
    )


def store(
    conn: sa.Connection, *found: DriftFound, now: int = NOW, raised_seq: int | None = None
) -> list[str]:
    """Store findings as the drainer does, with their announcements."""
    raised = {} if raised_seq is None else {f.finding_id: raised_seq for f in found}
    store_findings(conn, found, now=now, raised_seq=raised)
    return [str(f.finding_id) for f in found]
