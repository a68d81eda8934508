"""Finding tracker, the third stage of ``observe``: verdicts open, change and end findings, one for
each break and not one for each window. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import msgspec
from msgspec import structs

from redistill.decodable import decodable
from redistill.streams.monitor.contract import Breach
from redistill.streams.monitor.findings import Span
from redistill.streams.monitor.reports import (
    Origin,
    breach_contributors,
    breach_impact,
    breach_severity,
    breach_statistic,
    breach_text,
    changed,
    confidence_impact,
    confidence_text,
    drift_impact,
    drift_text,
    opened,
)
from redistill.streams.monitor.verdicts import (
    ConfidenceFell,
    ConfidenceLevel,
    Drift,
    SubwindowVerdict,
    Verdict,
    WindowVerdict,
)
from redistill.streams.wire.events import Contributor, DriftFound, Statistic

__all__ = ["OpenFinding", "Tracked", "TrackedVerdicts", "track"]

TOGETHER = 5
"""More columns than this that break one rule at once make one finding, not one each."""
QUIET_WINDOWS = {"quality": 2, "input": 3, "prediction": 3}
"""Windows in a row without a break (a drift) that end a finding."""
DRIFTED_WINDOWS = 2
"""Windows in a row in which a column has drifted that open a finding."""
WORSE = 2.0
"""A finding is told again when its share grew by this factor."""
CONFIDENCE = "confidence|adwin|all"
SETTLED_ROWS = 100
"""Rows since ADWIN's last change from which its mean is taken for the new level."""
LISTED = 10
"""Columns that are named."""


@decodable
class OpenFinding(msgspec.Struct, frozen=True, kw_only=True):
    """A finding that has not ended; stored under the names given."""

    finding: DriftFound = msgspec.field(name="found")
    """As last told."""
    columns: tuple[int, ...] = ()
    quiet_windows: int = msgspec.field(default=0, name="calm")
    """Windows in a row without it."""


class Tracked(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What this stage remembers. A value."""

    open: Mapping[str, OpenFinding] = {}
    """Open findings by ``kind|name|scope``."""
    opened: Mapping[str, int] = {}
    """How many findings were opened by ``kind|name|scope``."""
    before: int = 0
    """Numbers that a state before this one, which was lost, may have given to findings."""
    drifted: tuple[Contributor, ...] = ()
    """Contributors in the newest window, those with the largest part in the shift first."""

    def restarted(self) -> Tracked:
        """Without what was seen under another profile; open findings go on until they end."""
        return Tracked(open=self.open, opened=self.opened, before=self.before)


class TrackedVerdicts(msgspec.Struct, frozen=True, eq=False):
    """What this stage hands on."""

    after: Tracked
    findings: list[DriftFound]
    """Findings that opened, changed or ended."""
    rows: list[int]
    """Row of the block at which each was made."""


def track(
    before: Tracked,
    verdicts: Sequence[Verdict],
    *,
    origin: Origin,
    unseen: Mapping[str, Sequence[str]],
) -> TrackedVerdicts:
    """Make findings of verdicts.

    Parameters
    ----------
    before
        What is remembered of the verdicts before; it is not changed.
    verdicts
        In the order of their rows.
    unseen
        Unseen values per category, which a finding about them names.
    """
    if not verdicts:
        return TrackedVerdicts(before, [], [])
    tracker = FindingTracker(before, origin, unseen)
    rows: list[int] = []
    for verdict in verdicts:
        tracker.take(verdict)
        rows += [verdict.row] * (len(tracker.made) - len(rows))
    return TrackedVerdicts(tracker.tracked(), tracker.made, rows)


class FindingTracker:
    """Takes verdicts one by one; the findings made are in ``made``."""

    def __init__(
        self, before: Tracked, origin: Origin, unseen: Mapping[str, Sequence[str]]
    ) -> None:
        self._open = dict(before.open)
        self._opened = dict(before.opened)
        self._before = before.before
        self._drifted = before.drifted
        self._origin = origin
        self._unseen = unseen
        self.made: list[DriftFound] = []

    def tracked(self) -> Tracked:
        """What is to be remembered of all verdicts so far."""
        return Tracked(
            open=self._open, opened=self._opened, before=self._before, drifted=self._drifted
        )

    def take(self, verdict: Verdict) -> None:
        """Follow one verdict."""
        match verdict:
            case ConfidenceFell():
                self._confidence_fell(verdict)
            case ConfidenceLevel():
                self._confidence_level(verdict)
            case SubwindowVerdict():
                self._break(verdict.breaches, verdict.span)
            case WindowVerdict():
                self._window(verdict)

    def _window(self, verdict: WindowVerdict) -> None:
        self._break(verdict.breaches, verdict.span)
        self._follow(verdict)
        clear = [feature for feature in verdict.drifted if feature.clear]
        self._drifted = tuple(feature.contributor for feature in clear[:LISTED])
        for drift in verdict.drifts:
            self._drift(drift, verdict.span)

    # --- open findings ------------------------------------------------------------------------

    def _put(self, key: str, finding: DriftFound, columns: tuple[int, ...] = ()) -> None:
        self._open[key] = OpenFinding(finding=finding, columns=columns)
        self.made.append(finding)

    def _number(self, counter: str) -> int:
        number = self._opened.get(counter, self._before)
        self._opened[counter] = number + 1
        return number

    def _quiet(self, key: str, kind: str, span: Span) -> None:
        """One more window without it; the last of them ends it."""
        known, needed = self._open[key], QUIET_WINDOWS[kind]
        if known.quiet_windows + 1 < needed:
            self._open[key] = structs.replace(known, quiet_windows=known.quiet_windows + 1)
        else:
            self._end(key, span, f"not seen for {needed} windows: {known.finding.reason}")

    def _end(self, key: str, span: Span, reason: str) -> None:
        """End an open finding because what it told has passed."""
        finding = self._open.pop(key).finding
        self.made.append(
            changed(finding, span, status="resolved", resolution="reverted", reason=reason)
        )

    # --- the contract -------------------------------------------------------------------------

    def _break(self, breaches: Sequence[Breach], span: Span) -> None:
        """Open findings for what is broken and was not before."""
        for rule, group in groupby(breaches, key=lambda breach: breach.rule):
            known = {
                column: key
                for key, open_ in self._open.items()
                if key.startswith(f"quality|{rule}|")
                for column in open_.columns
            }
            new = []
            for breach in group:
                if breach.column not in known:
                    new.append(breach)
                elif breach.interval is not None:
                    self._yet_another_unit(known[breach.column], breach, span)
            if len(new) > TOGETHER:
                self._open_breach(new, "all", span)
            else:
                for breach in new:
                    self._open_breach([breach], breach.name, span)

    def _open_breach(self, breaches: Sequence[Breach], scope: str, span: Span) -> None:
        worst = _worst(breaches)
        counter = key = f"quality|{worst.rule}|{scope}"
        while key in self._open:  # another group of columns broke the same rule before
            key += "+"
        self._put(
            key,
            opened(
                self._origin,
                span,
                kind="quality",
                scope=scope,
                name=f"contract.{worst.rule}",
                count=self._number(counter),
                severity=breach_severity(breaches),
                parameters={"rule": worst.rule},
                statistic=breach_statistic(worst),
                impact=breach_impact(worst),
                contributors=breach_contributors(breaches),
                reason=self._breach_text(breaches),
            ),
            tuple(breach.column for breach in breaches),
        )

    def _yet_another_unit(self, key: str, breach: Breach, span: Span) -> None:
        """Tell a finding again whose column now has a unit that is neither the usual one nor the
        one told."""
        known = self._open[key]
        low, high = breach.interval or (0.0, 0.0)
        told = known.finding.impact
        if len(known.columns) > 1 or (
            told.low is not None and told.high is not None and low <= told.high and told.low <= high
        ):
            return
        self._put(
            key,
            changed(
                known.finding,
                span,
                status="update",
                reason=self._breach_text([breach]),
                statistic=breach_statistic(breach),
                impact=breach_impact(breach),
                contributors=breach_contributors([breach]),
            ),
            known.columns,
        )

    def _breach_text(self, breaches: Sequence[Breach]) -> str:
        worst = _worst(breaches)
        text = breach_text(worst, self._unseen.get(worst.name, ()))
        return text if len(breaches) == 1 else f"{len(breaches)} columns at once, the worst: {text}"

    def _follow(self, verdict: WindowVerdict) -> None:
        """End what has not been seen for two windows, tell what became much worse."""
        lasting = {breach.key: breach for breach in (*verdict.lasting, *verdict.breaches)}
        for key in [key for key in self._open if key.startswith("quality|")]:
            known, rule = self._open[key], key.split("|")[1]
            still = [lasting[k] for j in known.columns if (k := f"{rule}|{j}") in lasting]
            if not still:
                self._quiet(key, "quality", verdict.span)
                continue
            finding, worst = known.finding, _worst(still)
            worse = worst.value >= WORSE * finding.statistic.value
            if worse and rule not in ("unit_change", "constant"):
                finding = changed(
                    finding,
                    verdict.span,
                    status="update",
                    reason=self._breach_text(still),
                    statistic=breach_statistic(worst),
                    impact=breach_impact(worst),
                    contributors=breach_contributors(still),
                )
                self.made.append(finding)
            self._open[key] = OpenFinding(finding=finding, columns=known.columns)

    # --- drift --------------------------------------------------------------------------------

    def _drift(self, drift: Drift, span: Span) -> None:
        """One finding for all columns of a kind that drifted; opens late and ends late."""
        key = f"{drift.kind}|psi|all"
        if key in self._open:
            if all(column.near for column in drift.columns):
                self._quiet(key, drift.kind, span)
            else:
                self._open[key] = OpenFinding(finding=self._open[key].finding)
        elif drift.windows >= DRIFTED_WINDOWS:
            worst = drift.far[0]
            self._put(
                key,
                opened(
                    self._origin,
                    span,
                    kind=drift.kind,
                    scope="all",
                    name="psi",
                    count=self._number(key),
                    severity="info",
                    parameters={"windows": DRIFTED_WINDOWS, "bins": drift.bins},
                    statistic=Statistic(value=worst.psi, threshold=worst.threshold),
                    impact=drift_impact(worst.psi, span.rows),
                    contributors=[column.contributor for column in drift.far[:LISTED]],
                    reason=drift_text([c.column.name for c in drift.far], len(drift.columns)),
                ),
            )

    # --- confidence ---------------------------------------------------------------------------

    def _confidence_fell(self, fall: ConfidenceFell) -> None:
        if CONFIDENCE in self._open:
            return
        self._put(
            CONFIDENCE,
            opened(
                self._origin,
                fall.span,
                kind="confidence",
                scope="all",
                name="adwin",
                count=self._number(CONFIDENCE),
                severity="info",
                parameters={"delta": fall.delta},
                statistic=Statistic(value=fall.before - fall.now, threshold=0.0),
                impact=confidence_impact(fall.before, fall.now, fall.width),
                contributors=self._drifted,
                reason=confidence_text(fall.before, fall.now, settled=False),
            ),
        )

    def _confidence_level(self, verdict: ConfidenceLevel) -> None:
        """End the finding, or tell how far the confidence fell."""
        known = self._open.get(CONFIDENCE)
        if known is None or verdict.width < SETTLED_ROWS:
            return
        impact, level = known.finding.impact, verdict.level
        usual, told = impact.reference or 0.0, impact.current or 0.0
        if level >= usual - (usual - told) / 4:
            self._end(CONFIDENCE, verdict.span, f"confidence is back at {level:.3f}")
        elif abs(level - told) > (usual - told) / 2:
            self._put(
                CONFIDENCE,
                changed(
                    known.finding,
                    verdict.span,
                    status="update",
                    reason=confidence_text(usual, level, settled=True),
                    statistic=Statistic(value=usual - level, threshold=0.0),
                    impact=confidence_impact(usual, level, verdict.width),
                    contributors=self._drifted,
                ),
            )


def _worst(breaches: Sequence[Breach]) -> Breach:
    return max(breaches, key=lambda breach: breach.hits / max(1, breach.rows))
