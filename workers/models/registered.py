"""Models as they were registered: their specifications, read from SQL."""

from __future__ import annotations

import sqlalchemy as sa

from redistill.streams.store.tables import specs
from redistill.workers.models.spec import ModelSpec
from redistill.workers.store.tables import versions

__all__ = ["known_files", "spec_of", "used_objects"]


def spec_of(conn: sa.Connection, model: str) -> ModelSpec | None:
    """The specification of a model; ``None``: it is not registered."""
    text = conn.execute(sa.select(specs.c.spec).where(specs.c.model == model)).scalar_one_or_none()
    return None if text is None else ModelSpec.from_json(text)


def known_files(conn: sa.Connection, model: str) -> frozenset[str]:
    """SHA-256 of the files of a model that were let in: its versions, and what its specification
    names."""
    kept = conn.execute(sa.select(versions.c.sha256).where(versions.c.model == model)).scalars()
    spec = spec_of(conn, model)
    return frozenset(kept) | frozenset(() if spec is None else spec.objects.values())


def used_objects(conn: sa.Connection) -> set[str]:
    """SHA-256 of every object that a registered specification names."""
    out: set[str] = set()
    for text in conn.execute(sa.select(specs.c.spec)).scalars():
        out |= set(ModelSpec.from_json(text).objects.values())
    return out
