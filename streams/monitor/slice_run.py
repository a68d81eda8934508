"""Run of new labelled rows through the tests of slices: what opens, changes or ends at which row,
in the order of the rows."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redistill.streams.monitor.harm import EVER, HarmChange, HarmTest
from redistill.streams.monitor.slice_memory import LabelledRows
from redistill.streams.monitor.slice_tests import SliceTests

__all__ = ["SliceChange", "SliceRun"]


@dataclass(frozen=True, slots=True)
class SliceChange:
    """A slice's finding opened, changed or ended."""

    position: int
    """Of the row that brought it about, in the rows of the call."""
    index: int
    """Of the slice, in ``ExpectedError.slices``."""
    expected: float
    """Error that was expected of the slice's rows since the change."""
    change: HarmChange
    localised: bool
    """Whether the slice is where the harm is; else it is everywhere, or not localised yet."""


class SliceRun:
    """New rows of one call on their way through the tests."""

    def __init__(self, tests: SliceTests, rows: LabelledRows) -> None:
        self.tests = tests
        self.rows = rows
        self.first = tests.memory.total
        tests.memory = tests.memory.with_rows(rows)
        self.done = 0
        ids = rows.tested.T.reshape(-1)
        order = np.argsort(ids, kind="stable")
        bounds = np.searchsorted(ids[order], np.arange(len(tests.seen) + 1))
        self.places = order % max(len(rows), 1)  # by slice, then in the order of the rows
        self.bounds = bounds.tolist()

    def advance(self, end: int, *, may_open: bool) -> list[SliceChange]:
        """Take the rows before ``end``.

        Parameters
        ----------
        may_open
            Not while a finding of the whole model is open: it says which slices are worst, and the
            tests of slices without a finding rest.
        """
        if end <= self.done:
            return []
        found: list[SliceChange] = []
        waiting: dict[int, NDArray[np.intp]] = {}
        events: list[tuple[int, int, HarmChange | None]] = []
        whole = self.done == 0 and end == len(self.rows)
        for s in range(len(self.bounds) - 1):
            where = self.places[self.bounds[s] : self.bounds[s + 1]]
            if not whole:
                where = where[np.searchsorted(where, self.done) : np.searchsorted(where, end)]
            if len(where):
                waiting[s] = where
        self.done = end
        tests = self.tests
        step = self._stepper(waiting, events, may_open)
        step(list(waiting))
        while events:
            place, s, change = heapq.heappop(events)
            if change is None:
                opened = tests.look(s, self.first + place)
                if opened is not None:
                    tests.open[s], change, tests.levels[s] = opened
                    tests.restart(s, self.first + place + 1)
            elif change.status == "update":
                tests.localise(s, self.first + place)
            if change is not None:
                localised = s not in tests.unlocalised
                found.append(SliceChange(place, s, tests.levels[s], change, localised))
                if change.status == "resolved":
                    tests.unlocalised.discard(s)
                    tests.begin[s] = tests.open.pop(s).begin
                    del tests.levels[s]
                    tests.restart(s, self.first + place + 1)
            step([s])
        return found

    def _stepper(
        self,
        waiting: dict[int, NDArray[np.intp]],
        events: list[tuple[int, int, HarmChange | None]],
        may_open: bool,
    ) -> Callable[[list[int]], None]:
        """Takes slices' rows up to the next event of each."""
        tests, rows = self.tests, self.rows

        def watched(s: int, test: HarmTest) -> None:
            where = waiting.pop(s)
            for i, place in enumerate(where.tolist()):
                change = test.update(int(rows.error[place]), int(rows.served_at[place]))
                if change is not None:
                    waiting[s] = where[i + 1 :]
                    heapq.heappush(events, (place, s, change))
                    return

        def step(which: list[int]) -> None:
            parts = []
            for s in which:
                if s not in waiting:
                    continue
                if (test := tests.open.get(s)) is not None:
                    watched(s, test)
                    continue
                where = waiting.pop(s)
                if tests.begin[s] != EVER:
                    where = where[rows.served_at[where] >= tests.begin[s]]
                if may_open and len(where):
                    parts.append((s, where))
            if not parts:
                return
            due = tests.scan(parts, rows)
            for s, where in parts:
                if s in due:
                    waiting[s] = where[due[s] :]
                    heapq.heappush(events, (int(where[due[s] - 1]), s, None))

        return step

    def end(self) -> None:
        """All rows were taken: forget what no later look needs."""
        self.tests.memory = self.tests.memory.trimmed()
