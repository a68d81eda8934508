"""Usual gaps of a model: how long it is at times without a row, and without a label.

The last four weeks are looked at, hour by hour. A feed of weekdays has gaps of three days each
week, a service that rests at night one of eight hours each night: those are usual. What happened
once or twice, an outage say, is not. So the usual gap is the third longest.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from redistill.streams.store.tables import input_states, labels, specs, windows
from redistill.times import DAY, HOUR

__all__ = [
    "LEAST_US",
    "UNKNOWN_LABELS_US",
    "last_label",
    "last_rows",
    "longest_silence",
    "of_labels",
    "of_rows",
    "usual",
]

LOOKED_AT_US = 28 * DAY
FACTOR = 2
"""So many times its usual gap may a model be silent, ..."""
LEAST_US = HOUR
"""... and so long in any case."""
UNKNOWN_LABELS_US = DAY
"""Without labels, while it is not known how often they come."""
OFTEN = 3
"""What happens so often within four weeks is usual."""


def usual(spans: Iterable[tuple[int, int]]) -> int | None:
    """The usual gap between spans of time in which something came.

    Parameters
    ----------
    spans
        First and last time of each, microseconds; in any order, and they may overlap.

    Returns
    -------
    int or None
        Microseconds: the third longest gap, the longest of fewer. ``None``: there is none yet.

    Examples
    --------
    >>> usual([(0, 1), (5, 6), (26, 30), (29, 40), (42, 43), (50, 51)])
    4
    >>> usual([(0, 1), (5, 6)]), usual([(0, 1)])
    (4, None)
    """
    gaps: list[int] = []
    end: int | None = None
    for first, last in sorted(spans):
        if end is not None and first > end:
            gaps.append(first - end)
        end = last if end is None else max(end, last)
    longest = sorted(gaps, reverse=True)
    return longest[min(OFTEN, len(longest)) - 1] if longest else None


def longest_silence(usual_gap: int | None, *, unknown: int) -> int:
    """For how long a model may be silent before there is something to say, microseconds.

    Parameters
    ----------
    usual_gap
        ``None``: it is not known, and ``unknown`` counts.

    Examples
    --------
    >>> longest_silence(6 * HOUR, unknown=DAY) // HOUR, longest_silence(60, unknown=DAY) // HOUR
    (12, 1)
    >>> longest_silence(None, unknown=DAY) // HOUR
    24
    """
    return unknown if usual_gap is None else max(LEAST_US, FACTOR * usual_gap)


def last_rows(conn: sa.Connection) -> dict[str, int]:
    """When the last row of each registered model was counted, microseconds since 1970 by the
    database's clock; without those that were never served."""
    i = input_states.c
    at = sa.func.max(sa.func.coalesce(i.stored_at, i.last_served_at))
    rows = conn.execute(
        sa.select(i.model, at)
        .where(i.model.in_(sa.select(specs.c.model)))
        .group_by(i.model)
        .order_by(i.model)
    )
    return {str(model): int(last) for model, last in rows if last is not None}


def of_rows(conn: sa.Connection, model: str, now: int) -> int | None:
    """The usual gap between a model's rows; ``None``: there was none yet. It looks at all windows
    of four weeks, and is for a model that is silent."""
    w = windows.c
    hour = w.first_served_at - w.first_served_at % HOUR
    spans = conn.execute(
        sa.select(sa.func.min(w.first_served_at), sa.func.max(w.last_served_at))
        .where(w.model == model, w.last_served_at > now - LOOKED_AT_US)
        .group_by(hour)
    )
    return usual((int(first), int(last)) for first, last in spans)


def last_label(conn: sa.Connection, model: str) -> int | None:
    """When the last label of a model came that counts, microseconds since 1970 by the database's
    clock: what anybody may write is no sign that the feed is alive."""
    at = conn.execute(
        sa.select(sa.func.max(labels.c.received_at)).where(
            labels.c.model == model, labels.c.state != "ignored"
        )
    ).scalar()
    return None if at is None else int(at)


def of_labels(conn: sa.Connection, model: str, now: int) -> int | None:
    """The usual gap between a model's labels; ``None``: there was none yet.

    It walks along the index from the first label of an hour to the first of a later one: some
    hundred steps, however many labels there are.
    """
    came: list[int] = []
    at = now - LOOKED_AT_US
    while True:
        first = conn.execute(
            sa.select(sa.func.min(labels.c.received_at)).where(
                labels.c.model == model,
                labels.c.received_at >= at,
                labels.c.state != "ignored",
            )
        ).scalar()
        if first is None:
            return usual((t, t) for t in came)
        came.append(int(first))
        at = (int(first) // HOUR + 1) * HOUR
