"""What a replay tells: a line per finding, a line per window of accuracy, and a summary."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from redistill.stats import clopper_pearson
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.intervals import window_interval
from redistill.streams.wire.events import DriftFound
from redistill.times import SECOND, microseconds

__all__ = ["Line", "Replay", "ReplayWindow"]

Line = dict[str, Any]


@dataclass(slots=True)
class ReplayWindow:
    """A window of accuracy: closed rows wait here for their labels."""

    first: int
    last: int
    rows: int = 0
    """Rows with a prediction."""
    labelled: int = 0
    wrong: int = 0
    closed: bool = False


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
    wrong: int = 0
    opened: dict[str, int] = field(default_factory=dict)
    """Findings opened, by kind."""
    harm_opened: int = 0
    harm_open: bool = False
    events: int = 0
    windows: int = 0
    base: BaseError | None = None
    base_note: str = ""
    notes: list[str] = field(default_factory=list)
    slices: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    """(column, value) -> [labelled, wrong]."""
    findings: list[Line] = field(default_factory=list)
    """Every ``drift.v1`` line, in order."""

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
            self.harm_open = found.status != "resolved"
        line: Line = msgspec.to_builtins(found)
        if not timed:
            line["reason"] = _SINCE.sub(_since_row, found.reason)
        line["row"] = row
        line["id"] = str(found.finding_id)
        self.findings.append(line)
        return line

    def window(self, row: int, window: ReplayWindow) -> Line:
        """The measured accuracy of a window whose labels can be there by ``row``."""
        self.windows += 1
        current = low = high = None
        if window.labelled:
            correct = window.labelled - window.wrong
            current = correct / window.labelled
            low, high = window_interval(correct, window.labelled, window.rows)
        return {
            "row": row,
            "from": window.first,
            "to": window.last,
            "accuracy": {
                "basis": "measured",
                "current": current,
                "low": low,
                "high": high,
                "n": window.labelled,
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
                "accuracy": 1 - self.wrong / self.labels if self.labels else None,
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
