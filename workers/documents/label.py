"""Labels as documents: the requests for them, and what became of each."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.streams.store.label_budget import Budget
from redistill.workers.documents.document import iso
from redistill.workers.store.requested_labels import RequestProgress

__all__ = ["LabelRequestLine", "LabelRequests", "document_of_requests"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelRequestLine:
    """One request for labels."""

    request_id: str
    """A label may name it; by the row's id alone it is found as well."""
    version: str
    """Of whose rows."""
    why: str
    """`harm`, `confidence`, or `slice:COLUMN=VALUE`."""
    asked_at: str
    """When."""
    rows: int
    """Labels that were asked for."""
    answered: int
    """Labels that came."""
    open: int
    """Labels that are still wanted."""
    expired: int
    """Labels that did not come within `[labels] wait_days`."""
    p_include: float
    """Probability of each row to be drawn, of those that could be."""
    cost: float
    """Of all of them, at `[labels] cost`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelRequests:
    """Requests for labels of a model, and its budget of the day (UTC)."""

    model: str
    """Whose."""
    budget: int
    """Labels that may be asked for today."""
    used: int
    """Labels that were asked for today."""
    left: int
    """Labels that may still be asked for today."""
    requests: list[LabelRequestLine]
    """Newest first."""


def document_of_requests(
    model: str, budget: Budget, requests: list[RequestProgress]
) -> LabelRequests:
    """As `redistill label requests MODEL --json` prints it."""
    return LabelRequests(
        model=model,
        budget=budget.allowed,
        used=budget.used,
        left=budget.left,
        requests=[
            LabelRequestLine(
                request_id=r.request_id,
                version=r.version,
                why=r.why,
                asked_at=iso(r.asked_at) or "",
                rows=r.rows,
                answered=r.answered,
                open=r.open,
                expired=r.expired,
                p_include=r.p_include,
                cost=r.cost,
            )
            for r in requests
        ],
    )
