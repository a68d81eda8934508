"""What a replay tells: a line per finding, a line per window of accuracy, and a summary."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from redistill.stats import clopper_pearson
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.intervals import stratified_interval
from redistill.streams.replay.label_flow import LabelUse
from redistill.streams.replay.windows import ReplayWindow
from redistill.streams.wire.events import DriftFound
from redistill.times import SECOND, microseconds

__all__ = ["Line", "Replay"]

Line = dict[str, Any]


@dataclass(slots=True)
class Replay:
    """What the lines of one replay told, in sum."""

    rows: int = 0
    total: int | None = None
    """Rows of the stream, where the file tells."""
    rows_per_alarm: float = 1e6
    """Rows per promised false alarm that were asked for."""
    budget: str = "option"
    """Who said so: ``option`` or ``fleet``."""
    labels: int = 0
    """Labels that came, at random or because they were asked for."""
    wrong: int = 0
    random: list[int] = field(default_factory=lambda: [0, 0])
    """Of those that came at random: labels, wrong ones. What is asked for on suspicion says how bad
    it is where it is bad, and nothing of the whole stream."""
    requests: LabelUse | None = None
    requests_beside: LabelUse | None = None
    """The same with a budget that is earned row by row."""
    beside: list[int] = field(default_factory=list)
    """Rows at which harm opened there."""
    beside_going: set[str] = field(default_factory=set)
    """Findings of harm that are open there."""
    opened: dict[str, int] = field(default_factory=dict)
    """Findings opened, by kind."""
    harm_opened: int = 0
    harm_going: set[str] = field(default_factory=set)
    """Findings of harm that are open: a slice's may end while the whole model's goes on."""
    events: int = 0
    windows: int = 0
    base: BaseError | None = None
    base_note: str = ""
    notes: list[str] = field(default_factory=list)
    slices: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    """(column, value) -> [labelled, wrong]."""
    findings: list[Line] = field(default_factory=list)
    """Every ``drift.v1`` line, in order."""

    @property
    def harm_open(self) -> bool:
        """Whether any harm goes on."""
        return bool(self.harm_going)

    def finding(self, row: int, found: DriftFound, *, timed: bool) -> Line:
        """A finding as it would have been published, with its row.

        Parameters
        ----------
        timed
            Whether rows have times; else seconds since 1970 are rows, for people, too.
        """
        self.events += 1
        if found.status == "open":
            self.opened[found.kind] = self.opened.get(found.kind, 0) + 1
        if found.impact.harmful:
            self.harm_opened += found.status == "open"
            _follow(self.harm_going, found)
        line: Line = msgspec.to_builtins(found)
        if not timed:
            line["reason"] = _SINCE.sub(_since_row, found.reason)
        line["row"] = row
        line["id"] = str(found.finding_id)
        self.findings.append(line)
        return line

    def count(self, error: NDArray[np.uint8], random: NDArray[np.bool_]) -> None:
        """Labels came; ``random``: which would have come without being asked for."""
        self.labels += len(error)
        self.wrong += int(error.sum())
        self.random[0] += int(random.sum())
        self.random[1] += int(error[random].sum())

    def count_beside(self, found: Iterable[tuple[int, DriftFound]]) -> None:
        """What would have been found with a budget that is earned row by row."""
        for row, f in found:
            if f.impact.harmful:
                self.beside += [row] if f.status == "open" else []
                _follow(self.beside_going, f)

    def window(
        self, row: int, window: ReplayWindow, strata: Sequence[tuple[int, int, int]]
    ) -> Line:
        """The measured accuracy of a window whose labels can be there by ``row``.

        Parameters
        ----------
        strata
            ``(correct, labelled, rows)`` of its parts; the labelled ones stand for their part.
        """
        self.windows += 1
        current = low = high = None
        labelled, rows = (sum(s[i] for s in strata) for i in (1, 2))
        if labelled:
            mean = sum(s[0] for s in strata) / labelled
            parts = [s[2] * (s[0] / s[1] if s[1] else mean) for s in strata]
            current = sum(parts) / rows
            low, high = stratified_interval(strata)
        return {
            "row": row,
            "from": window.first,
            "to": window.last,
            "accuracy": {
                "basis": "measured",
                "current": current,
                "low": low,
                "high": high,
                "n": labelled,
            },
        }

    def summary(self, seconds: float, base: BaseError | None) -> Line:
        """The last line.

        Parameters
        ----------
        seconds
            How long it took.
        base
            The base error that was used in the end.
        """
        return {
            "summary": {
                "rows": self.rows,
                "seconds": round(seconds, 3),
                "rows_per_second": round(self.rows / seconds) if seconds > 0 else None,
                "labels": self.labels,
                **self._accuracy(),
                "label_share": self.labels / self.rows if self.rows else None,
                "label_requests": self._requests(),
                "rows_per_alarm": self.rows_per_alarm,
                "rows_per_alarm_from": self.budget,
                "windows": self.windows,
                "events": self.events,
                "findings": dict(sorted(self.opened.items())),
                "harm": {"opened": self.harm_opened, "open": self.harm_open},
                "base_error": None
                if base is None
                else {
                    "rate": base.rate,
                    "upper": base.upper,
                    "n": base.n,
                    "provisional": base.provisional,
                },
                "slices": [
                    _slice(key, value, n, k) for (key, value), (n, k) in self.slices.items()
                ],
                "notes": [*self.notes, *([self.base_note] if self.base_note else [])],
            }
        }

    def _accuracy(self) -> Line:
        """Of the whole stream, by the labels that came at random."""
        n, wrong = self.random
        low, high = clopper_pearson(n - wrong, n) if n else (None, None)
        return {
            "accuracy": 1 - wrong / n if n else None,
            "accuracy_low": low,
            "accuracy_high": high,
            "accuracy_labels": n,
        }

    def _requests(self) -> Line | None:
        """What was asked for, and what came of it; beside it, with a budget earned row by row."""
        if self.requests is None or self.requests_beside is None:
            return None
        return {
            **self.requests.line(self.rows),
            "earned_row_by_row": {
                **self.requests_beside.line(self.rows),
                "harm": {
                    "opened": len(self.beside),
                    "open": bool(self.beside_going),
                    "rows": self.beside,
                },
            },
        }


def _follow(going: set[str], found: DriftFound) -> None:
    """Keep which findings go on."""
    if found.status == "resolved":
        going.discard(str(found.finding_id))
    else:
        going.add(str(found.finding_id))


_SINCE = re.compile(r"since (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC")


def _since_row(said: re.Match[str]) -> str:
    when = datetime.strptime(said[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    return f"since row {microseconds(when) // SECOND}"


def _slice(key: str, value: str, n: int, wrong: int) -> Line:
    low, high = clopper_pearson(n - wrong, n)
    return {
        "key": key,
        "value": value,
        "n": n,
        "accuracy": 1 - wrong / n,
        "low": low,
        "high": high,
    }
