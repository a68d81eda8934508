"""Processes that are alive: a row each, which says every few seconds that it still is.

The stream worker, the repair worker, the web process and the alert process write their own row and
read those of the others. A process that ends in order takes its row away; one that is killed leaves
it behind, with the time at which it was heard last. A stream worker also tells its lag, which no
other process can measure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from redistill.streams.store import properties as property_rows
from redistill.streams.store.database import Database, upsert
from redistill.streams.store.lease import AHEAD_US
from redistill.streams.store.tables import processes, properties
from redistill.times import SECOND

__all__ = [
    "BEAT_SECONDS",
    "GENERATION",
    "SILENT_US",
    "Kind",
    "Presence",
    "ProcessRow",
    "TopicLag",
    "forget",
    "lag_by_topic",
    "lags",
    "retire",
    "seen",
]

Kind = Literal["stream", "repair", "web", "alerts"]

BEAT_SECONDS = 5.0
"""How often a process says that it is alive."""
SILENT_US = 30 * SECOND
"""Not heard of for so long: dead, or as good as dead. SQLite's other writers hold one up for ten
seconds at most."""

GENERATION = 2
"""What this program knows of the database, where an older one would do harm. 1: the first release.
2: bound sources."""

LAG = "lag:"
"""Start of a property's name: what the process behind it told of its lag."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessRow:
    """A process. Times are microseconds since 1970 by the database's clock."""

    process_id: str
    """Unique for each start."""
    kind: str
    started_at: int
    seen_at: int
    """When it last said that it lives."""
    ready: bool
    said: str
    """What it waits for, where it is not ready."""
    generation: int = GENERATION
    """Of its program: ``GENERATION``."""

    def lives(self, now: int) -> bool:
        """Whether it was heard of lately. In the future it was heard of by a clock that was ahead:
        if it lives, it is heard of again.

        Examples
        --------
        >>> row = ProcessRow(process_id="a:1", kind="stream", started_at=0, seen_at=0, ready=True,
        ...                  said="")
        >>> row.lives(SILENT_US), row.lives(SILENT_US + 1)
        (True, False)
        >>> row.lives(-3_600 * SECOND)
        False
        """
        return -AHEAD_US <= now - self.seen_at <= SILENT_US


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicLag:
    """How far one stream worker is behind the end of a topic, over the partitions that it holds."""

    behind: int
    """Records that are in the log and not in SQL."""
    oldest_at: int | None
    """When the oldest of them was written, microseconds since 1970; ``None``: there is none, or it
    was not fetched yet."""


class Presence:
    """The row of this process.

    Parameters
    ----------
    process_id
        Unique for each start.
    """

    def __init__(self, database: Database, kind: Kind, process_id: str) -> None:
        self._database = database
        self._kind = kind
        self.process_id = process_id
        self._started_at: int | None = None

    def say(self, waits_for: str = "", *, lag: Mapping[str, TopicLag] | None = None) -> None:
        """This process lives.

        Parameters
        ----------
        waits_for
            Why it cannot do its work now; empty: it is ready.
        lag
            By topic; ``None``: it is not known, and what was told before is taken back.

        Raises
        ------
        StoreUnavailable
            Nobody was told; the next time is as good.
        """
        with self._database.begin() as conn:
            now = self._database.clock()
            if self._started_at is None:
                self._started_at = now
            conn.execute(
                upsert(processes, ["process_id"]).values(
                    process_id=self.process_id,
                    kind=self._kind,
                    started_at=self._started_at,
                    seen_at=now,
                    ready=not waits_for,
                    said=waits_for,
                    generation=GENERATION,
                )
            )
            if self._kind == "stream":
                name = LAG + self.process_id
                if lag is None:
                    property_rows.drop(conn, name)
                else:
                    told = {t: [at.behind, at.oldest_at] for t, at in sorted(lag.items())}
                    property_rows.put(conn, name, json.dumps(told))

    def leave(self) -> None:
        """This process ends in order.

        Raises
        ------
        StoreUnavailable
            Its row stays, as if it had been killed.
        """
        if self._started_at is None:
            return
        with self._database.begin() as conn:
            _delete_rows(conn, [self.process_id])
            if self._kind == "stream":  # nobody else needs a right to write properties for it
                _delete_lags(conn, [self.process_id])


def seen(conn: sa.Connection) -> list[ProcessRow]:
    """Every process that has not ended in order, by kind and start."""
    p = processes.c
    rows = conn.execute(sa.select(processes).order_by(p.kind, p.started_at, p.process_id))
    return [ProcessRow(**row) for row in rows.mappings()]


def lags(
    conn: sa.Connection,
    process_ids: Collection[str],
    *,
    unreadable: Callable[[str], None] = lambda process_id: None,
) -> list[dict[str, TopicLag]]:
    """What those of the processes that know their lag have told, by topic.

    Parameters
    ----------
    unreadable
        Called for each process of which it cannot be read; the others count.
    """
    names = [LAG + process_id for process_id in process_ids]
    told = conn.execute(
        sa.select(properties.c.name, properties.c.value)
        .where(properties.c.name.in_(names))
        .order_by(properties.c.name)
    )
    out = []
    for name, text in told:
        try:
            out.append(_lag_of(text))
        except (ValueError, TypeError, AttributeError):
            unreadable(name.removeprefix(LAG))
    return out


def lag_by_topic(told: Iterable[Mapping[str, TopicLag]]) -> dict[str, TopicLag]:
    """Lag of each topic over all workers, by the names of topics."""
    out: dict[str, TopicLag] = {}
    for lags in told:
        for topic, lag in lags.items():
            known = out.get(topic, TopicLag(behind=0, oldest_at=None))
            ages = [at for at in (known.oldest_at, lag.oldest_at) if at is not None]
            behind = known.behind + lag.behind
            out[topic] = TopicLag(behind=behind, oldest_at=min(ages, default=None))
    return dict(sorted(out.items()))


def _lag_of(text: str) -> dict[str, TopicLag]:
    return {
        topic: TopicLag(behind=int(n), oldest_at=None if at is None else int(at))
        for topic, (n, at) in json.loads(text).items()
    }


def forget(conn: sa.Connection, process_ids: Collection[str]) -> None:
    """Take processes away: they ended in order, or others took their place."""
    _delete_rows(conn, process_ids)
    _delete_lags(conn, process_ids)


def retire(conn: sa.Connection, before: int) -> int:
    """Take away what was not heard of since ``before``; how many those were. The last of its kind
    stays: it is missed until another one is started.
    """
    rows = seen(conn)
    last = {row.kind: row.process_id for row in sorted(rows, key=lambda row: row.seen_at)}
    gone = [r.process_id for r in rows if r.seen_at < before and r.process_id != last[r.kind]]
    if gone:
        forget(conn, gone)
    return len(gone)


def _delete_rows(conn: sa.Connection, process_ids: Collection[str]) -> None:
    conn.execute(sa.delete(processes).where(processes.c.process_id.in_(process_ids)))


def _delete_lags(conn: sa.Connection, process_ids: Collection[str]) -> None:
    names = [LAG + process_id for process_id in process_ids]
    conn.execute(sa.delete(properties).where(properties.c.name.in_(names)))
