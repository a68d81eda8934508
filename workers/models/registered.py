"""Models as they were registered: their specifications, read from SQL."""

from __future__ import annotations

import sqlalchemy as sa

from redistill.streams.store.tables import specs
from redistill.workers.models.spec import ModelSpec

__all__ = ["spec_of", "used_objects"]


def spec_of(conn: sa.Connection, model: str) -> ModelSpec | None:
    """The specification of a model; ``None``: it is not registered."""
    text = conn.execute(sa.select(specs.c.spec).where(specs.c.model == model)).scalar_one_or_none()
    return None if text is None else ModelSpec.from_json(text)


def used_objects(conn: sa.Connection) -> set[str]:
    """SHA-256 of every object that a registered specification names."""
    out: set[str] = set()
    for text in conn.execute(sa.select(specs.c.spec)).scalars():
        out |= set(ModelSpec.from_json(text).objects.values())
    return out
