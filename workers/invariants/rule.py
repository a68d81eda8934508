"""Rule of an invariant: what it looks at, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

__all__ = ["Figures", "Rule", "RuleInput", "RuleResult"]

Figures = dict[str, int | float | str]
"""What was counted, by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleInput:
    """What a rule looks at: one moment of the database, and the files of the installation."""

    conn: sa.Connection
    now: int
    """Microseconds since 1970."""
    home: Path
    outbox_kept_us: int
    """How long sent announcements are kept."""
    wal_bytes: int | None = None
    """Size of SQLite's write-ahead log; ``None``: not SQLite."""
    offsets: Sequence[Any] = ()
    """Progress of every partition, to be compared with the logs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleResult:
    """What a rule found."""

    figures: Figures
    violations: list[str] = field(default_factory=list)
    """What contradicts the rule, a sentence each."""

    def with_more(self, other: RuleResult) -> RuleResult:
        """This result and another one of the same rule."""
        return RuleResult(
            figures=self.figures | other.figures, violations=self.violations + other.violations
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One invariant."""

    number: int
    text: str
    check: Callable[[RuleInput], RuleResult]
