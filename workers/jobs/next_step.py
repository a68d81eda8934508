"""Next step of a job after the gates: publish the candidate, reject it, or judge it again with more
labels. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.compress.plan import Accepted, Decision, Rejected, Undecidable

__all__ = ["MORE_TRUSTED", "JudgeAgain", "Publish", "Reject", "next_step"]

TRUSTED_GATES = frozenset({"trusted_points", "worst_slice_points"})
"""Gates that look at trusted rows only: no label that comes in can decide them."""

MORE_TRUSTED = "trusted rows do not grow by themselves, register more of them to decide it"


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


NextStep = Publish | Reject | JudgeAgain


def next_step(decision: Decision) -> NextStep:
    """What follows from what the gates of a candidate decided.

    Examples
    --------
    >>> next_step(Accepted(variant="fp32"))
    Publish()
    >>> next_step(Undecidable(gate="fresh_e_value", have=40, need=90, why="40 rows"))
    JudgeAgain(why='40 rows')
    """
    match decision:
        case Accepted():
            return Publish()
        case Rejected(reasons=reasons):
            return Reject(reasons)
        case Undecidable(gate="verified_rows", why=why):
            # more labels of the same source prove nothing: somebody has to look at the rows
            return Reject((why,))
        case Undecidable(gate=gate, why=why) if gate in TRUSTED_GATES:
            return Reject((f"{gate}: not proven: {why}; {MORE_TRUSTED}",))
        case Undecidable(why=why):
            return JudgeAgain(why)
