"""Next step of a job after the gates: publish the candidate, reject it, judge it again with more
labels, or ask a person. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.compress.plan import Accepted, Decision, NeedsPerson, Rejected, Undecidable

__all__ = ["Ask", "JudgeAgain", "Publish", "Reject", "next_step"]


@dataclass(frozen=True, slots=True)
class Publish:
    """Every gate passed."""


@dataclass(frozen=True, slots=True)
class Reject:
    """It is not published, and no label that comes in will change that."""

    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JudgeAgain:
    """New labelled rows may decide it."""

    why: str


@dataclass(frozen=True, slots=True)
class Ask:
    """A person has to bring rows, or to decide without them."""

    missing: NeedsPerson


NextStep = Publish | Reject | JudgeAgain | Ask


def next_step(decision: Decision) -> NextStep:
    """What follows from what the gates of a candidate decided.

    Examples
    --------
    >>> next_step(Accepted(variant="fp32"))
    Publish()
    >>> next_step(Undecidable(gate="fresh", have=40, need=90, why="40 rows"))
    JudgeAgain(why='40 rows')
    """
    match decision:
        case Accepted():
            return Publish()
        case Rejected(reasons=reasons):
            return Reject(reasons)
        case NeedsPerson():
            return Ask(decision)
        case Undecidable(why=why):
            return JudgeAgain(why)
