"""Accuracy as measured: from labelled outcomes to findings of harm.

``account`` is pure: the same outcomes in the same order give the same findings, however they were
cut into calls.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redistill.stats import clopper_pearson
from redistill.streams.monitor import alarm_budget
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.expected_error import ExpectedError
from redistill.streams.monitor.findings import finding_id
from redistill.streams.monitor.harm import HarmChange, HarmTest
from redistill.streams.monitor.memory import Memory
from redistill.streams.monitor.outcomes import AccuracyState, Outcomes
from redistill.streams.monitor.slice_accounting import SliceAccount
from redistill.streams.wire import sentences
from redistill.streams.wire.events import (
    ChangePoint,
    Contributor,
    Detector,
    DriftFound,
    Impact,
    Statistic,
    Window,
)
from redistill.times import microseconds, utc

__all__ = ["SMALLEST_BASE", "account"]

LEARNING_OUTCOMES = 1_000
"""Outcomes from which a version without a base error learns one."""
SMALLEST_BASE = 100
"""A base error of fewer rows is not believed; the version learns one from its own outcomes
instead."""
SETTLED_OUTCOMES = 100
"""Outcomes after which the label share is known well enough to freeze the threshold."""


def account(
    state: AccuracyState | None,
    outcomes: Outcomes,
    *,
    version: str,
    base: BaseError | None,
    config: WatchConfig,
    expected: ExpectedError | None = None,
    label_share: float | None = None,
    contributors: Sequence[Contributor] = (),
) -> tuple[AccuracyState, list[DriftFound], list[int]]:
    """Take new outcomes of one version into account.

    Parameters
    ----------
    state
        What the last call returned; ``None`` at first. It is not changed.
    outcomes
        New outcomes, in the order of their numbers.
    version
        The version that made the predictions.
    base
        Its base error; ``None`` (or fewer than 100 rows): the first 1,000 outcomes make a
        provisional one, and until then River's ADWIN may open a finding that does not say whether
        it is harmful.
    expected
        What errors to expect of which rows, by slices and confidence; with a base error it makes a
        test per slice. ``None``: slices are not told apart.
    label_share
        Labels per served row, as known before these outcomes; ``None``: as if every row had one,
        which is slower.
    contributors
        What drifted in the newest closed windows (``observe.contributors``): it is attached to
        what opens.

    Returns
    -------
    tuple
        The new state; what opened, changed or ended; and with which outcome each of these came, as
        an index into ``outcomes``.
    """
    s = state.copy() if state is not None else AccuracyState(version=version)
    run = _Run(s, outcomes, config, contributors)
    run.prepare(base, expected, label_share)
    run.all()
    return s, run.findings, run.positions


class _Run:
    """One call of ``account`` on a state of its own."""

    def __init__(
        self,
        state: AccuracyState,
        outcomes: Outcomes,
        config: WatchConfig,
        contributors: Sequence[Contributor],
    ) -> None:
        self.state = state
        self.outcomes = outcomes
        self.config = config
        self.contributors = list(contributors)
        self.findings: list[DriftFound] = []
        self.positions: list[int] = []
        self.slices = SliceAccount(state, outcomes, config, self.contributors, self._emit)

    def prepare(
        self, base: BaseError | None, expected: ExpectedError | None, label_share: float | None
    ) -> None:
        """Follow the label share, the base error and the settings."""
        s = self.state
        if label_share is not None:
            self._share(min(max(label_share, 1e-4), 1.0))
        if not len(self.outcomes):
            return
        if base is not None and base.n >= SMALLEST_BASE and base != s.base:
            self._start_again(base, "the base error was replaced")
        elif s.base is not None and s.test is not None and self._retold(s.test):
            self._start_again(s.base, "tolerance or strictness was changed")
        known = base is not None and base.n >= SMALLEST_BASE
        self.slices.prepare(expected if known else None)

    def _retold(self, test: HarmTest) -> bool:
        """Whether the settings are no longer those of the test."""
        c = self.config
        return (test.tolerance, test.strictness) != (c.tolerance_points / 100, c.strictness)

    def _start_again(self, base: BaseError, why: str) -> None:
        s = self.state
        if s.finding is not None:
            self._end(s.finding, "superseded", 0, why)
        before = s.test or s.learning
        s.base, s.test, s.learning = base, self._new_test(base), Memory()
        s.test.follow(before)

    def _share(self, share: float) -> None:
        """Follow the label share: freely until it is settled, then only when it doubled or
        halved."""
        s = self.state
        ratio = share / s.share
        if s.settled:
            if 0.5 < ratio < 2:
                return
            s.share = share
            if s.test:
                s.test.retune(share=share)
            if s.slices:
                s.slices.retune(share=share)
            return
        s.share = share
        s.settled = s.uniform_n >= SETTLED_OUTCOMES
        if ratio == 1:
            return
        if s.test:
            labels = alarm_budget.whole_model(self.config, share)
            s.test.retune(labels_per_alarm=labels, share=share)
        if s.slices:
            labels = alarm_budget.slice_tests(self.config, share, s.slices.columns)
            s.slices.retune(labels_per_alarm=labels, share=share)

    def _new_test(self, base: BaseError) -> HarmTest:
        return HarmTest(
            base,
            tolerance=self.config.tolerance_points / 100,
            labels_per_alarm=alarm_budget.whole_model(self.config, self.state.share),
            strictness=self.config.strictness,
            share=self.state.share,
        )

    def all(self) -> None:
        """Take all outcomes, one by one."""
        o, s = self.outcomes, self.state
        uniform = None if o.uniform is None else o.uniform.tolist()
        served = o.served_at.tolist()
        dense = self._dense().tolist()
        for i, e in enumerate(o.error.tolist()):
            s.n += 1
            s.errors += e
            if uniform is not None and not uniform[i]:
                continue
            s.uniform_n += 1
            if s.test is None:
                self._learn(e, served[i], i)
                continue
            change = s.test.update(e, served[i], dense=dense[i])
            if change is not None:
                self.slices.take(i + 1)
                self._changed(change, i)
        self.slices.end()

    def _dense(self) -> NDArray[np.bool_]:
        """Rows drawn with a probability nearer to 1 than to the label share: their neighbours have
        labels, too."""
        p = self.outcomes.p_include
        if p is None:
            return np.zeros(len(self.outcomes), np.bool_)
        return np.asarray(p > (1 + self.state.share) / 2)

    def _received(self, i: int) -> int:
        return int(self.outcomes.received_at[i])

    def _learn(self, error: int, at: int, i: int) -> None:
        from redistill.streams.monitor.detectors import error_changes

        s = self.state
        memory = s.learning
        memory.append(error, at)
        n = len(memory)
        for _, before, now, width in error_changes(memory.errors, n - 1, self.config.error_delta):
            if now > before and s.finding is None:
                self._adwin_opened(before, now, width, i)
            elif s.finding is not None and now < before:
                self._end(s.finding, "reverted", i, f"error back to {now:.1%}")
        if n < LEARNING_OUTCOMES:
            return
        errors = np.array(memory.errors)
        if s.finding is not None:
            start = memory.times.index(microseconds(s.finding.window.start))
            self._end(s.finding, "superseded", i, "a base error is known from now on")
            if start >= SMALLEST_BASE:
                errors = errors[:start]
        times = np.array(memory.times[: len(errors)], np.int64)
        s.base = BaseError.from_errors(errors, provisional=True, times=times)
        s.learning = Memory()
        s.test = self._new_test(s.base)
        s.test.follow(memory)

    def _adwin_opened(self, before: float, now: float, width: int, i: int) -> None:
        memory = self.state.learning
        low, high = clopper_pearson(round((1 - now) * width), width)
        start = utc(memory.times[-width])
        self._open(
            i,
            DriftFound(
                finding_id=self._next_id("adwin"),
                model=self.config.model,
                version=self.state.version,
                status="open",
                severity="info",
                kind="accuracy",
                detector=Detector(name="adwin", parameters={"delta": self.config.error_delta}),
                statistic=Statistic(value=now - before, threshold=0.0),
                change_point=ChangePoint(low=start, high=start),
                window=Window(start=start, end=utc(memory.times[-1]), rows=width, labelled=width),
                contributors=self.contributors,
                impact=Impact(
                    metric="accuracy",
                    reference=1 - before,
                    current=1 - now,
                    low=low,
                    high=high,
                    basis="measured",
                    n=width,
                    harmful=None,
                ),
                reason=(
                    sentences.loss(before, now, (1 - high, 1 - low), width, _when(start))
                    + "; no base error is known yet, so whether that is harm is not known"
                ),
                provisional=True,
                opened_at=utc(self._received(i)),
                at=utc(self._received(i)),
            ),
        )

    def _next_id(self, detector: str) -> Any:
        s = self.state
        s.opened += 1
        return finding_id(self.config.model, s.version, "accuracy", detector, "all", s.opened - 1)

    def _open(self, i: int, finding: DriftFound) -> None:
        self.state.finding = finding
        self._emit(i, finding)

    def _emit(self, i: int, finding: DriftFound) -> None:
        self.findings.append(finding)
        self.positions.append(i)

    def _end(self, finding: DriftFound, resolution: Any, i: int, why: str) -> None:
        self._emit(
            i,
            dataclasses.replace(
                finding,
                status="resolved",
                resolution=resolution,
                severity="info",
                revision=finding.revision + 1,
                at=utc(self._received(i)),
                reason=why,
            ),
        )
        self.state.finding = None

    def _changed(self, change: HarmChange, i: int) -> None:
        s, base = self.state, self.state.base
        if base is None:  # a test never runs without one
            return
        at = utc(self._received(i))
        low, high = clopper_pearson(change.n - change.errors, change.n)
        ended = change.status == "resolved"
        impact = Impact(
            metric="accuracy",
            reference=1 - base.rate,
            current=1 - change.rate,
            low=low,
            high=high,
            basis="measured",
            n=change.n,
            harmful=True,
        )
        detector = Detector(
            name="shiryaev_roberts",
            parameters={
                "test": change.test,
                "null": change.null,
                "tolerance_points": self.config.tolerance_points,
                "strictness": self.config.strictness,
                "label_share": s.share,
            },
        )
        statistic = Statistic(value=change.value, threshold=change.threshold)
        window = Window(
            start=utc(change.low),
            end=utc(int(self.outcomes.served_at[i])),
            rows=round(change.n / s.share),
            labelled=change.n,
        )
        bounds = (1 - high, 1 - low)
        text = sentences.loss(base.rate, change.rate, bounds, change.n, _when(utc(change.high)))
        where, words = ({}, "") if ended else self.slices.where(change.n)
        if words:
            text = f"{text}; {words}"
        if s.finding is None:
            self._open(
                i,
                DriftFound(
                    finding_id=self._next_id("harm"),
                    model=self.config.model,
                    version=s.version,
                    status="open",
                    severity="critical",
                    kind="accuracy",
                    detector=detector,
                    statistic=statistic,
                    change_point=ChangePoint(low=utc(change.low), high=utc(change.high)),
                    window=window,
                    contributors=self.contributors,
                    impact=impact,
                    reason=text,
                    provisional=base.provisional,
                    opened_at=at,
                    at=at,
                    **where,
                ),
            )
            return
        finding = dataclasses.replace(
            s.finding,
            status=change.status,
            severity="info" if ended else "critical",
            detector=detector,
            statistic=statistic,
            window=window,
            impact=impact,
            **where,
            contributors=self.contributors or s.finding.contributors,
            revision=s.finding.revision + 1,
            at=at,
            resolution="recovered" if ended else None,
            reason=(
                sentences.recovery(base.rate, change.rate, bounds, change.n) if ended else text
            ),
        )
        s.finding = None if ended else finding
        if ended:
            s.settled = False
            self.slices.restart()
        self._emit(i, finding)


def _when(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M:%S UTC")
