"""Storms: alerts that come close together, of many models, are told as one. Pure.

A broken feed comes first: two models that find the same column broken in the same way have a cause
in common, and a few minutes apart is close. Of what is left, many alerts of one class are a storm.

Who belongs to a storm is stored and does not change, so that the storm is the same one for as long
as any of its members is open, whoever comes and goes.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID, uuid5

from redistill.times import to_us
from redistill.workers.alerts.alert import Alert
from redistill.workers.alerts.alerts_file import Storm
from redistill.workers.alerts.incident_alerts import between, one_line
from redistill.workers.alerts.routes import rank, worst
from redistill.workers.incidents import broken_feeds
from redistill.workers.incidents.broken_feeds import Breakage

__all__ = ["fewest", "gather", "grouped"]

NAMESPACE = UUID("5c1f7f0e-6b0a-5d2b-9c55-2f0f2a1f7d11")
LISTED = 25
"""Members that a message lists; the rest are counted."""
NAMED = 3
"""Models that a title names."""
FEED = "feed:"
"""How the key of a storm begins that is a broken feed; which one comes next."""


@dataclass(slots=True)
class _Run:
    key: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class _Opened:
    """An alert that may join, and when what it would join for was found."""

    alert: Alert
    at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rule:
    """What makes a storm of alerts that have something in common."""

    name: str
    """What they have in common."""
    key: str
    """How the keys of such storms begin."""
    within: int
    models: int


def gather(alerts: Iterable[Alert], members: Mapping[str, str], storm: Storm) -> dict[str, str]:
    """New members of storms: the key of its storm by the key of each alert that joins one now.

    A storm begins with the alert that makes ``storm.alerts`` models within
    ``storm.within_seconds``; those that open within as long after its last one join it. A broken
    feed begins with ``broken_feeds.FEWEST_MODELS`` within ``broken_feeds.WITHIN_US``; an alert with
    several broken columns joins the one that most models have.

    Parameters
    ----------
    alerts
        All that are open, and those that ended lately.
    members
        Who belongs to which storm already.
    """
    may_join = [a for a in alerts if a.kind in ("incident", "operational") and a.model is not None]
    known = dict(members)
    for feed, opened in _feeds(may_join):
        known |= _of_rule(_feed_rule(*feed), opened, known)
    classes: dict[str, list[_Opened]] = defaultdict(list)
    for alert in may_join:
        classes[alert.alert_class].append(_Opened(alert, alert.opened_at))
    for name, opened in classes.items():
        rule = _Rule(
            name=name, key="storm:", within=to_us(storm.within_seconds), models=storm.alerts
        )
        known |= _of_rule(rule, opened, known)
    return {key: joined for key, joined in known.items() if key not in members}


def _feeds(alerts: Sequence[Alert]) -> list[tuple[tuple[str, str], list[_Opened]]]:
    """Alerts by column and rule, those that most models have first."""
    found: dict[tuple[str, str], list[_Opened]] = defaultdict(list)
    for alert in alerts:
        for b in alert.breakages:
            found[b.column, b.rule].append(_Opened(alert, b.at))
    models = {feed: len({o.alert.model for o in opened}) for feed, opened in found.items()}
    shared = [one for one in found.items() if models[one[0]] >= broken_feeds.FEWEST_MODELS]
    return sorted(shared, key=lambda one: (-models[one[0]], one[0]))


@lru_cache(maxsize=1_024)
def _feed_rule(column: str, rule: str) -> _Rule:
    name = json.dumps([column, rule])  # in ASCII, whatever the column is called
    return _Rule(
        name=name,
        key=f"{FEED}{uuid5(NAMESPACE, name).hex[:12]}-",
        within=broken_feeds.WITHIN_US,
        models=broken_feeds.FEWEST_MODELS,
    )


def fewest(key: str, storm: Storm) -> int:
    """Models of a storm that a channel must be owed to be told of them as one."""
    return broken_feeds.FEWEST_MODELS if key.startswith(FEED) else storm.alerts


def _of_rule(rule: _Rule, found: list[_Opened], members: Mapping[str, str]) -> dict[str, str]:
    found.sort(key=lambda o: (o.at, o.alert.key))
    runs = _open_runs(rule, found, members)
    joined: dict[str, str] = {}
    pending: list[_Opened] = []
    for one in found:
        if one.alert.key in members:
            continue
        run = next((r for r in runs if r.first <= one.at <= r.last + rule.within), None)
        if run is not None:
            joined[one.alert.key] = run.key
            run.last = max(run.last, one.at)
            continue
        pending = [o for o in pending if o.at >= one.at - rule.within] + [one]
        if len({o.alert.model for o in pending}) >= rule.models:
            first = pending[0]
            key = f"{rule.key}{uuid5(NAMESPACE, f'{rule.name}|{first.alert.key}|{first.at}')}"
            joined |= {o.alert.key: key for o in pending}
            runs.append(_Run(key, first.at, one.at))
            pending = []
    return joined


def _open_runs(rule: _Rule, found: Sequence[_Opened], members: Mapping[str, str]) -> list[_Run]:
    """Storms of this rule of which a member is open, the first one first."""
    of: dict[str, list[_Opened]] = defaultdict(list)
    for one in found:
        if members.get(one.alert.key, "").startswith(rule.key):
            of[members[one.alert.key]].append(one)
    runs = [
        _Run(key, min(o.at for o in those), max(o.at for o in those))
        for key, those in of.items()
        if any(o.alert.state != "resolved" for o in those)
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
    what = f"{order[0].alert_class.replace('_', ' ')} in {len(models):,} models at once"
    where, began = f"found within {span:,} s: look for what these models share, a feed first", ""
    if broken := _broken(key, members):
        ways = [(broken[0].column, broken[0].rule)]
        what = broken_feeds.change(ways, len(models))
        where = "these models read one column: look at the feed that brings it"
        began = between(min(b.at for b in broken), max(b.at for b in broken))
    return Alert(
        key=key,
        kind="storm",
        state="firing" if firing else "acknowledged" if still else "resolved",
        severity=worst(a.severity for a in still or members),
        alert_class=order[0].alert_class,
        model=None,
        version=None,
        title=one_line(f"{what}: {named}", 300),
        how_bad=f"{len(still):,} of {len(members):,} are open, {paged:,} of them need a person",
        where=where,
        commands=("redistill incidents list", f"redistill incidents ack {key}"),
        opened_at=min(a.opened_at for a in members),
        began=began,
        resolved_at=None if still else max(a.resolved_at or 0 for a in members),
        members=tuple(lines),
    )


def _broken(key: str, members: Sequence[Alert]) -> list[Breakage]:
    """What the members of a broken feed have in common; nothing for another storm."""
    return [
        b
        for alert in members
        for b in alert.breakages
        if key.startswith(FEED) and key.startswith(_feed_rule(b.column, b.rule).key)
    ]
