"""Report of the doctor as a document."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DoctorCheck", "DoctorReport"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DoctorCheck:
    """What a check found; a check may find several things."""

    check: str
    """`settings`, `versions`, `disk`, `broker`, `permissions`, `topics`, `database`, `clock`,
    `keys`, `processes`, `alerts`, `troubles`, `lag` or `labels`."""
    status: str
    """`ok`, `warn` or `fail`."""
    said: str
    do: str | None
    """What to type, or to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DoctorReport:
    """All checks."""

    well: bool
    """Whether none fails: the exit code is 0 then, else 1."""
    checks: list[DoctorCheck]
