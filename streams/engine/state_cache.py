"""State cache: input states in memory, read from SQL when their traffic comes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa
import structlog

from redistill.quiet import Quiet
from redistill.streams.errors import StateError
from redistill.streams.monitor.state import InputState
from redistill.streams.store.batch import Partition, StateRow
from redistill.streams.store.database import Database
from redistill.streams.store.tables import input_states, windows

__all__ = ["CachedState", "StateCache"]

log = structlog.get_logger(__name__)

KEPT_STATES = 2_000
"""Input states in memory; clean ones beyond it are read again from SQL when their traffic comes
back.
"""


@dataclass(slots=True)
class CachedState:
    """The state of one version on one partition."""

    state: InputState | None
    dirty: bool = False
    """It changed since the last batch."""
    used: int = 0
    """Number of the batch that used it last."""


class StateCache:
    """The states of one worker.

    Parameters
    ----------
    key
        Seals stored states.
    """

    def __init__(self, database: Database, key: bytes) -> None:
        self._database = database
        self._key = key
        self._cached: dict[tuple[str, str, Partition], CachedState] = {}
        self._batches = 0
        self._quiet = Quiet()
        self.rebuilt: list[str] = []
        """Models of which a stored state could not be used, since the last batch."""

    def get(self, model: str, version: str, partition: Partition) -> CachedState:
        """The state as it is now, or as SQL has it."""
        key = (model, version, partition)
        cached = self._cached.get(key)
        if cached is None:
            try:
                state = stored_state(self._database, self._key, *key)
            except StateError as error:
                state = self._anew(model, version, partition, error)
            cached = self._cached[key] = CachedState(state)
        cached.used = self._batches
        return cached

    def _anew(
        self, model: str, version: str, partition: Partition, error: StateError
    ) -> InputState | None:
        """What goes on in place of a state that cannot be used; said once a minute, for where one
        was changed a thousand may be."""
        self.rebuilt.append(model)
        held_back = self._quiet.ask("state_rebuilt")
        if held_back is not None:
            log.error(
                "state_rebuilt",
                action="state_rebuilt",
                model=model,
                version=version,
                topic_id=partition.topic_id,
                partition=partition.number,
                error=str(error),
                more_since_last=held_back,
            )
        return fresh_state(self._database, model, version, partition)

    def __len__(self) -> int:
        return len(self._cached)

    def __iter__(self) -> Iterator[tuple[tuple[str, str, Partition], CachedState]]:
        return iter(list(self._cached.items()))

    def changed(self, partition: Partition) -> bool:
        """Whether a state of a partition has changed since the last batch."""
        return any(cached.dirty for (_, _, at), cached in self._cached.items() if at == partition)

    def rows(self, partition: Partition) -> list[StateRow]:
        """What changed on a partition, to be stored; from now on it counts as stored."""
        out: list[StateRow] = []
        for (model, version, at), cached in self._cached.items():
            state = cached.state
            if at != partition or not cached.dirty or state is None:
                continue
            out.append(
                StateRow(
                    model=model,
                    version=version,
                    partition=partition,
                    state=state.to_bytes(self._key),
                    rows=state.counted.rows,
                    first_served_at=state.counted.first_served_at,
                    last_served_at=state.counted.last_served_at,
                )
            )
            cached.dirty = False
        return out

    def next_batch(self) -> None:
        """A batch was closed: forget what was not used for long."""
        self._batches += 1
        self.rebuilt = []
        if len(self._cached) > KEPT_STATES:
            oldest = sorted(self._cached, key=lambda k: self._cached[k].used)
            # two batches old: nothing of it is on its way to SQL any more
            for key in oldest[: len(self._cached) - KEPT_STATES]:
                if not self._cached[key].dirty and self._cached[key].used < self._batches - 2:
                    del self._cached[key]

    def clear(self) -> None:
        """Forget everything that SQL does not know."""
        self._cached.clear()
        self.rebuilt = []


def stored_state(
    database: Database, key: bytes, model: str, version: str, partition: Partition
) -> InputState | None:
    """The state of one version on one partition; ``None`` if there is none.

    Parameters
    ----------
    key
        Under which it is sealed.

    Raises
    ------
    StateError
        It cannot be used: it was changed or moved, is of another key, or newer than this program.
    """
    with database.read() as conn:
        blob = conn.execute(
            sa.select(input_states.c.state).where(*_at(input_states, model, version, partition))
        ).scalar_one_or_none()
    if blob is None:
        return None
    return InputState.from_bytes(
        bytes(blob), key, model=model, version=version, partition=partition
    )


def fresh_state(
    database: Database, model: str, version: str, partition: Partition
) -> InputState | None:
    """A state in place of one that is lost, see ``InputState.anew``; ``None``: so is its row."""
    c = input_states.c
    with database.read() as conn:
        row = conn.execute(
            sa.select(c.rows, c.first_served_at, c.last_served_at).where(
                *_at(input_states, model, version, partition)
            )
        ).one_or_none()
        last = conn.execute(
            sa.select(sa.func.max(windows.c.number)).where(*_at(windows, model, version, partition))
        ).scalar_one()
    if row is None:
        return None
    return InputState.anew(
        model,
        version,
        partition,
        rows=row.rows,
        first_served_at=row.first_served_at,
        last_served_at=row.last_served_at,
        window=0 if last is None else last + 1,
    )


def _at(
    table: sa.Table, model: str, version: str, partition: Partition
) -> tuple[sa.ColumnElement[bool], ...]:
    c = table.c
    return (
        c.model == model,
        c.version == version,
        c.topic_id == partition.topic_id,
        c.partition == partition.number,
    )
