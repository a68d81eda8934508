"""What ``redistill gate --format json`` prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["GateDocument"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GateDocument:
    """A candidate against what serves, on the rows of a file."""

    answer: str
    """`passed`, `refused` or `undecided`: exit codes 0, 1 and 3."""
    why: str
    """In words."""
    gates: list[dict[str, Any]]
    """Each with `name`, `value`, `limit`, `passed` (`null`: undecided), `why`, `have` (labelled
    rows), `need` (rows that would decide it if the difference stays; `null`: not known)."""
    candidate: dict[str, Any]
    """What it costs and is worth on these rows, measured in this run; as in a gate report."""
    baseline: dict[str, Any]
    """The same of what serves."""
    rows: dict[str, int]
    """How many were read, and how many of them judge."""
    sha256: dict[str, str]
    """Of the files `candidate` and `baseline`, and of the rows that were read (`data`)."""
    policy_sha256: str
    """Of the limits of all gates: equal limits have equal hashes."""
    notes: list[str]
    """What was assumed or changed to call the models, and warnings."""
    repeated_looks: str
    """What the error rates of the gates mean where these rows have judged before."""
