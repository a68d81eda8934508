"""Lines of the table: a share of simulated runs with its exact interval, the bar, and what stands
beside it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from redistill.stats import clopper_pearson

Run = TypeVar("Run")


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """How many of independent runs."""

    hits: int
    runs: int

    @property
    def value(self) -> float:
        """The share; 0 without runs."""
        return self.hits / self.runs if self.runs else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Exact 95% interval (Clopper, Pearson 1934)."""
        return clopper_pearson(self.hits, self.runs) if self.runs else (0.0, 1.0)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.1%} [{low:.1%}, {high:.1%}]"

    def json(self) -> dict[str, Any]:
        """Plain values."""
        low, high = self.interval
        return {
            "hits": self.hits,
            "runs": self.runs,
            "share": self.value,
            "low": low,
            "high": high,
        }


def share(runs: Iterable[bool]) -> Share:
    """Of those that are true."""
    told = list(runs)
    return Share(hits=sum(map(bool, told)), runs=len(told))


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """What is asked of a share: at least, or at most so much."""

    least: float | None = None
    most: float | None = None
    upper: bool = False
    """The interval's upper bound is what is held to ``most``, by the issue's own words."""

    def met(self, found: Share) -> bool:
        """By what was counted."""
        if self.least is not None:
            return found.value >= self.least
        return (found.interval[1] if self.upper else found.value) <= (self.most or 0.0)

    def shown(self, found: Share) -> bool:
        """By the whole interval: it is not by luck. A bar of nothing at all is never shown."""
        low, high = found.interval
        return low >= self.least if self.least is not None else high <= (self.most or 0.0)

    def __str__(self) -> str:
        if self.least is not None:
            return f">= {self.least:.0%}"
        return f"{'upper bound ' if self.upper else ''}<= {self.most:.0%}" if self.most else "0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line of the table."""

    part: str
    """Which benchmark it is of."""
    what: str
    found: Share
    bar: Bar | None = None
    """``None``: told, not judged."""
    beside: Mapping[str, Share | str] = field(default_factory=dict)
    """Baselines, on the same runs where they look at rows."""
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def missed(self) -> bool:
        """Whether there is a bar, and it is not met."""
        return self.bar is not None and not self.bar.met(self.found)

    def json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "part": self.part,
            "what": self.what,
            **self.found.json(),
            "bar": None if self.bar is None else str(self.bar),
            "met": None if self.bar is None else self.bar.met(self.found),
            "met_by_interval": None if self.bar is None else self.bar.shown(self.found),
            "beside": {
                name: told.json() if isinstance(told, Share) else told
                for name, told in self.beside.items()
            },
            "detail": dict(self.detail),
        }


def show(lines: Sequence[Line], console: Console) -> None:
    """The table for people."""
    table = Table(title="shares of simulated runs [95% interval]", title_justify="left", box=SIMPLE)
    for name in ("", "what", "found", "runs", "bar", "met", "beside, on the same rows"):
        table.add_column(name, justify="right" if name in ("found", "runs", "bar") else "left")
    before = None
    for line in lines:
        table.add_row(
            line.part if line.part != before else "",
            escape(line.what),
            escape(str(line.found)),
            f"{line.found.runs:,}",
            "-" if line.bar is None else str(line.bar),
            _verdict(line),
            escape("; ".join(f"{name} {told}" for name, told in line.beside.items())),
        )
        before = line.part
    console.print(table)


def _verdict(line: Line) -> str:
    if line.bar is None:
        return ""
    if not line.bar.met(line.found):
        return "NO"
    return "yes" if line.bar.shown(line.found) or line.bar.upper else "by its point"


EVERY_SECONDS = 5.0
"""Between two words of progress."""


def progress(name: str, runs: Sequence[Run]) -> Iterator[Run]:
    """Go through runs, and say how far one is on standard error."""
    said = time.monotonic()
    for i, run in enumerate(runs):
        if time.monotonic() - said > EVERY_SECONDS:
            said = time.monotonic()
            print(f"  {name}: {i} of {len(runs)}", file=sys.stderr, flush=True)
        yield run
