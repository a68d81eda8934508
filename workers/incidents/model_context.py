"""Context of a decision: what is known of a registered model, and the limits of the fleet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
import structlog

from redistill.files import sha256_of_bytes
from redistill.streams.monitor.config import Level, WatchConfig
from redistill.streams.store.tables import specs
from redistill.times import HOUR, MINUTE
from redistill.workers.errors import WorkersError
from redistill.workers.models.spec import ModelSpec
from redistill.workers.settings.settings import Settings

__all__ = ["FleetLimits", "ModelContext", "SpecUnreadable", "load", "load_all"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetLimits:
    """The fleet's limits. Durations are microseconds."""

    cool_down: int
    fleet_jobs_per_day: int

    @classmethod
    def of(cls, settings: Settings) -> FleetLimits:
        """From the settings."""
        return cls(
            cool_down=round(settings.cool_down_minutes * MINUTE),
            fleet_jobs_per_day=settings.max_jobs_per_day,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelContext:
    """One registered model: its level, its limits, its files."""

    model: str
    level: Level
    approval: Literal["automatic", "on_request", "paused"]
    has_teacher: bool
    max_jobs_per_day: int
    wait: int
    """How long a job may wait for labels: microseconds."""
    schedule: str | None
    """Cron expression of regular recompressions."""
    watch: WatchConfig
    spec: ModelSpec
    spec_sha256: str
    """Of the specification as it is stored."""
    registered_at: int
    updated_at: int


class SpecUnreadable(WorkersError):
    """The stored specification of a model was written by a program with other ideas."""


def context_of(row: Mapping[Any, Any]) -> ModelContext:
    """A row of ``specs`` as the context of its model.

    Raises
    ------
    SpecUnreadable
        Naming the model.
    """
    try:
        spec = ModelSpec.from_json(row["spec"])
        watch = WatchConfig.from_json(row["watch"])
    except msgspec.MsgspecError as error:
        raise SpecUnreadable(
            f"the stored specification of {row['model']} cannot be read ({error}): register the"
            " model again, or use the newer redistill that wrote it"
        ) from error
    return ModelContext(
        model=row["model"],
        level=row["level"],
        approval=spec.repair.approval,
        has_teacher=spec.teacher is not None,
        max_jobs_per_day=spec.repair.max_jobs_per_day,
        wait=round(spec.repair.wait_hours * HOUR),
        schedule=spec.repair.schedule,
        watch=watch,
        spec=spec,
        spec_sha256=sha256_of_bytes(row["spec"].encode()),
        registered_at=row["registered_at"],
        updated_at=row["updated_at"],
    )


def load(conn: sa.Connection, model: str, *, lock: bool = False) -> ModelContext | None:
    """The context of a model; ``None``: it is not registered.

    ``lock`` makes every other decision about this model wait until the transaction ends (streams
    only read this row, and are not kept waiting).
    """
    query = sa.select(specs).where(specs.c.model == model)
    row = conn.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    return None if row is None else context_of(row)


def load_all(conn: sa.Connection) -> list[ModelContext]:
    """The context of every registered model; one whose specification cannot be read is logged and
    left out."""
    contexts = []
    for row in conn.execute(sa.select(specs).order_by(specs.c.model)).mappings():
        try:
            contexts.append(context_of(row))
        except SpecUnreadable as error:
            log.error("spec_unreadable", action="spec_unreadable", error=str(error))
    return contexts
