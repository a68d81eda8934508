"""Remedy: what may be done about an incident. Values; every one says why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

__all__ = ["AskPerson", "Nothing", "Remedy", "Repair", "Wait", "WaitForLabels"]


@dataclass(frozen=True, slots=True)
class Repair:
    """Start a job; it begins with the diagnosis, or goes on after one."""

    why: str
    decision: ClassVar[str] = "repair"


@dataclass(frozen=True, slots=True)
class AskPerson:
    """Only a person can take this further."""

    why: str
    decision: ClassVar[str] = "ask_person"


@dataclass(frozen=True, slots=True)
class WaitForLabels:
    """The labels at hand say too little."""

    why: str
    decision: ClassVar[str] = "wait_for_labels"


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing now; decide again later."""

    why: str
    until: int | None
    """Microseconds since 1970; ``None``: when the live job has ended."""
    decision: ClassVar[str] = "wait"


@dataclass(frozen=True, slots=True)
class Nothing:
    """There is nothing to repair."""

    why: str
    decision: ClassVar[str] = "none"


Remedy = Repair | AskPerson | WaitForLabels | Wait | Nothing
