"""Monitored labels: which labels of a new version's rows the post-release monitor believes.

A label is somebody's word, and what it decides here is final: bytes that an automatic roll back
takes away are barred. So it believes the sources that the gate believed, no burst of them, and
decides nothing before they came over some time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
"""Labels that count, per label that usually comes in that time."""
USUAL_US = 7 * DAY
"""How long before the release the usual rate is taken from, at most."""
USUAL_LABELS = 20
"""Labels there without which nobody knows what is usual."""


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
    usual_per_us: float | None = field(default=None)
    """Labels a microsecond before the release; ``None``: too few to know."""

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
    arrivals: Sequence[tuple[int, int]], *, since: int, usual_per_us: float | None
) -> MonitoredLabels:
    """Count labels as they came, at most three times as many as usual since the release.

    What is beyond it when it comes does not count later either: a burst would only have to wait.
    Which of one batch count is left to the salted hash of the id, which nobody can choose.

    Parameters
    ----------
    arrivals
        ``(received_at, hash of the id)``, microseconds since 1970.
    since
        When the version was published.
    usual_per_us
        ``None``: not known, then all count.

    Examples
    --------
    >>> burst = [(100, h) for h in range(60)]
    >>> found = paced([*burst, (200, 70), (300, 71)], since=0, usual_per_us=0.01)
    >>> len(found.counted), found.left_out, found.flushes
    (5, 57, 3)
    """
    counted: set[int] = set()
    times: list[int] = []
    left_out = 0
    by_batch: dict[int, list[int]] = {}
    for at, id_hash in arrivals:
        by_batch.setdefault(at, []).append(id_hash)
    for at, hashes in sorted(by_batch.items()):
        room = len(hashes)
        if usual_per_us is not None:
            room = int(MOST_OF_USUAL * usual_per_us * max(0, at - since)) - len(counted)
        if taken := sorted(hashes)[: max(0, room)]:
            counted.update(taken)
            times.append(at)
        left_out += len(hashes) - len(taken)
    return MonitoredLabels(
        counted=frozenset(counted),
        left_out=left_out,
        flushes=len(times),
        span_us=times[-1] - times[0] if times else 0,
        usual_per_us=usual_per_us,
    )


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
        (int(row.received_at), int(row.id_hash))
        for row in came
        if counts(
            row.source,
            row.bound,
            sources=config.label_sources,
            bound_sources=config.bound_sources,
        )
    ]
    n, first = conn.execute(
        sa.select(sa.func.count(), sa.func.min(o.made_at)).where(
            *mine, o.made_at >= release.since - USUAL_US, o.made_at < release.since
        )
    ).one()
    usual = n / max(release.since - first, LEAST_US) if n >= USUAL_LABELS else None
    return paced(arrivals, since=release.since, usual_per_us=usual)
