"""What a replay is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from redistill.streams.errors import FileError

__all__ = ["ReplayOptions"]

MOST_ROWS = 2**40
"""Longest delay of a label that is taken, and most rows per alarm; no file is longer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayOptions:
    """What to read and how to watch."""

    label: str = "label"
    prediction: str = "prediction"
    scores: tuple[str, ...] = ()
    reference_label: str | None = None
    """``None``: the same name as in the stream."""
    reference_prediction: str | None = None
    time: str | None = None
    """Column of serving times; ``None``: row numbers are seconds since 1970, and no window is
    closed by the clock."""
    slices: tuple[str, ...] = ()
    """Columns by which the summary breaks accuracy down."""
    classes: tuple[str, ...] = ()
    """Class names; empty: those of the reference."""
    label_rate: float = 1.0
    """Random share of the labels that is kept."""
    label_delay: int = 0
    """Rows after which a label arrives."""
    label_requests: float = 0.0
    """Share of all rows whose labels may be asked for on suspicion, beside those at random."""
    seed: int = 0
    tolerance_points: float = 1.0
    strictness: float = 0.0
    rows_per_alarm: float = 1e6
    budget: Literal["option", "fleet"] = "option"
    """Who said so, for the summary: these options, or the fleet's database."""
    window_rows: int = 2_000
    window_seconds: float = 3_600.0
    model: str = "replay"
    version: str = "1"

    def __post_init__(self) -> None:
        wrong = []
        if not 0 <= self.label_rate <= 1:
            wrong.append(f"label rate {self.label_rate} is not within 0 and 1")
        if not 0 <= self.label_delay <= MOST_ROWS:
            wrong.append(f"label delay {self.label_delay} is not within 0 and {MOST_ROWS:,} rows")
        if not 0 <= self.label_requests <= 1:
            wrong.append(f"label requests {self.label_requests} are not within 0 and 1")
        if self.seed < 0:
            wrong.append(f"seed {self.seed} is negative")
        if not 0 <= self.tolerance_points < 100:
            wrong.append(f"tolerance {self.tolerance_points} is not within 0 and 100 points")
        if not 0 <= self.strictness <= 1:
            wrong.append(f"strictness {self.strictness} is not within 0 and 1")
        if not 1 <= self.rows_per_alarm <= MOST_ROWS:
            wrong.append(f"rows per alarm {self.rows_per_alarm} is not within 1 and {MOST_ROWS:,}")
        if self.window_rows < 1:
            wrong.append(f"a window of {self.window_rows} rows is empty")
        if many := sorted({s for s in self.slices if self.slices.count(s) > 1}):
            wrong.append(f"slices name column {', '.join(map(repr, many))} more than once")
        names = [self.label, self.prediction, *self.scores, *([self.time] if self.time else [])]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            wrong.append(f"column {', '.join(map(repr, twice))} cannot have two meanings")
        here = (self.reference_label or self.label, self.reference_prediction or self.prediction)
        if here[0] == here[1] and not twice:
            wrong.append(f"column {here[0]!r} of the reference cannot have two meanings")
        if wrong:
            raise FileError("; ".join(wrong))
