"""Labels of a replay: drawn at random, asked for on suspicion, late; and what the monitor makes of
them.

Everything depends on rows above only: a label that is asked for after row ``t`` is there ``delay``
rows later, and nothing that is chosen sees a label before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redistill.streams.monitor.accuracy import account
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.expected_error import ExpectedError
from redistill.streams.monitor.label_requests import (
    RequestState,
    decide,
    opened,
    spread,
    take,
)
from redistill.streams.monitor.outcomes import AccuracyState
from redistill.streams.monitor.suspicion import (
    CONFIDENCE,
    Suspicion,
    slice_of,
    suspicions,
)
from redistill.streams.replay.late_labels import Labels, RecentRows, ServedRows
from redistill.streams.replay.options import ReplayOptions
from redistill.streams.wire.events import Contributor, DriftFound

__all__ = ["Asked", "Budget", "LabelFlow", "LabelUse"]

STEP_ROWS = 50
"""Rows after which it is looked whether labels should be asked for."""
PRIOR_ROWS = 200
"""The label share that was asked for counts like this many rows beside those seen."""
_Told = list[tuple[int, DriftFound]]


@dataclass(frozen=True, slots=True)
class Budget:
    """Rows whose labels may be asked for."""

    share: float
    """Of all rows."""
    total: int | None
    """Rows of the stream: the whole budget is there from the first row on. ``None``: it is earned
    row by row."""

    def left(self, served: int, asked: int) -> int:
        """Rows that may still be asked for."""
        rows = served if self.total is None else self.total
        return max(0, int(self.share * rows + 1e-9) - asked)


@dataclass(frozen=True, slots=True)
class Asked:
    """Rows that were asked for in a burst: each of ``first`` to ``end`` with probability ``p``, at
    row ``at``, beside those that the random draw had picked."""

    first: int
    end: int
    at: int
    p: float


@dataclass(frozen=True, slots=True)
class LabelUse:
    """What was asked for in all."""

    budget: int
    """Rows that might be asked for."""
    asked: int
    answered: int
    """Rows asked for that had a label."""

    def line(self, rows: int) -> dict[str, Any]:
        """For the summary."""
        return {
            "budget_rows": self.budget,
            "asked": self.asked,
            "asked_share": self.asked / rows if rows else None,
            "answered": self.answered,
        }


class LabelFlow:
    """Labels of one replay, and the accuracy state that they feed.

    Parameters
    ----------
    budget
        Of what may be asked for; ``None``: only labels at random come.
    """

    def __init__(
        self,
        options: ReplayOptions,
        config: WatchConfig,
        base: BaseError | None,
        budget: Budget | None,
        expected: ExpectedError | None = None,
    ) -> None:
        self.options = options
        self.config = config
        self.base = base
        self.expected = expected
        self.budget = budget
        self.rng = np.random.default_rng([options.seed, 1])  # of bursts
        self.state: AccuracyState | None = None
        self.requests = RequestState()
        self.recent = RecentRows()
        self.doubt: DriftFound | None = None  # the finding about confidence that is open
        self.drawn: deque[Labels] = deque()  # come in the order of their rows
        self.answers: deque[Labels] = deque()  # of rows looked back at
        self.served = 0
        self.random_labels = 0  # that came
        self.random_rows = 0  # up to which they came
        self.asked = 0
        self.answered = 0
        self.bursts: list[Asked] = []
        """Asked for since the last call of ``serve``, for all slices."""

    def serve(
        self, rows: ServedRows, inputs: _Told, contributors: Sequence[Contributor]
    ) -> tuple[_Told, list[Labels]]:
        """Take the next rows, and the labels that come while they are served.

        Parameters
        ----------
        inputs
            Findings about inputs that these rows brought, with their rows, in order.
        contributors
            What drifted before them.

        Returns
        -------
        tuple
            Findings about accuracy with their rows, and the labels that came.
        """
        self.bursts = []
        step = len(rows) if self.budget is None else STEP_ROWS
        told: _Told = []
        came: list[Labels] = []
        heard = deque(inputs)
        for i in range(0, len(rows), step):
            part = rows.cut(i, min(i + step, len(rows)))
            self._serve(part)
            while heard and heard[0][0] < self.served:
                self._hear(heard.popleft()[1])
            if (labels := self._due()) is not None:
                at = np.clip(labels.arrival - rows.first, 0, len(rows) - 1)
                told += self._account(labels, rows.served_at[at], contributors)
                came.append(labels)
            if self.budget is not None:
                self._ask()
        return told, came

    def end(self, now: int, contributors: Sequence[Contributor]) -> tuple[_Told, list[Labels]]:
        """The stream is over: labels on their way come in after its last row, served at ``now``."""
        self.bursts = []
        left = [*self.drawn, *self.answers]
        self.drawn.clear()
        self.answers.clear()
        if not left:
            return [], []
        labels = Labels.joined(left)
        told = self._account(labels, np.full(len(labels), now), contributors)
        return [(self.served - 1, found) for _, found in told], [labels]

    def used(self) -> LabelUse | None:
        """What was asked for so far; ``None``: there is no budget."""
        if self.budget is None:
            return None
        return LabelUse(self.budget.left(self.served, 0), self.asked, self.answered)

    def _serve(self, rows: ServedRows) -> None:
        """Labels of rows set out: those drawn, and those that a burst under way asks for."""
        self.served = rows.end
        delay = self.options.label_delay
        taken = rows.drawn.copy()
        p = np.full(len(rows), self.options.label_rate)
        parts = []
        for why in sorted(self.requests.following, key=lambda w: slice_of(w) is not None):
            only = slice_of(why)
            free = np.flatnonzero(~taken & rows.within(only))
            self.requests, n = take(self.requests, why, len(free), self._left())
            picks = np.zeros(len(rows), np.bool_)
            picks[free[:n]] = True
            taken |= picks
            self.asked += n
            if only is None and n:
                p[: free[n - 1] + 1] = 1.0
                last = self.served if n == len(free) else rows.first + int(free[n - 1]) + 1
                self.bursts.append(Asked(rows.first, last, rows.first, 1.0))
            parts.append(rows.labels(picks, arrival=None, delay=delay, p_include=p, only=only))
        drawn = rows.labels(rows.drawn, arrival=None, delay=delay, p_include=p)
        if len(labels := Labels.joined([drawn, *parts])):
            self.drawn.append(labels)
        if self.budget is not None:
            self.recent.append(rows, taken, p)

    def _due(self) -> Labels | None:
        """Labels that are there before the next row."""
        parts: list[Labels] = []
        for queue in (self.drawn, self.answers):
            while queue and queue[0].arrival[0] < self.served:
                now, later = queue.popleft().split(self.served)
                parts.append(now)
                if len(later):
                    queue.appendleft(later)
                    break
        return Labels.joined(parts) if parts else None

    def _account(
        self, labels: Labels, received_at: NDArray[np.int64], contributors: Sequence[Contributor]
    ) -> _Told:
        if labels.random.any():
            self.random_rows = int(labels.row[labels.random.argmax()])
        self.state, found, positions = account(
            self.state,
            labels.outcomes(received_at),
            version=self.options.version,
            base=self.base,
            expected=self.expected,
            config=self.config,
            label_share=self._share(),
            contributors=contributors,
        )
        self.random_labels += int(labels.random.sum())
        self.answered += int((~labels.random).sum())
        for f in found:
            if f.status == "open" and f.impact.harmful:
                self.requests = opened(self.requests, None if f.scope == "all" else f.scope)
        return [(int(labels.arrival[i]), f) for i, f in zip(positions, found, strict=True)]

    def _share(self) -> float:
        """Labels per row: what was asked for, corrected by what came; and the budget."""
        rate = self.options.label_rate
        came = (rate * PRIOR_ROWS + self.random_labels) / (PRIOR_ROWS + self.random_rows)
        return min(1.0, max(came + (self.budget.share if self.budget else 0.0), 1e-4))

    def _left(self) -> int:
        return 0 if self.budget is None else self.budget.left(self.served, self.asked)

    def _hear(self, found: DriftFound) -> None:
        if found.kind == CONFIDENCE:
            self.doubt = None if found.status == "resolved" else found

    def _ask(self) -> None:
        """Ask for labels where something is suspected."""
        for suspicion in suspicions(self.state, [self.doubt] if self.doubt else []):
            if self._left():
                self._burst(suspicion)

    def _burst(self, suspicion: Suspicion) -> None:
        rows, taken, p = self.recent.take()
        since = rows.first + int(np.argmax(rows.served_at >= suspicion.since))
        only = slice_of(suspicion.why)
        mine = rows.within(only)
        self.requests, burst = decide(
            self.requests,
            suspicion.why,
            row=self.served,
            since=since,
            left=self._left(),
            delay=self.options.label_delay,
            rows=None if only is None else int(mine[since - rows.first :].sum()),
        )
        if burst is None:
            return
        candidates = np.flatnonzero(mine)
        candidates = candidates[candidates >= burst.first - rows.first]
        picks = np.zeros(len(rows), np.bool_)
        picks[candidates[spread(len(candidates), burst.back, self.rng.random())]] = True
        picks &= ~taken
        taken |= picks
        self.asked += int(picks.sum())
        if only is None:
            p[candidates] = 1 - (1 - p[candidates]) * (1 - burst.p_include)
            self.bursts.append(Asked(burst.first, burst.end, self.served, burst.p_include))
        answers = rows.labels(
            picks,
            arrival=self.served - 1 + self.options.label_delay,
            delay=0,
            p_include=p,
            only=only,
        )
        if len(answers):
            self.answers.append(answers)
