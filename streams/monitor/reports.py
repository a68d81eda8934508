"""Findings about inputs, put into words and numbers: one function per kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from redistill.stats import clopper_pearson
from redistill.streams.monitor.contract import Breach
from redistill.streams.monitor.findings import finding_id, utc
from redistill.streams.monitor.input_profile import Profile
from redistill.streams.wire.events import (
    Contributor,
    Detector,
    DriftFound,
    FindingKind,
    FindingStatus,
    Impact,
    Severity,
    Statistic,
    Window,
)

SEVERE_SHARE = 0.2
"""A broken contract in more rows than this is critical, else a warning."""
LISTED = 20
"""Columns that a finding about many columns names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where and when the rows were that a finding is about."""

    model: str
    version: str
    partition: tuple[str, int]
    start: int
    """Serving time of the first row, microseconds."""
    end: int
    rows: int
    at: int
    """Event time of the finding."""
    provisional: bool

    @property
    def window(self) -> Window:
        """As the event has it."""
        return Window(start=utc(self.start), end=utc(self.end), rows=self.rows)


def opened(
    place: Place,
    *,
    kind: FindingKind,
    scope: str,
    name: str,
    count: int,
    severity: Severity,
    parameters: dict[str, object],
    statistic: Statistic,
    impact: Impact,
    contributors: Sequence[Contributor],
    reason: str,
) -> DriftFound:
    """A finding that opens; ``count`` were opened under this name and scope before."""
    detector = f"{name}@{place.partition[0]}/{place.partition[1]}"
    return DriftFound(
        finding_id=finding_id(place.model, place.version, kind, detector, scope, count),
        model=place.model,
        version=place.version,
        status="open",
        severity=severity,
        kind=kind,
        scope=scope,
        detector=Detector(name=name, parameters=parameters),
        statistic=statistic,
        window=place.window,
        contributors=list(contributors),
        impact=impact,
        reason=reason,
        provisional=place.provisional,
        opened_at=utc(place.at),
        at=utc(place.at),
    )


def changed(
    found: DriftFound,
    place: Place,
    *,
    status: FindingStatus,
    reason: str,
    resolution: Literal["recovered", "reverted", "superseded"] | None = None,
    statistic: Statistic | None = None,
    impact: Impact | None = None,
    contributors: Sequence[Contributor] | None = None,
) -> DriftFound:
    """The same finding, updated or resolved."""
    return dataclasses.replace(
        found,
        status=status,
        severity="info" if status == "resolved" else found.severity,
        resolution=resolution,
        window=place.window,
        statistic=statistic or found.statistic,
        impact=impact or found.impact,
        contributors=found.contributors if contributors is None else list(contributors),
        reason=reason,
        at=utc(place.at),
        revision=found.revision + 1,
    )


_METRICS = {
    "missing": "missing_rate",
    "wrong_type": "wrong_type_rate",
    "out_of_range": "out_of_range_rate",
    "unseen_category": "unseen_rate",
    "unit_change": "scale_ratio",
    "constant": "constant_rate",
}


def breach_impact(breach: Breach) -> Impact:
    """How large a breach is; whether it does harm only labels can say."""
    low: float | None
    high: float | None
    if breach.rule == "unit_change":
        reference, current, low, high = 1.0, breach.value, None, None
    else:
        low, high = clopper_pearson(breach.hits, breach.rows)
        current = breach.hits / breach.rows
        reference = 0.0 if breach.rule == "constant" else breach.reference
    return Impact(
        metric=_METRICS[breach.rule],
        reference=reference,
        current=current,
        low=low,
        high=high,
        basis="measured",
        n=breach.rows,
        harmful=None,
    )


def breach_statistic(breach: Breach) -> Statistic:
    """The share (or slope) and what it had to exceed."""
    value = 1.0 if breach.rule == "constant" else breach.value
    return Statistic(value=value, threshold=breach.threshold)


def breach_severity(breaches: Sequence[Breach]) -> Severity:
    """Critical where many rows, or a column's meaning, are broken."""
    for b in breaches:
        if b.rule in ("unit_change", "constant") or b.hits / b.rows >= SEVERE_SHARE:
            return "critical"
    return "warning"


def breach_text(breach: Breach, name: str, unseen: Sequence[str] = ()) -> str:
    """One sentence for a person."""
    share, before = f"{breach.value:.1%} of {breach.rows} rows", f"{breach.reference:.1%}"
    if breach.rule == "missing":
        if breach.hits == breach.rows:
            return f"{name} is missing in all of {breach.rows} rows, in {before} of the reference"
        return f"{name} is missing in {share}, in {before} of the reference"
    if breach.rule == "wrong_type":
        return f"{name} has values of a wrong type in {share}"
    if breach.rule == "out_of_range":
        return f"{name} is outside its declared range in {share}"
    if breach.rule == "unseen_category":
        names = f" ({', '.join(repr(u) for u in unseen[:5])})" if unseen else ""
        return f"{name} has values that are not declared or were never seen{names} in {share}"
    if breach.rule == "constant":
        return (
            f"{name} is {breach.value:g} in all of {breach.rows} rows, the reference has"
            f" {breach.reference:g} different values or more"
        )
    return f"{name} looks like another unit: {breach.detail}"


def breach_contributors(breaches: Sequence[Breach], profile: Profile) -> list[Contributor]:
    """The broken columns, worst first."""
    ranked = sorted(breaches, key=lambda b: -b.hits / max(1, b.rows))[:LISTED]
    return [
        Contributor(
            column=profile.columns[b.column].name,
            distance=b.rule,
            value=b.value,
            noise_floor=b.threshold,
        )
        for b in ranked
    ]
