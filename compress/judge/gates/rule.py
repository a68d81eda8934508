"""Gate rule: one condition that a candidate must satisfy before it serves, with its limits. Pure.

A rule is a value in a file of its own; ``table`` lists them, and whoever judges goes through the
list. Adding a gate touches its file, a line of the table and its test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from redistill.compress.judge.evidence import Evidence, Requirement
from redistill.compress.judge.task import Floats, Task
from redistill.compress.plan import Gate, Split

__all__ = ["COMPARED", "EVERY", "MADE", "POINTS", "GateRule", "said", "worst"]

POINTS = 100.0
"""Points in a loss of 1."""

EVERY: frozenset[Requirement] = frozenset({"beat", "keep", "admit", "first"})
COMPARED: frozenset[Requirement] = frozenset({"beat", "keep", "admit"})
"""Where there is an incumbent to be compared with."""
MADE: frozenset[Requirement] = frozenset({"beat", "keep"})
"""Candidates that a job made; what a person adds may be as large and slow as they like."""

Limit = TypeVar("Limit")


@dataclass(frozen=True, kw_only=True, slots=True)
class GateRule:
    """One gate.

    Parameters
    ----------
    name
        Of the gate, of its file and of the section ``[gates.NAME]``.
    split
        Which rows it looks at, where the gate itself does not say another.
    limit
        What is asked: a frozen dataclass with its defaults, each field with a line below it that
        says unit and meaning. ``[gates.NAME]`` of model.toml sets its fields.
    requirements
        Where the gate is asked at all.
    judge
        ``(evidence, limit) -> Gate``; ``None``: it has nothing to say about this candidate.
    trades
        ``(evidence, limit) -> bool``: whether it looks at fresh rows as well, whatever its split.
    """

    name: str
    split: Split
    limit: Any
    judge: Callable[[Evidence, Any], Gate | None]
    requirements: frozenset[Requirement] = COMPARED
    trades: Callable[[Evidence, Any], bool] | None = None

    def faces_fresh(self, e: Evidence, limit: Any) -> bool:
        """Whether it looks at labelled fresh rows of this candidate."""
        return self.split == "fresh" or (self.trades is not None and self.trades(e, limit))


def said(task: Task, d: Floats) -> str:
    """A paired difference in words.

    Examples
    --------
    >>> import numpy as np
    >>> from redistill.compress.judge.task import Classification
    >>> said(Classification(classes=2), np.array([1.0, 0.0, -1.0, 1.0]))
    '+25.00 points (better on 2, worse on 1 of 4 rows)'
    """
    n = len(d)
    mean = float(d.mean()) * POINTS if n else 0.0
    better, worse = int((d > 0).sum()), int((d < 0).sum())
    return f"{mean:+.2f} {task.unit} (better on {better}, worse on {worse} of {n} rows)"


def worst(name: str, found: Sequence[tuple[float, float, str]], told: str = "") -> Gate | None:
    """A gate of several upper limits: of the one that is missed by most, or that is nearest.

    Parameters
    ----------
    found
        Value, the most that it may be, and why, for each limit.
    told
        Goes before why.

    Examples
    --------
    >>> gate = worst("size", [(80.0, 100.0, "a"), (80.0, 60.0, "b")])
    >>> gate.passed, gate.limit, gate.why
    (False, 60.0, 'b')
    >>> worst("size", [])
    """
    if not found:
        return None
    value, most, why = max(found, key=lambda f: f[0] / f[1])
    return Gate(name=name, value=value, limit=most, passed=value <= most, why=told + why)
