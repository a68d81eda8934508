"""Findings about inputs that open, change and end: one alarm per break, not one per window."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from redistill.streams.monitor.contract import PANES_NEEDED, Breach, breaches
from redistill.streams.monitor.counts import Counts
from redistill.streams.monitor.drifted_features import Moved, moved_columns
from redistill.streams.monitor.input_profile import Profile
from redistill.streams.monitor.reports import (
    Place,
    breach_contributors,
    breach_impact,
    breach_severity,
    breach_statistic,
    breach_text,
    changed,
    opened,
)
from redistill.streams.monitor.state import InputState, OpenFinding
from redistill.streams.monitor.units import STEP_PANES
from redistill.streams.wire.events import DriftFound, FindingKind, Impact, Statistic

TOGETHER = 5
"""More columns than this that break one rule at once make one finding, not one each."""
CALM_WINDOWS = {"quality": 2, "input": 3, "prediction": 3}
"""Windows in a row without a break (a move) that end a finding."""
MOVED_WINDOWS = 2
"""Windows in a row in which a column has moved that open a finding."""
WORSE = 2.0
"""A finding is told again when its share grew by this factor."""
CONFIDENCE = "confidence|adwin|all"
SETTLED_ROWS = 100
"""Rows since ADWIN's last change from which its mean is taken for the new level."""


class Desk:
    """Writes down what happens to the open findings of one state; the findings made are in
    ``made``."""

    def __init__(self, state: InputState, profile: Profile | None) -> None:
        self.state = state
        self.profile = profile
        self.made: list[DriftFound] = []

    # --- the contract -----------------------------------------------------------------------------

    def pane_closed(
        self, profile: Profile, pane: Counts, shape: NDArray[np.float64], calm: bool, place: Place
    ) -> None:
        """Look for what is blatant in the last 500 rows.

        Parameters
        ----------
        shape
            The pane's ``quartiles``.
        calm
            It is known that no rule is broken.
        """
        s = self.state
        s.shapes = (*s.shapes[1 - STEP_PANES :], shape)
        if calm:
            s.streaks = {}
            return
        found = breaches(pane, profile, whole_window=False, history=s.shapes)
        streaks = {
            f"{b.rule}|{b.column}": s.streaks.get(f"{b.rule}|{b.column}", 0) + 1 for b in found
        }
        s.streaks = streaks
        self._break(
            profile,
            [b for b in found if streaks[f"{b.rule}|{b.column}"] >= PANES_NEEDED.get(b.rule, 1)],
            place,
        )

    def window_closed(self, profile: Profile, whole: Counts, place: Place) -> list[Moved]:
        """Look at a whole window: smaller breaks, what has ended, what moved."""
        found = breaches(whole, profile, whole_window=True)
        self._break(profile, found, place)
        self._mend(profile, whole, found, place)
        moved = moved_columns(whole, profile)
        self.state.moved = tuple(m.contributor(profile) for m in moved[:10] if m.ratio > 1)
        features = len(profile.columns) - 2
        self._drift(profile, "input", [m for m in moved if m.column < features], place)
        self._drift(profile, "prediction", [m for m in moved if m.column >= features], place)
        return moved

    def _broken(self, rule: str) -> set[int]:
        """Columns with an open finding under a rule."""
        return {
            j
            for key, f in self.state.open.items()
            if key.startswith(f"quality|{rule}|")
            for j in f.columns
        }

    def _break(self, profile: Profile, found: list[Breach], place: Place) -> None:
        by_rule: dict[str, list[Breach]] = {}
        for b in found:
            if b.column not in self._broken(b.rule):
                by_rule.setdefault(b.rule, []).append(b)
        for rule, new in by_rule.items():
            if len(new) > TOGETHER:
                self._open_breach(profile, rule, new, "all", place)
            else:
                for b in new:
                    self._open_breach(profile, rule, [b], profile.columns[b.column].name, place)

    def _open_breach(
        self, profile: Profile, rule: str, new: list[Breach], scope: str, place: Place
    ) -> None:
        worst = max(new, key=lambda b: b.hits / max(1, b.rows))
        text = self._breach_text(profile, new, worst)
        key = f"quality|{rule}|{scope}"
        while key in self.state.open:  # another group of columns broke the same rule before
            key += "+"
        number = self._number(f"quality|{rule}|{scope}")
        self._put(
            key,
            opened(
                place,
                kind="quality",
                scope=scope,
                name=f"contract.{rule}",
                count=number,
                severity=breach_severity(new),
                parameters={"rule": rule},
                statistic=breach_statistic(worst),
                impact=breach_impact(worst),
                contributors=breach_contributors(new, profile),
                reason=text,
            ),
            tuple(b.column for b in new),
        )

    def _breach_text(self, profile: Profile, new: Sequence[Breach], worst: Breach) -> str:
        name = profile.columns[worst.column].name
        text = breach_text(worst, name, self.state.unseen.get(name, ()))
        return text if len(new) == 1 else f"{len(new)} columns at once, the worst: {text}"

    def _number(self, counter: str) -> int:
        number = self.state.opened.get(counter, 0)
        self.state.opened[counter] = number + 1
        return number

    def _put(self, key: str, found: DriftFound, columns: tuple[int, ...]) -> None:
        self.state.open[key] = OpenFinding(found=found, columns=columns)
        self.made.append(found)

    def _mend(self, profile: Profile, whole: Counts, found: list[Breach], place: Place) -> None:
        """End what has not been seen for two windows, tell what became much worse."""
        s = self.state
        still = [f for f in s.open if f.startswith("quality|")]
        if not still:
            return
        lenient = {
            (b.rule, b.column): b for b in breaches(whole, profile, whole_window=True, lenient=True)
        }
        lenient.update({(b.rule, b.column): b for b in found})
        for key in still:
            open_ = s.open[key]
            rule = key.split("|")[1]
            now = [b for j in open_.columns if (b := lenient.get((rule, j))) is not None]  # type: ignore[arg-type]
            if not now:
                self._calm(key, open_, CALM_WINDOWS["quality"], place)
                continue
            worst = max(now, key=lambda b: b.hits / max(1, b.rows))
            found_ = open_.found
            before = found_.statistic.value
            if rule not in ("unit_change", "constant") and worst.value >= WORSE * before:
                found_ = changed(
                    found_,
                    place,
                    status="update",
                    reason=self._breach_text(profile, now, worst),
                    statistic=breach_statistic(worst),
                    impact=breach_impact(worst),
                    contributors=breach_contributors(now, profile),
                )
                self.made.append(found_)
            s.open[key] = OpenFinding(found=found_, columns=open_.columns)

    def _calm(self, key: str, open_: OpenFinding, needed: int, place: Place) -> None:
        """One more window without it; the last of them ends it."""
        if open_.calm + 1 < needed:
            self.state.open[key] = OpenFinding(
                found=open_.found, columns=open_.columns, calm=open_.calm + 1
            )
            return
        self.end(key, place, f"not seen for {needed} windows: {open_.found.reason}")

    def end(self, key: str, place: Place, reason: str) -> None:
        """End an open finding because what it told has passed."""
        found = self.state.open.pop(key).found
        self.made.append(
            changed(found, place, status="resolved", resolution="reverted", reason=reason)
        )

    # --- distances --------------------------------------------------------------------------------

    def _drift(self, profile: Profile, kind: FindingKind, moved: list[Moved], place: Place) -> None:
        """One finding for all columns of a kind that moved; opens late and ends late."""
        s = self.state
        key = f"{kind}|psi|all"
        far = [m for m in moved if m.far]
        s.moving[kind] = s.moving.get(kind, 0) + 1 if far else 0
        if key in s.open:
            if all(m.near for m in moved):
                self._calm(key, s.open[key], CALM_WINDOWS[kind], place)
            else:
                s.open[key] = OpenFinding(found=s.open[key].found)
        elif s.moving[kind] >= MOVED_WINDOWS:
            listed = [m.contributor(profile) for m in far[:10]]
            names = ", ".join(c.column for c in listed[:3]) + (" ..." if len(far) > 3 else "")
            self._put(
                key,
                opened(
                    place,
                    kind=kind,
                    scope="all",
                    name="psi",
                    count=self._number(key),
                    severity="info",
                    parameters={"windows": MOVED_WINDOWS, "bins": int(profile.bins.sizes.max())},
                    statistic=Statistic(value=far[0].psi, threshold=max(0.25, 5 * far[0].floor)),
                    impact=_unknown("psi", far[0].psi, place.rows),
                    contributors=listed,
                    reason=f"{len(far)} of {len(moved)} columns moved: {names};"
                    " that alone says nothing about accuracy",
                ),
                (),
            )

    # --- confidence -------------------------------------------------------------------------------

    def confidence_changed(
        self, before: float, now: float, width: int, delta: float, place: Place
    ) -> None:
        """ADWIN saw the confidence change in the row at ``place``; a fall opens a finding."""
        if CONFIDENCE in self.state.open or now >= before:
            return
        self._put(
            CONFIDENCE,
            opened(
                place,
                kind="confidence",
                scope="all",
                name="adwin",
                count=self._number(CONFIDENCE),
                severity="info",
                parameters={"delta": delta},
                statistic=Statistic(value=before - now, threshold=0.0),
                impact=_confidence(before, now, width),
                contributors=self.state.moved,
                reason=f"confidence is falling, from {before:.3f} to {now:.3f} so far:"
                " labels would tell whether that is harm",
            ),
            (),
        )

    def confidence_now(self, level: float, width: int, place: Place) -> None:
        """The confidence since ADWIN's last change, at the end of a pane: ends a finding, or tells
        how far it fell."""
        open_ = self.state.open.get(CONFIDENCE)
        if open_ is None or width < SETTLED_ROWS:
            return
        impact = open_.found.impact
        usual, told = impact.reference or 0.0, impact.current or 0.0
        if level >= usual - (usual - told) / 4:
            self.end(CONFIDENCE, place, f"confidence is back at {level:.3f}")
        elif abs(level - told) > (usual - told) / 2:
            found = changed(
                open_.found,
                place,
                status="update",
                reason=f"confidence fell from {usual:.3f} to {level:.3f}:"
                " labels would tell whether that is harm",
                statistic=Statistic(value=usual - level, threshold=0.0),
                impact=_confidence(usual, level, width),
                contributors=self.state.moved,
            )
            self.state.open[CONFIDENCE] = OpenFinding(found=found)
            self.made.append(found)


def _confidence(before: float, now: float, n: int) -> Impact:
    return Impact(
        metric="confidence",
        reference=before,
        current=now,
        low=None,
        high=None,
        basis="measured",
        n=n,
        harmful=None,
    )


def _unknown(metric: str, value: float, n: int) -> Impact:
    return Impact(
        metric=metric,
        reference=None,
        current=value,
        low=None,
        high=None,
        basis="measured",
        n=n,
        harmful=None,
    )
