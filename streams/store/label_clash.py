"""Label clash: labels that brought another prediction than was logged, as a finding that informs.

What was logged counts, so nothing is harmed; but somebody's labels are made of other predictions
than were served, or are forged. It is no defect of the data: who may write labels could otherwise
hold up every repair with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from redistill.streams.monitor.findings import finding_id
from redistill.streams.store.label_join import Clash
from redistill.streams.store.tables import counters, findings
from redistill.streams.wire.events import Detector, DriftFound, Impact, Statistic, Window
from redistill.times import DAY, utc

__all__ = ["clash_findings"]

COUNTER = "labels_clash"
"""Counts them, by model."""

SCOPE, DETECTOR = "labels", "label_clash"

QUIET_US = DAY
"""A finding ends when nothing was added to it for so long."""


def clash_findings(
    conn: sa.Connection, model: str, clashes: Sequence[Clash], *, now: int
) -> list[DriftFound]:
    """What is to be said about clashes: one finding a version is open, told again whenever they are
    twice as many, and over after a day.

    Parameters
    ----------
    clashes
        Of this join step, not yet counted.
    now
        Microseconds since 1970, by the database's clock.
    """
    opened = _open(conn, model)
    changes: list[DriftFound] = []
    for version in sorted({c.version for c in clashes}):
        mine = [c for c in clashes if c.version == version]
        known = opened.pop(version, (None, 0))[0]
        total = _counted(conn, model) + len(clashes)
        if known is None:
            changes.append(_opened(conn, model, mine, total, now))
        elif total >= 2 * known.impact.n:
            changes.append(_again(known, mine, total, now))
    changes += [_over(f, now) for f, at in opened.values() if at < now - QUIET_US]
    return changes


def _open(conn: sa.Connection, model: str) -> dict[str, tuple[DriftFound, int]]:
    """Those that are open, with when each was told last, by version."""
    c = findings.c
    stored = conn.execute(
        sa.select(c.body, c.stored_at).where(
            c.model == model, c.status != "resolved", c.kind == "quality", c.scope == SCOPE
        )
    )
    found = [(msgspec.json.decode(body, type=DriftFound), int(at)) for body, at in stored]
    return {f.version: (f, at) for f, at in found if f.detector.name == DETECTOR}


def _counted(conn: sa.Connection, model: str) -> int:
    c = counters.c
    query = sa.select(c.value).where(c.model == model, c.name == COUNTER)
    return int(conn.execute(query).scalar() or 0)


def _opened(
    conn: sa.Connection, model: str, clashes: Sequence[Clash], total: int, now: int
) -> DriftFound:
    version = clashes[0].version
    c = findings.c
    before = conn.execute(
        sa.select(sa.func.count()).where(
            c.model == model, c.version == version, c.kind == "quality", c.scope == SCOPE
        )
    ).scalar_one()
    return DriftFound(
        finding_id=finding_id(model, version, "quality", DETECTOR, SCOPE, int(before)),
        model=model,
        version=version,
        status="open",
        severity="info",
        kind="quality",
        scope=SCOPE,
        detector=Detector(name=DETECTOR),
        statistic=Statistic(value=float(total), threshold=1.0),
        window=_window(clashes),
        impact=Impact(
            metric="label_clashes",
            reference=None,
            current=None,
            low=None,
            high=None,
            basis="measured",
            n=total,
            harmful=None,
        ),
        reason=_reason(clashes, total),
        opened_at=utc(now),
        at=utc(now),
    )


def _again(known: DriftFound, clashes: Sequence[Clash], total: int, now: int) -> DriftFound:
    return dataclasses.replace(
        known,
        status="update",
        statistic=dataclasses.replace(known.statistic, value=float(total)),
        window=dataclasses.replace(
            known.window, end=max(known.window.end, _window(clashes).end), rows=total
        ),
        impact=dataclasses.replace(known.impact, n=total),
        reason=_reason(clashes, total),
        revision=known.revision + 1,
        at=utc(now),
    )


def _over(known: DriftFound, now: int) -> DriftFound:
    return dataclasses.replace(
        known,
        status="resolved",
        resolution="reverted",
        revision=known.revision + 1,
        reason=f"not twice as many within a day; last told: {known.reason}",
        at=utc(now),
    )


def _window(clashes: Sequence[Clash]) -> Window:
    served = [c.served_at for c in clashes]
    return Window(start=utc(min(served)), end=utc(max(served)), rows=len(clashes))


def _reason(clashes: Sequence[Clash], total: int) -> str:
    last = clashes[-1]
    return (
        f"{total:,} labels brought another prediction than was logged, the last one of source"
        f" {last.source} for id {last.id}: {last.brought}, logged was {last.logged}; what was"
        " logged counts"
    )
