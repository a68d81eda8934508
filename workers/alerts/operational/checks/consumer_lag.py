"""Consumer lag: records that wait too long to be counted, and lag that does not stop growing.

Stream workers tell how far they are behind (:mod:`redistill.streams.store.process_rows`); a worker
that does not live tells nothing, which is another trouble's matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from redistill.streams.store import process_rows
from redistill.streams.store.process_rows import TopicLag
from redistill.times import to_seconds
from redistill.workers.alerts.operational.look import Look
from redistill.workers.alerts.operational.reading import Reading
from redistill.workers.alerts.operational.words import amount, count, duration

__all__ = ["growing", "late"]

OPENS_SECONDS, CLOSES_SECONDS = 120.0, 30.0
"""Age of the oldest record that was not counted. A flush takes half a second, a rebalance with a
dead member some twenty."""
STEPS = 5
"""Minutes in a row over which lag grows; from one full minute's low to the next, since between two
flushes it goes up and down."""
SMALL = 1_000
"""Records: less is one batch of a fast producer, and no trend."""
REMEDY = (
    "`redistill doctor` says what holds the stream workers up; on PostgreSQL start one more"
    " (`redistill run stream`), up to one for each partition"
)


def late(look: Look) -> Sequence[Reading] | None:
    """How long the oldest record of each topic has waited."""
    topics = _told(look)
    if topics is None:
        look.history.keep("unfetched:")
        return None
    return [_late(topic, lag, look) for topic, lag in topics.items()]


def growing(look: Look) -> Sequence[Reading] | None:
    """Whether each topic's lag has grown for minutes on end."""
    topics = _told(look)
    if topics is None:
        look.history.keep("behind:")
        return None
    out = []
    for topic, lag in topics.items():
        lows = look.history.note(f"behind:{topic}", lag.behind, look.now)
        steps = trend(lows[:-1]) if lag.behind >= SMALL else -STEPS
        more = lag.behind - min(n for _, n in lows[-STEPS - 1 :])
        out.append(
            Reading(
                subject=topic,
                value=steps,
                opens=STEPS,
                closes=0,
                said=f"{topic}: {count(lag.behind, 'record')} {amount(lag.behind, 'waits', 'wait')}"
                f" to be counted, {more:,} more than {STEPS} minutes ago, and the lag grows",
                remedy=REMEDY,
            )
        )
    return out


def trend(lows: Sequence[tuple[int, int]]) -> int:
    """Steps up less steps down (or level) over the last ``STEPS`` steps from minute to minute.

    Parameters
    ----------
    lows
        Minute and lowest lag of each full minute, oldest first. A minute that is missing begins
        anew: who knows what was then.

    Examples
    --------
    >>> trend([(m, 100 * m) for m in range(6)]), trend([(m, 100 * m) for m in range(5)])
    (5, 4)
    >>> trend([(0, 1), (1, 2), (5, 3), (6, 4)]), trend([(0, 9), (1, 5), (2, 7)])
    (1, 0)
    """
    last = list(lows[-STEPS - 1 :])
    out = 0
    for (m0, before), (m1, after) in pairwise(last):
        out = 0 if m1 != m0 + 1 else out + (1 if after > before else -1)
    return out


def _told(look: Look) -> dict[str, TopicLag] | None:
    """By topic; ``None``: no stream worker that lives knows its lag."""
    rows = process_rows.seen(look.conn)
    living = [r.process_id for r in rows if r.kind == "stream" and r.lives(look.now)]
    told = process_rows.lags(look.conn, living, unreadable=partial(look.unreadable, "lag"))
    return process_rows.lag_by_topic(told) if told else None


def _late(topic: str, lag: TopicLag, look: Look) -> Reading:
    # what was never fetched has no known age: it has waited for as long as it was seen to
    unfetched = lag.behind > 0 and lag.oldest_at is None
    lasted = look.history.lasted(f"unfetched:{topic}", unfetched, look.now)
    waited = lasted if lag.oldest_at is None else max(0, look.now - lag.oldest_at)
    waits = amount(lag.behind, "waits", "wait")
    return Reading(
        subject=topic,
        value=to_seconds(waited) if lag.behind else 0.0,
        opens=OPENS_SECONDS,
        closes=CLOSES_SECONDS,
        said=f"{topic}: {count(lag.behind, 'record')} {waits} to be counted, the oldest for"
        f" {duration(waited)}",
        remedy=REMEDY,
    )
