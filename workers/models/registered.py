"""Models as they were registered: their specifications, read from SQL."""

from __future__ import annotations

import sqlalchemy as sa

from redistill.streams.store.label_topics import bound_sources, sources_read
from redistill.streams.store.tables import specs
from redistill.streams.wire.events import bound_topic
from redistill.workers.models.spec import ModelSpec
from redistill.workers.store.tables import versions

__all__ = ["input_topics", "known_files", "spec_of", "used_objects"]


def spec_of(conn: sa.Connection, model: str) -> ModelSpec | None:
    """The specification of a model; ``None``: it is not registered."""
    text = conn.execute(sa.select(specs.c.spec).where(specs.c.model == model)).scalar_one_or_none()
    return None if text is None else ModelSpec.from_json(text)


def input_topics(conn: sa.Connection, namespace: str) -> list[str]:
    """What stream workers read, before the namespace is put in front: predictions, labels, and the
    topics of sources that are bound, or were."""
    sources = bound_sources(conn) | sources_read(conn, namespace)
    return ["predictions", "labels", *map(bound_topic, sorted(sources))]


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
