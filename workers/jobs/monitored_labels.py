"""Monitored labels: which labels of a new version's rows the post-release monitor believes.

A label is somebody's word, and what it decides here is final: bytes that an automatic roll back
takes away are barred. So it believes the sources that the gate believed, no burst of them, and
decides nothing before they came over some time.

What is usual is asked of each source: who floods in the name of one uses up what counts of that
one, not of the others, and a name that said nothing before says nothing here. It is the median of
days, so that a flood on some days before a release does not pass for the custom.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.label_trust import counts
from redistill.streams.store.tables import labels, outcomes
from redistill.times import DAY, MINUTE, to_seconds
from redistill.workers.releases.post_release_monitor import MonitoredRelease

__all__ = ["MonitoredLabels", "read"]

LEAST_FLUSHES = 3
"""Batches in which labels have to have come: who sends all at once decides nothing."""
LEAST_US = 2 * MINUTE
"""Time over which they have to have come."""

MOST_OF_USUAL = 3.0
"""Labels that count, per label that the source usually gives in that time."""
USUAL_DAYS = 7
"""How long before the release the usual rate is taken from, at most."""
USUAL_LABELS = 20
"""Labels of all sources there without which nobody knows what is usual."""
FEWEST_DAYS = 3
"""Days without which there is no median to speak of."""

Arrival = tuple[str, int, int]
"""Source, ``received_at`` in microseconds since 1970, hash of the id."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MonitoredLabels:
    """Labels of rows that a new version served."""

    counted: frozenset[int] = frozenset()
    """Those that count, by the signed hash of their id."""
    left_out: int = 0
    """Beyond three times the usual rate."""
    flushes: int = 0
    """In which those that count came."""
    span_us: int = 0
    """From the first of them to the last."""
    usual_per_us: float | None = None
    """Labels a microsecond before the release, of all sources; ``None``: too few to know."""

    @property
    def waits_for(self) -> str | None:
        """What is missing before anything may be decided; ``None``: nothing."""
        if self.flushes < LEAST_FLUSHES:
            return f"labels in {LEAST_FLUSHES} batches, there are {self.flushes}"
        if self.span_us < LEAST_US:
            least = to_seconds(LEAST_US)
            return f"labels over {least:.0f} s, they came in {to_seconds(self.span_us):.0f} s"
        return None

    def told(self) -> dict[str, Any]:
        """For the comparison's row and the log."""
        usual = self.usual_per_us
        return {
            "labels": len(self.counted),
            "left_out": self.left_out,
            "usual_per_day": None if usual is None else round(usual * DAY, 1),
        }


def paced(
    arrivals: Iterable[Arrival], *, since: int, usual_per_us: Mapping[str, float] | None
) -> MonitoredLabels:
    """Count labels as they came, of each source at most three times as many as usual since the
    release.

    What is beyond it when it comes does not count later either: a burst would only have to wait.
    Which of one batch count is left to the salted hash of the id, which nobody can choose.

    Parameters
    ----------
    since
        When the version was published.
    usual_per_us
        Labels a microsecond by source, none of those that are not named; ``None``: not known, then
        all count.

    Examples
    --------
    >>> burst = [("ledger", 100, h) for h in range(60)]
    >>> rest = [("ledger", 200, 70), ("ledger", 300, 71), ("analyst", 300, 72), ("new", 300, 73)]
    >>> usual = {"ledger": 0.01, "analyst": 0.01}
    >>> found = paced([*burst, *rest], since=0, usual_per_us=usual)
    >>> len(found.counted), found.left_out, found.flushes
    (6, 58, 3)
    """
    counted: set[int] = set()
    times: set[int] = set()
    left_out = 0
    batches: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for source, at, id_hash in arrivals:
        batches[source][at].append(id_hash)
    for source, by_batch in batches.items():
        taken = 0
        for at, hashes in sorted(by_batch.items()):
            room = len(hashes)
            if usual_per_us is not None:
                most = MOST_OF_USUAL * usual_per_us.get(source, 0.0) * max(0, at - since)
                room = max(0, int(most) - taken)
            some = sorted(hashes)[:room]
            counted.update(some)
            taken += len(some)
            left_out += len(hashes) - len(some)
            if some:
                times.add(at)
    return MonitoredLabels(
        counted=frozenset(counted),
        left_out=left_out,
        flushes=len(times),
        span_us=max(times) - min(times) if times else 0,
        usual_per_us=None if usual_per_us is None else sum(usual_per_us.values()),
    )


def usual_rates(
    by_day: Mapping[str, Mapping[int, int]], *, first_us: int
) -> dict[str, float] | None:
    """Labels a microsecond of each source, as they came before a release: the median of whole
    days; their mean where it is none on most days, as of a feed that comes once a week, or where
    there are too few days.

    Parameters
    ----------
    by_day
        Labels by source, and by day before the release: 0 is the last one.
    first_us
        How long before the release the first of them came, microseconds.

    Returns
    -------
    dict or None
        ``None``: too few labels to know.

    Examples
    --------
    >>> daily = {day: 24 for day in range(7)}
    >>> flooded = {"ledger": daily | {0: 10_000, 1: 10_000}}
    >>> round(usual_rates(flooded, first_us=7 * DAY)["ledger"] * DAY)
    24
    >>> round(usual_rates({"ledger": {3: 70}}, first_us=7 * DAY)["ledger"] * DAY)
    10
    """
    if sum(sum(days.values()) for days in by_day.values()) < USUAL_LABELS:
        return None
    whole = min(first_us // DAY, USUAL_DAYS)  # of a day that is not whole nobody knows the rest
    out: dict[str, float] = {}
    for source, days in by_day.items():
        median = statistics.median(days.get(d, 0) for d in range(whole)) if whole else 0
        if whole >= FEWEST_DAYS and median:
            out[source] = median / DAY
        else:
            out[source] = sum(days.values()) / max(first_us, LEAST_US)
    return out


def read(
    conn: sa.Connection, release: MonitoredRelease, config: WatchConfig, report: Mapping[str, Any]
) -> MonitoredLabels:
    """The labels that count of rows that a new version served: of the sources by which its gate let
    it through, or, where no fresh label judged it, of those that the model believes.

    Parameters
    ----------
    config
        The model's settings: which labels count at all.
    report
        The version's gate report, as JSON's values.
    """
    o, c = outcomes.c, labels.c
    mine = [o.model == release.model, o.label.is_not(None)]
    if judged_by := report.get("label_sources"):
        mine.append(o.source.in_(judged_by))
    came = conn.execute(
        sa.select(c.received_at, o.id_hash, c.source, c.bound)
        .join_from(
            outcomes,
            labels,
            # the label that stands: one that was corrected since came when its correction came
            (c.model == o.model)
            & (c.id == o.id)
            & (c.source == o.source)
            & (c.observed_at == o.observed_at),
        )
        .where(*mine, o.version == release.version, o.served_at >= release.since)
    )
    arrivals = [
        (row.source, int(row.received_at), int(row.id_hash))
        for row in came
        if counts(
            row.source,
            row.bound,
            sources=config.label_sources,
            bound_sources=config.bound_sources,
        )
    ]
    return paced(arrivals, since=release.since, usual_per_us=_usual(conn, mine, release.since))


def _usual(
    conn: sa.Connection, mine: Sequence[sa.ColumnElement[bool]], since: int
) -> dict[str, float] | None:
    """Labels a microsecond of each source before a release, by the outcomes that were made."""
    o = outcomes.c
    age = since - 1 - o.made_at
    found = conn.execute(
        sa.select(o.source, (age // DAY).label("day"), sa.func.count().label("n"), sa.func.max(age))
        .where(*mine, o.made_at >= since - USUAL_DAYS * DAY, o.made_at < since)
        .group_by(o.source, "day")
    ).all()
    by_day: dict[str, dict[int, int]] = defaultdict(dict)
    for source, number, n, _ in found:
        by_day[source][int(number)] = int(n)
    return usual_rates(by_day, first_us=max((int(x[3]) for x in found), default=0))
