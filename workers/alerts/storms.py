"""Storms: alerts of one class that come close together, of many models, are told as one. Pure.

Who belongs to a storm is stored and does not change, so that the storm is the same one for as long
as any of its members is open, whoever comes and goes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

from redistill.times import to_us
from redistill.workers.alerts.alert import Alert
from redistill.workers.alerts.alerts_file import Storm
from redistill.workers.alerts.routes import rank, worst

__all__ = ["gather", "grouped"]

NAMESPACE = UUID("5c1f7f0e-6b0a-5d2b-9c55-2f0f2a1f7d11")
LISTED = 25
"""Members that a message lists; the rest are counted."""
NAMED = 3
"""Models that a title names."""


@dataclass(slots=True)
class _Run:
    key: str
    first: int
    last: int


def gather(alerts: Iterable[Alert], members: Mapping[str, str], storm: Storm) -> dict[str, str]:
    """New members of storms: the key of its storm by the key of each alert that joins one now.

    A storm begins with the alert that makes ``storm.alerts`` models within
    ``storm.within_seconds``; those that open within as long after its last one join it.

    Parameters
    ----------
    alerts
        All that are open, and those that ended lately.
    members
        Who belongs to which storm already.
    """
    classes: dict[str, list[Alert]] = defaultdict(list)
    for alert in alerts:
        if alert.kind in ("incident", "operational") and alert.model is not None:
            classes[alert.alert_class].append(alert)
    joined: dict[str, str] = {}
    for name, found in classes.items():
        found.sort(key=lambda a: (a.opened_at, a.key))
        joined |= _of_class(name, found, members, storm)
    return joined


def _of_class(
    name: str, found: Sequence[Alert], members: Mapping[str, str], storm: Storm
) -> dict[str, str]:
    within = to_us(storm.within_seconds)
    runs = _open_runs(found, members)
    joined: dict[str, str] = {}
    pending: list[Alert] = []
    for alert in found:
        if alert.key in members:
            continue
        at = alert.opened_at
        run = next((r for r in runs if r.first <= at <= r.last + within), None)
        if run is not None:
            joined[alert.key] = run.key
            run.last = max(run.last, at)
            continue
        pending = [a for a in pending if a.opened_at >= at - within] + [alert]
        if len({a.model for a in pending}) >= storm.alerts:
            key = f"storm:{uuid5(NAMESPACE, f'{name}|{pending[0].key}|{pending[0].opened_at}')}"
            joined |= {a.key: key for a in pending}
            runs.append(_Run(key, pending[0].opened_at, at))
            pending = []
    return joined


def _open_runs(found: Sequence[Alert], members: Mapping[str, str]) -> list[_Run]:
    """Storms of which a member is open, the first one first."""
    of: dict[str, list[Alert]] = defaultdict(list)
    for alert in found:
        if alert.key in members:
            of[members[alert.key]].append(alert)
    runs = [
        _Run(key, min(a.opened_at for a in those), max(a.opened_at for a in those))
        for key, those in of.items()
        if any(a.state != "resolved" for a in those)
    ]
    return sorted(runs, key=lambda r: (r.first, r.key))


def grouped(key: str, members: Sequence[Alert], *, listed: int = LISTED) -> Alert:
    """The one alert that stands for the members of a storm, in its present state."""
    still = [a for a in members if a.state != "resolved"]
    firing = [a for a in still if a.state == "firing"]
    order = sorted(members, key=lambda a: (a.state == "resolved", -rank(a.severity), a.model or ""))
    models = list(dict.fromkeys(a.model or "" for a in order))
    more = len(models) - NAMED
    named = ", ".join(models[:NAMED]) + (f" and {more:,} more" if more > 0 else "")
    paged = sum(a.severity == "page" for a in still)
    lines = [f"{a.title} ({a.state})" for a in order[:listed]]
    if len(order) > listed:
        lines.append(f"and {len(order) - listed:,} more")
    span = round((max(a.opened_at for a in members) - min(a.opened_at for a in members)) / 1e6)
    what = order[0].alert_class.replace("_", " ")
    return Alert(
        key=key,
        kind="storm",
        state="firing" if firing else "acknowledged" if still else "resolved",
        severity=worst(a.severity for a in still or members),
        alert_class=order[0].alert_class,
        model=None,
        version=None,
        title=f"{what} in {len(models):,} models at once: {named}",
        how_bad=f"{len(still):,} of {len(members):,} are open, {paged:,} of them need a person",
        where=f"found within {span:,} s: look for what these models share, a feed first",
        commands=("redistill incidents list", f"redistill incidents ack {key}"),
        opened_at=min(a.opened_at for a in members),
        resolved_at=None if still else max(a.resolved_at or 0 for a in members),
        members=tuple(lines),
    )
