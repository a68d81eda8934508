"""Draws of label requests: which of them could have included a row, and with what probability.

The probability with which a row was labelled is the union over all draws that could have taken it:
``1 - (1 - p_0) (1 - p_1) ...`` with the ordinary draw of whoever labels, and each request of ours
(draws are independent; Horvitz and Thompson 1952 weigh by its inverse). It is computed where an
outcome is made (``label_join``), and once more for the outcomes that are there when a request is
made (``widen``), so it does not depend on which came first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import sqlalchemy as sa

from redistill.streams.monitor.label_requests import included
from redistill.streams.store.tables import label_requests, labels, outcomes

__all__ = ["Draw", "Draws", "in_slice", "of_model", "ordinary", "widen"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """Rows that one request could have asked for."""

    request_id: str
    version: str
    first_served_at: int
    """Microseconds since 1970; both ends inclusive."""
    last_served_at: int
    p_include: float
    slice: str | None = None
    """``column=value``."""

    def covers(self, version: str, served_at: int, slices: str | None) -> bool:
        """Whether a row could have been drawn; ``slices``: JSON, as stored."""
        return (
            version == self.version
            and self.first_served_at <= served_at <= self.last_served_at
            and (self.slice is None or in_slice(self.slice, slices))
        )


@dataclass(slots=True)
class Draws:
    """The draws of one model."""

    by_version: dict[str, list[Draw]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, draws: Iterable[Draw]) -> Draws:
        """Draws of one model, in any order."""
        made = cls()
        for draw in draws:
            made.by_version[draw.version].append(draw)
        return made

    def probabilities(self, version: str, served_at: int, slices: str | None) -> list[float]:
        """Of a row, in each draw that could have taken it.

        Examples
        --------
        >>> draw = Draw(
        ...     request_id="r", version="7", first_served_at=5, last_served_at=9, p_include=0.25,
        ...     slice="region=EU",
        ... )
        >>> draws = Draws.of([draw])
        >>> draws.probabilities("7", 9, '{"region": "EU"}'), draws.probabilities("7", 9, None)
        ([0.25], [])
        """
        of_version = self.by_version.get(version, ())
        return [d.p_include for d in of_version if d.covers(version, served_at, slices)]

    def union(
        self, ordinary: float | None, version: str, served_at: int, slices: str | None, asked: bool
    ) -> float | None:
        """Probability that some draw took the row.

        Parameters
        ----------
        ordinary
            In the draw of whoever labels; ``None``: not known.
        asked
            A request asked for the row. Then its probability is known without the ordinary one, of
            which it is a lower bound; else it is not.
        """
        mine = self.probabilities(version, served_at, slices)
        if ordinary is None:
            return included(*mine) if asked and mine else None
        return included(ordinary, *mine) if mine else ordinary


def in_slice(name: str, slices: str | None) -> bool:
    """Whether a row's slices (JSON, as stored) have ``column=value``.

    Examples
    --------
    >>> in_slice("region=EU", '{"region": "EU"}'), in_slice("region=EU", None)
    (True, False)
    """
    column, _, value = name.partition("=")
    found = msgspec.json.decode(slices) if slices else {}
    return isinstance(found, dict) and found.get(column) == value


def of_model(conn: sa.Connection, model: str, *, served: tuple[int, int] | None = None) -> Draws:
    """The draws of a model.

    Parameters
    ----------
    served
        Only those that could have taken a row served within these times, microseconds since 1970,
        both inclusive: a burst makes a draw with each flush, and hundreds a day add up.
    """
    c = label_requests.c
    names = ("request_id", "version", "first_served_at", "last_served_at", "p_include", "slice")
    query = sa.select(*(c[n] for n in names)).where(c.model == model)
    if served is not None:
        first, last = served
        query = query.where(c.first_served_at <= last, c.last_served_at >= first)
    return Draws.of(Draw(**row._mapping) for row in conn.execute(query))


def ordinary(conn: sa.Connection, model: str) -> float | None:
    """Probability of the newest label that says with which it was drawn: what an answer, whose
    sender need not know it, would have been drawn with."""
    c = labels.c
    query = (
        sa.select(c.p_include)
        .where(c.model == model, c.p_include.is_not(None))
        .order_by(c.received_at.desc(), c.id)
        .limit(1)
    )
    return conn.execute(query).scalar_one_or_none()


def widen(conn: sa.Connection, model: str, new: Sequence[Draw]) -> None:
    """Let outcomes that are there know of draws that could have taken their rows."""
    o = outcomes.c
    for draw in new:
        query = sa.select(o.seq, o.p_include, o.slices).where(
            o.model == model,
            o.version == draw.version,
            o.served_at.between(draw.first_served_at, draw.last_served_at),
            o.p_include.is_not(None),
        )
        changes: list[dict[str, Any]] = [
            {"k_seq": row.seq, "p": included(row.p_include, draw.p_include)}
            for row in conn.execute(query)
            if draw.slice is None or in_slice(draw.slice, row.slices)
        ]
        if changes:
            conn.execute(
                sa.update(outcomes)
                .where(o.model == model, o.version == draw.version, o.seq == sa.bindparam("k_seq"))
                .values(p_include=sa.bindparam("p")),
                changes,
            )
