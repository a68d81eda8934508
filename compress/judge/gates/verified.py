"""Gate ``verified``: where labels taught the candidate and trusted rows cannot judge them, somebody
else must have labelled some rows as well."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.compress.judge.evidence import Evidence
from redistill.compress.judge.gates.rule import COMPARED, GateRule
from redistill.compress.judge.limits import Area, RowCount
from redistill.compress.plan import Gate

__all__ = ["RULE", "Limit"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """When trusted rows are blind, and what stands in for them."""

    blind_auc: Area = 0.8
    """Where labels enter the loss and fresh rows are this separable from trusted ones (AUC of a
    linear classifier), the trusted gate is blind."""
    min_rows: RowCount = 100
    """Where it is blind: fresh rows that a second source, or a person, has labelled as well."""


def judge(e: Evidence, limit: Limit) -> Gate | None:
    """More labels of the same source prove nothing: an open one asks a person."""
    if not e.labels_in_loss:
        return None
    have = len(e.verified())
    told = "nobody measured how far fresh rows are from trusted ones"
    if e.domain_auc is not None:
        auc = e.domain_auc.value
        told = f"a linear classifier tells fresh from trusted rows with AUC {auc:.2f}"
    if not e.blind_at(limit.blind_auc):
        why = f"{told}, at most {limit.blind_auc:g}: the trusted rows can judge the labels"
        return Gate(name="verified", value=float(have), limit=None, passed=True, why=why)
    return Gate(
        name="verified",
        value=float(have),
        limit=float(limit.min_rows),
        passed=True if have >= limit.min_rows else None,
        why=f"labels entered the loss and {told}, so the trusted rows cannot tell whether the"
        f" labels are right: {have} of {limit.min_rows} fresh rows are labelled by another source",
        have=have,
        need=limit.min_rows,
        ask="rows labelled by another source: more labels of the same one prove nothing",
    )


RULE = GateRule(name="verified", split="fresh", limit=Limit(), judge=judge, requirements=COMPARED)
