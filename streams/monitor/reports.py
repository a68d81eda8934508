"""Reports of findings about inputs: how they are put into words and numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import msgspec

from redistill.stats import clopper_pearson
from redistill.streams.monitor.contract import Breach
from redistill.streams.monitor.findings import Span, finding_id
from redistill.streams.wire.events import (
    Contributor,
    Detector,
    DriftFound,
    FindingKind,
    FindingStatus,
    Impact,
    Severity,
    Statistic,
)

__all__ = [
    "LISTED",
    "Origin",
    "breach_contributors",
    "breach_impact",
    "breach_severity",
    "breach_statistic",
    "breach_text",
    "changed",
    "confidence_impact",
    "confidence_text",
    "drift_impact",
    "drift_text",
    "opened",
]

SEVERE_SHARE = 0.2
"""A broken contract in more rows than this is critical, else a warning."""
LISTED = 20
"""Columns that a finding about many columns names."""


class Origin(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Whose rows findings are about."""

    model: str
    version: str
    partition: tuple[str, int]
    provisional: bool
    """Nobody vouched for the profile, or there is none."""


def opened(
    origin: Origin,
    span: Span,
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
    detector = f"{name}@{origin.partition[0]}/{origin.partition[1]}"
    window = span.window
    return DriftFound(
        finding_id=finding_id(origin.model, origin.version, kind, detector, scope, count),
        model=origin.model,
        version=origin.version,
        status="open",
        severity=severity,
        kind=kind,
        scope=scope,
        detector=Detector(name=name, parameters=parameters),
        statistic=statistic,
        window=window,
        contributors=list(contributors),
        impact=impact,
        reason=reason,
        provisional=origin.provisional,
        opened_at=window.end,
        at=window.end,
    )


def changed(
    finding: DriftFound,
    span: Span,
    *,
    status: FindingStatus,
    reason: str,
    resolution: Literal["recovered", "reverted", "superseded"] | None = None,
    statistic: Statistic | None = None,
    impact: Impact | None = None,
    contributors: Sequence[Contributor] | None = None,
) -> DriftFound:
    """The same finding, updated or resolved."""
    window = span.window
    return dataclasses.replace(
        finding,
        status=status,
        severity="info" if status == "resolved" else finding.severity,
        resolution=resolution,
        window=window,
        statistic=statistic or finding.statistic,
        impact=impact or finding.impact,
        contributors=finding.contributors if contributors is None else list(contributors),
        reason=reason,
        at=window.end,
        revision=finding.revision + 1,
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
    reference: float
    current: float | None
    if breach.rule == "unit_change":
        reference, current = 1.0, None if breach.interval is None else breach.value
        low, high = breach.interval or (None, None)
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


def breach_text(breach: Breach, unseen: Sequence[str] = ()) -> str:
    """One sentence for a person."""
    name = breach.name
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


def breach_contributors(breaches: Sequence[Breach]) -> list[Contributor]:
    """The broken columns, worst first."""
    ranked = sorted(breaches, key=lambda b: -b.hits / max(1, b.rows))[:LISTED]
    return [
        Contributor(
            column=b.name,
            distance=b.rule,
            value=b.value,
            noise_floor=b.threshold,
        )
        for b in ranked
    ]


def drift_impact(psi: float, rows: int) -> Impact:
    """How far the inputs are from the reference, which alone says nothing about accuracy."""
    return _measured("psi", None, psi, rows)


def drift_text(drifted: Sequence[str], compared: int) -> str:
    """One sentence for a person; the columns that drifted most come first."""
    names = ", ".join(drifted[:3]) + (" ..." if len(drifted) > 3 else "")
    return (
        f"{len(drifted)} of {compared} columns moved: {names};"
        " that alone says nothing about accuracy"
    )


def confidence_impact(before: float, now: float, rows: int) -> Impact:
    """How far the confidence fell; whether that is harm only labels can say."""
    return _measured("confidence", before, now, rows)


def confidence_text(before: float, now: float, *, settled: bool) -> str:
    """One sentence for a person; until it has ``settled`` the confidence goes on falling."""
    change = f"fell from {before:.3f} to {now:.3f}"
    if not settled:
        change = f"is falling, from {before:.3f} to {now:.3f} so far"
    return f"confidence {change}: labels would tell whether that is harm"


def _measured(metric: str, reference: float | None, current: float, rows: int) -> Impact:
    return Impact(
        metric=metric,
        reference=reference,
        current=current,
        low=None,
        high=None,
        basis="measured",
        n=rows,
        harmful=None,
    )
