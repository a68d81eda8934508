"""Gate ``size``: bytes of the model file, against what is allowed, the incumbent's and the
teacher's."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.compress.judge.evidence import Evidence, Role
from redistill.compress.judge.gates.rule import EVERY, MADE, GateRule, worst
from redistill.compress.judge.limits import ByteCount, Ratio
from redistill.compress.plan import Gate

__all__ = ["RULE", "Limit", "allowed"]

ENVELOPE = 4_096
"""Bytes beyond the teacher's that are no growth: names, headers, a temperature."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """How large a model may be."""

    max_bytes: ByteCount | None = None
    """Largest model file in bytes; written as `[repair] max_bytes`."""
    max_incumbent_ratio: Ratio = 1.5
    """Largest file of a candidate that a job makes, as a share of the incumbent's ..."""
    free_bytes: ByteCount = 65_536
    """... unless it has at most so many bytes."""
    max_teacher_ratio: Ratio = 1.0
    """The same as a share of the teacher's file, and 4 kB: what is larger is not compressed."""


def allowed(limit: Limit, *, incumbent: int | None, teacher: int | None) -> list[tuple[float, str]]:
    """How large a file may be, and by what, for each limit that there is.

    Parameters
    ----------
    incumbent, teacher
        Bytes that a candidate of a job is held to; ``None``: it is not.
    """
    found = []
    if limit.max_bytes is not None:
        found.append((float(limit.max_bytes), f"{limit.max_bytes:,} are allowed"))
    if incumbent is not None:
        most = max(limit.max_incumbent_ratio * incumbent, float(limit.free_bytes))
        found.append((most, f"the incumbent has {incumbent:,}: at most {most:,.0f}"))
    if teacher is not None:
        most = limit.max_teacher_ratio * teacher + ENVELOPE
        found.append((most, f"its teacher has {teacher:,}: at most {most:,.0f}"))
    return found


def judge(e: Evidence, limit: Limit) -> Gate | None:
    """The limit that is missed by most, or that is nearest."""
    held: tuple[Role, Role] = ("incumbent", "teacher")
    others = {
        role: e.machine[role].bytes if e.requirement in MADE and role in e.machine else None
        for role in held
    }
    most = allowed(limit, incumbent=others["incumbent"], teacher=others["teacher"])
    found = [(float(e.own.bytes), m, why) for m, why in most]
    return worst("size", found, f"{e.own.bytes:,} bytes, ")


RULE = GateRule(name="size", split="machine", limit=Limit(), judge=judge, requirements=EVERY)
