"""Specifications of what is watched: the rows that register and publish wrote, as this side reads
them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import sqlalchemy as sa
import structlog

from redistill.streams.errors import StateError
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.input_profile import Profile
from redistill.streams.store.tables import profiles, specs

__all__ = ["WatchedModel", "load", "revisions"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WatchedModel:
    """One model that is watched."""

    config: WatchConfig
    revision: int
    """Grows with each change of the model's specification or profiles."""
    profiles: dict[str, tuple[Profile | None, BaseError | None]] = field(default_factory=dict)
    """Per registered version; ``None``: not known (yet)."""

    def knows(self, version: str) -> bool:
        """Whether rows of this version are watched: it is registered, or the model learns from its
        traffic.
        """
        return version in self.profiles or self.config.level == "watch"


def revisions(conn: sa.Connection) -> dict[str, int]:
    """Revision of each model: what to compare before loading anything."""
    return {m: int(r) for m, r in conn.execute(sa.select(specs.c.model, specs.c.revision))}


def load(
    conn: sa.Connection, known: Mapping[str, WatchedModel] | None = None
) -> dict[str, WatchedModel]:
    """Everything that is watched.

    Parameters
    ----------
    conn
        A transaction, so that a specification and its profiles belong together.
    known
        What was loaded before: models whose revision did not change are taken over.

    Returns
    -------
    dict
        Per model. A model whose rows cannot be read (written by a newer program, say) is logged and
        left as it was known; its rows count as unregistered if it was not.
    """
    before = known or {}
    current = revisions(conn)
    out = {m: w for m, w in before.items() if current.get(m) == w.revision}
    for model in sorted(current.keys() - out.keys()):
        try:
            out[model] = _load_one(conn, model)
        except (msgspec.MsgspecError, StateError) as error:
            log.error("spec_unreadable", action="spec_unreadable", model=model, error=str(error))
            if model in before:
                out[model] = before[model]
    return out


def _load_one(conn: sa.Connection, model: str) -> WatchedModel:
    row = conn.execute(
        sa.select(specs.c.revision, specs.c.watch).where(specs.c.model == model)
    ).one()
    config = WatchConfig.from_json(row.watch)
    per_version: dict[str, tuple[Profile | None, BaseError | None]] = {}
    c = profiles.c
    query = sa.select(c.version, c.profile, c.base_error).where(c.model == model)
    for version, profile, base in conn.execute(query):
        per_version[version] = (
            None if profile is None else Profile.from_bytes(bytes(profile)),
            None if base is None else BaseError.from_json(base),
        )
    return WatchedModel(config, int(row.revision), per_version)
