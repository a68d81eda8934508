"""Slices in the accounting of outcomes: their tests run beside that of the whole model, and say
where its losses lie."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from redistill.streams.monitor import alarm_budget
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.expected_error import ExpectedError
from redistill.streams.monitor.findings import superseded
from redistill.streams.monitor.outcomes import AccuracyState, Outcomes
from redistill.streams.monitor.slice_findings import of_slice, where_and_why
from redistill.streams.monitor.slice_memory import LabelledRows
from redistill.streams.monitor.slice_run import SliceRun
from redistill.streams.monitor.slice_tests import SliceTests
from redistill.streams.wire.events import Contributor, DriftFound

__all__ = ["SliceAccount"]

REPLACED = "what to expect of slices was replaced"


class SliceAccount:
    """The slices' part of one call of ``accuracy.account``.

    Parameters
    ----------
    state
        Of the version; it is changed.
    outcomes
        New ones.
    contributors
        What drifted: it is attached to what opens.
    emit
        Takes the index of an outcome, and the finding that came with it.
    """

    def __init__(
        self,
        state: AccuracyState,
        outcomes: Outcomes,
        config: WatchConfig,
        contributors: Sequence[Contributor],
        emit: Callable[[int, DriftFound], None],
    ) -> None:
        self.state = state
        self.outcomes = outcomes
        self.config = config
        self.contributors = list(contributors)
        self.emit = emit
        self.run: SliceRun | None = None
        self.places = np.zeros(0, np.intp)  # outcomes that feed a test

    def prepare(self, expected: ExpectedError | None) -> None:
        """Follow what is expected of the slices."""
        s = self.state
        if s.slices is not None and (s.slices.expected, s.slices.base) != (expected, s.base):
            for finding in s.slice_findings.values():
                self.emit(0, superseded(finding, self._received(0), why=REPLACED))
            s.slices, s.slice_findings = None, {}
        if s.slices is None and expected is not None and s.base is not None and expected.slices:
            columns = len(expected.columns)
            s.slices = SliceTests(
                expected,
                s.base,
                labels_per_alarm=alarm_budget.slice_tests(self.config, s.share, columns),
                share=s.share,
            )
        if s.slices is not None:
            self.run = SliceRun(s.slices, self._rows(s.slices.expected))

    def _rows(self, expected: ExpectedError) -> LabelledRows:
        """The rows that feed the tests of slices; where they stand goes to ``places``."""
        o = self.outcomes
        n = len(o)
        mu = expected.of(o.slices, o.confidence, rows=n)
        ids = expected.tested(o.slices, rows=n)
        used = np.ones(n, np.bool_) if o.uniform is None else np.asarray(o.uniform, np.bool_)
        asked = np.full(n, -1, np.int8)
        if o.slice_only is not None:
            names = [s.name for s in expected.slices]
            index = [names.index(v) if v in names else -1 for v in o.slice_only.values]
            asked = np.array([*index, -1], np.int8)[o.slice_only.codes]
            asked[~(ids == asked[:, None]).any(axis=1)] = -1  # not in the slice that asked for it
            used = used | (asked >= 0)
        self.places = np.flatnonzero(used)
        rows = LabelledRows(
            o.error.astype(np.uint8), o.served_at, mu.astype(np.float32), ids, asked
        )
        return rows[self.places]

    def take(self, end: int) -> None:
        """Let the tests of slices take the outcomes before ``end``."""
        run, s = self.run, self.state
        if run is None or s.slices is None:
            return
        stop = int(np.searchsorted(self.places, end))
        for c in run.advance(stop, may_open=s.finding is None):
            i = int(self.places[c.position])
            before = s.slice_findings.get(c.index)
            if before is None:
                s.opened += 1
            finding = of_slice(
                c,
                before,
                expected=s.slices.expected,
                config=self.config,
                version=s.version,
                opened=s.opened - 1,
                columns=s.slices.columns,
                share=s.share,
                provisional=s.slices.base.provisional,
                served_at=int(self.outcomes.served_at[i]),
                received_at=self._received(i),
            )
            if before is None:
                finding = dataclasses.replace(finding, contributors=self.contributors)
            if finding.status == "resolved":
                del s.slice_findings[c.index]
            else:
                s.slice_findings[c.index] = finding
            self.emit(i, finding)

    def where(self, n: int) -> tuple[dict[str, Any], str]:
        """Where the loss of the last ``n`` outcomes of the whole model lies, and of what it is."""
        s, run = self.state, self.run
        if s.slices is None or run is None or s.base is None:
            return {}, ""
        rows = s.slices.memory.upto(run.first + run.done)
        rows = rows[rows.random]
        return where_and_why(rows[-n:], s.slices.expected, reference=s.base.rate)

    def restart(self) -> None:
        """The whole model recovered: slices without a finding start again from here."""
        if self.state.slices is not None and self.run is not None:
            self.state.slices.reset(self.run.first + self.run.done)

    def end(self) -> None:
        """Take what is left."""
        self.take(len(self.outcomes))
        if self.run is not None:
            self.run.end()

    def _received(self, i: int) -> int:
        return int(self.outcomes.received_at[i])
