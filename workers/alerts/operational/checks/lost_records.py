"""Records that count for nothing: dead letters that go on coming, and offsets that were lost."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from redistill.streams.store.tables import gaps, offsets
from redistill.times import HOUR, MINUTE
from redistill.workers.alerts.operational.look import Look
from redistill.workers.alerts.operational.reading import Reading
from redistill.workers.alerts.operational.words import amount, count, duration

__all__ = ["dead_letters", "lost"]

DEAD_OPENS = 5
"""Records of a topic within an hour that cannot be read: a service that sends rubbish, not one
record by hand. It ends after an hour without any."""
LOST_KEPT_US = HOUR
"""A loss is told for so long: nothing brings the records back."""


def dead_letters(look: Look) -> Sequence[Reading]:
    """Dead letters of each topic within the last hour."""
    o = offsets.c
    totals = look.conn.execute(
        sa.select(o.topic, sa.func.sum(o.dead)).group_by(o.topic).order_by(o.topic)
    )
    out = []
    for topic, total in totals:
        lows = look.history.note(f"dead:{topic}", int(total), look.now)
        n = grown(int(total), lows)
        minutes = look.now // MINUTE - lows[0][0] + 1
        out.append(
            Reading(
                subject=str(topic),
                value=n,
                opens=DEAD_OPENS,
                closes=0,
                said=f"{topic}: {count(n, 'record')} within {duration(minutes * MINUTE)} could not"
                " be read, and went to dlq",
                remedy="read the topic dlq (deploy/RUNBOOK.md, Dead letters): code and reason say"
                " what is wrong, the key who sends it",
            )
        )
    return out


def grown(total: int, lows: Sequence[tuple[int, int]]) -> int:
    """By how much a counter has grown since the first of its lows; one that fell began anew.

    Examples
    --------
    >>> grown(9, [(0, 4), (1, 7)]), grown(2, [(0, 4), (1, 2)])
    (5, 0)
    """
    return total - min(n for _, n in lows)


def lost(look: Look) -> Sequence[Reading]:
    """Offsets of each topic that were found lost within the last hour."""
    g = gaps.c
    rows = look.conn.execute(
        sa.select(g.topic, sa.func.sum(g.last - g.first + 1), sa.func.count())
        .where(g.found_at > look.now - LOST_KEPT_US)
        .group_by(g.topic)
        .order_by(g.topic)
    )
    return [
        Reading(
            subject=str(topic),
            value=float(n),
            opens=1,
            closes=0,
            said=f"{topic}: {count(int(n), 'record')} in {count(int(places), 'place')}"
            f" {amount(int(n), 'is', 'are')} lost: the log lost {amount(int(n), 'it', 'them')}"
            " before a stream worker read so far",
            remedy="look at the topic's retention (`redistill topics apply --dry-run`), and for how"
            " long the stream workers stood still; `redistill check-history` lists every gap",
        )
        for topic, n, places in rows
    ]
