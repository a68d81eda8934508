"""Broken feeds: one column, broken in the same way in several models within minutes. Pure.

Models that read the same column of one feed open an incident each when it breaks; whoever mends it
has one thing to do. Nothing is stored: who belongs together follows from open findings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from redistill.streams.wire import sentences
from redistill.times import MINUTE, microseconds, utc
from redistill.workers.incidents.summary import finding_objects

__all__ = [
    "FEWEST_MODELS",
    "WITHIN_US",
    "Breakage",
    "BrokenFeed",
    "BrokenIncident",
    "breakages",
    "broken_feeds",
    "broken_incident",
    "change",
    "sentence",
    "wholly_in",
]

WITHIN_US = 10 * MINUTE
"""From one model to the next. A model of one row a second needs eight minutes to fill the 500 rows
that its contract is judged on; who is slower than that follows on from others in between."""
FEWEST_MODELS = 2
"""A contract's rule is exceeded by six standard errors: that two models see the same of the same
column within minutes is no chance."""
NAMED = 5
"""Models that a sentence names; the rest are counted."""
RULES = {
    "missing": "has missing values",
    "wrong_type": "has values of a wrong type",
    "out_of_range": "is outside its declared range",
    "unseen_category": "has values that are not declared or were never seen",
    "unit_change": "looks like another unit",
    "constant": "is constant",
}
"""What becomes of a column that breaks a rule of the contract (``streams.monitor.contract``)."""


@dataclass(frozen=True, order=True, slots=True)
class Breakage:
    """A column breaks a rule of a model's contract."""

    column: str
    rule: str
    at: int
    """When that was found, by the times of the rows: microseconds since 1970."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BrokenIncident:
    """An open incident, and what is broken in it."""

    incident_id: str
    model: str
    breakages: Sequence[Breakage]
    nothing_else: bool
    """Whether they are all that is wrong with its data."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BrokenFeed:
    """What several models have in common."""

    columns: tuple[tuple[str, str], ...]
    """Column and rule."""
    since: int
    """When the first model was found broken: microseconds since 1970."""
    members: tuple[BrokenIncident, ...]
    """One or more incidents of each model, by the names of the models."""

    @property
    def models(self) -> list[str]:
        """Their names, each once."""
        return list(dict.fromkeys(member.model for member in self.members))

    def has(self, incident_id: str) -> bool:
        """Whether an incident is one of them."""
        return any(member.incident_id == incident_id for member in self.members)


def breakages(findings: Iterable[Any], *, ended: bool = False) -> tuple[Breakage, ...]:
    """What is broken by the findings of an incident, each column and rule once, as found last.

    Parameters
    ----------
    findings
        Bodies of findings (``streams.wire.events.DriftFound`` as JSON objects). One of another
        shape says nothing.
    ended
        Of findings that are over as well.
    """
    found: dict[tuple[str, str], int] = {}
    for finding in findings:
        try:
            if finding["kind"] == "quality" and (ended or finding["status"] != "resolved"):
                at = microseconds(datetime.fromisoformat(finding["opened_at"]))
                for named in finding["contributors"]:
                    column, rule = named["column"], named["distance"]
                    if isinstance(column, str) and rule in RULES:
                        found[column, rule] = max(at, found.get((column, rule), at))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            continue
    return tuple(sorted(Breakage(column, rule, at) for (column, rule), at in found.items()))


def broken_incident(incident_id: str, model: str, bodies: Sequence[str]) -> BrokenIncident:
    """An incident by the bodies (JSON) of its open findings."""
    findings = finding_objects(bodies)
    bugs = [finding for finding in findings if finding.get("kind") == "quality"]
    return BrokenIncident(
        incident_id=incident_id,
        model=model,
        breakages=breakages(bugs),
        nothing_else=len(findings) == len(bodies) and all(breakages([bug]) for bug in bugs),
    )


def broken_feeds(incidents: Iterable[BrokenIncident]) -> list[BrokenFeed]:
    """What two models or more have in common, the most models first.

    Each is found within ``WITHIN_US`` of the one before. Columns that break in the same incidents
    are one feed; an incident with several columns may belong to several.
    """
    of: dict[tuple[str, str], list[tuple[int, str, str]]] = defaultdict(list)
    known: dict[str, BrokenIncident] = {}
    for incident in incidents:
        known[incident.incident_id] = incident
        for b in incident.breakages:
            of[b.column, b.rule].append((b.at, incident.model, incident.incident_id))
    shared: dict[tuple[str, ...], list[tuple[int, str, str]]] = defaultdict(list)
    for (column, rule), opened in of.items():
        for run in _runs(sorted(opened)):
            if len({model for _, model, _ in run}) >= FEWEST_MODELS:
                ids = tuple(number for _, number in sorted((m, i) for _, m, i in run))
                shared[ids].append((run[0][0], column, rule))
    feeds = [
        BrokenFeed(
            columns=tuple(sorted((column, rule) for _, column, rule in those)),
            since=min(at for at, _, _ in those),
            members=tuple(known[number] for number in ids),
        )
        for ids, those in shared.items()
    ]
    return sorted(feeds, key=lambda feed: (-len(feed.models), feed.since, feed.columns))


def _runs(opened: Sequence[tuple[int, str, str]]) -> list[list[tuple[int, str, str]]]:
    """Divide what was opened, in its order, where nothing was for too long."""
    runs: list[list[tuple[int, str, str]]] = []
    for one in opened:
        if runs and one[0] - runs[-1][-1][0] <= WITHIN_US:
            runs[-1].append(one)
        else:
            runs.append([one])
    return runs


def wholly_in(feeds: Iterable[BrokenFeed]) -> set[str]:
    """Incidents in which nothing else is broken than what some of these feeds say."""
    said: dict[str, set[tuple[str, str]]] = defaultdict(set)
    of: dict[str, BrokenIncident] = {}
    for feed in feeds:
        for member in feed.members:
            of[member.incident_id] = member
            said[member.incident_id] |= set(feed.columns)
    return {
        number
        for number, one in of.items()
        if one.nothing_else and {(b.column, b.rule) for b in one.breakages} <= said[number]
    }


def change(columns: Sequence[tuple[str, str]], models: int) -> str:
    """What is broken, and in how many models.

    Examples
    --------
    >>> change([("income", "missing")], 12)
    'column `income` has missing values in 12 models'
    >>> change([("age", "constant"), ("income", "missing")], 2)
    'column `age` is constant, and 1 more is broken, in 2 models'
    """
    (column, rule), more = columns[0], len(columns) - 1
    others = f", and {more:,} more {'is' if more == 1 else 'are'} broken," if more else ""
    return f"column `{_quoted(column)}` {RULES[rule]}{others} in {models:,} models"


def sentence(feed: BrokenFeed) -> str:
    """A broken feed in one sentence: what, since when, and in which models."""
    models = feed.models
    named, more = ", ".join(map(sentences.name, models[:NAMED])), len(models) - NAMED
    others = f" and {more:,} more" if more > 0 else ""
    since = f"{utc(feed.since):%Y-%m-%d %H:%M} UTC"
    return f"{change(feed.columns, len(models))} since {since}: {named}{others}"


def _quoted(text: str) -> str:
    """A foreign name that stands in backticks."""
    return sentences.name(text).replace("`", "'")
