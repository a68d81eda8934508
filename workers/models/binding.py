"""Binding of sources: what a changed specification does to labels that were read before.

Where a model binds its first sources, their labels have lain on the common topic so far, and have
counted. What counted goes on counting: the labels that were read, and those below the *cut-over*,
the end of the common topic at that moment. Whoever does not trust them says so, and then nothing
counts that did not come from the topic of its source. Labels of sources that count no more are set
aside either way; the join takes them back from the outcomes that they made. A source that is bound
later, beside others, has no labels that counted.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from redistill.streams.engine.start import existing
from redistill.streams.kafka.broker import Broker
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.label_trust import Cutover, counts
from redistill.streams.store import process_rows
from redistill.streams.store.counters import add_counters
from redistill.streams.store.ledger import DECIDED_EXPIRED
from redistill.streams.store.tables import labels
from redistill.streams.wire.events import bound_topic
from redistill.workers.errors import SpecError
from redistill.workers.models.spec import ModelSpec

__all__ = ["check", "first_bound", "next_cutover", "rebind"]

KNOWS_BOUND = 2
"""``process_rows.GENERATION`` from which on a program knows bound sources."""


def check(
    conn: sa.Connection, broker: Broker, old: ModelSpec | None, new: ModelSpec, *, now: int
) -> None:
    """Make sure that sources can be bound.

    Parameters
    ----------
    now
        Microseconds since 1970, by the database's clock.

    Raises
    ------
    SpecError
        The topic of one is not there, or a process of the first release runs.
    BrokerUnavailable, BrokerRefused
        The broker could not be asked.
    """
    added = [s for s in new.labels.bound if old is None or s not in old.labels.bound]
    if not added:
        return
    topics = {broker.topic(bound_topic(s)): s for s in added}
    there = existing(broker, topics)
    if missing := sorted(topics.keys() - there.keys()):
        raise SpecError(
            f"{new.name} binds {', '.join(repr(topics[t]) for t in missing)}, and there is no topic"
            f" {', '.join(missing)}: make it with `redistill topics apply MODEL.TOML`, which says"
            " who may write there, and register again"
        )
    for row in process_rows.seen(conn):
        if row.generation < KNOWS_BOUND and row.kind != "web" and row.lives(now):
            raise SpecError(
                f"{new.name} binds {', '.join(map(repr, added))}, and a {row.kind} process of an"
                f" older release runs ({row.process_id}), which knows nothing of it and would let"
                " everybody's labels count: stop it, and register again"
            )


def first_bound(old: ModelSpec | None, new: ModelSpec) -> tuple[str, ...]:
    """Sources whose labels counted on the common topic, and that are bound now."""
    if old is None or old.labels.bound:
        return ()
    return tuple(
        s
        for s in new.labels.bound
        if counts(s, False, sources=old.labels.sources, bound_sources=())
    )


def next_cutover(
    old: ModelSpec | None, was: WatchConfig | None, new: ModelSpec, ends: Mapping[str, int] | None
) -> Cutover:
    """The cut-over of a specification.

    Parameters
    ----------
    old, was
        What was registered before; ``None``: nothing.
    ends
        End of each partition of the common topic, by ``label_trust.partition_key``; ``None``: what
        lies there is not trusted.
    """
    if old is None or not new.labels.bound:
        return Cutover()
    if (first := first_bound(old, new)) and ends:
        return Cutover(sources=first, offsets=dict(ends))
    if old.labels.bound and was is not None:
        kept = tuple(s for s in was.cutover.sources if s in new.labels.bound)
        return Cutover(sources=kept, offsets=was.cutover.offsets if kept else {})
    return Cutover()


def rebind(conn: sa.Connection, old: ModelSpec, new: ModelSpec, *, trust: bool, now: int) -> None:
    """Bring the labels that are stored into line with a specification.

    Parameters
    ----------
    trust
        Labels of sources that are bound for the first time are as good as bound ones.
    now
        Microseconds since 1970.
    """
    if old.labels.bound == new.labels.bound:
        return
    c = labels.c
    mine = c.model == new.name
    if trust and (first := first_bound(old, new)):
        conn.execute(
            sa.update(labels)
            .where(mine, c.source.in_(first), c.state != "ignored", c.bound.is_(False))
            .values(bound=True)
        )
    if new.labels.bound:
        counting = sa.and_(c.bound.is_(True), c.source.in_(new.labels.bound))
        # the join looks at them anew, and finds that they count no more
        again = conn.execute(
            sa.update(labels)
            .where(mine, c.state.in_(("joined", "superseded")), sa.not_(counting))
            .values(state="waiting", check_at=0)
        )
        add_counters(conn, {(new.name, DECIDED_EXPIRED): again.rowcount}, now=now)
