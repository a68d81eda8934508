"""Signing refused: rows, audit and anchor do not agree, so the repository writer signs nothing."""

from __future__ import annotations

from collections.abc import Sequence

from redistill.workers.alerts.operational.look import Look
from redistill.workers.alerts.operational.reading import Reading
from redistill.workers.alerts.operational.words import duration
from redistill.workers.store import signing_refusal

__all__ = ["refused"]


def refused(look: Look) -> Sequence[Reading]:
    """What was refused, while it is so, and a day long where it was one request."""
    found = signing_refusal.get(look.conn)
    if found is None or not found.lasts(look.now):
        return []
    lasted = duration(max(0, look.now - found.since))
    said = f"nothing has been signed for {lasted}"
    if found.until is not None:
        said = f"something was refused {lasted} ago"
    return [
        Reading(
            subject="repository",
            value=1.0,
            opens=1.0,
            closes=0.0,
            said=f"{said}: {found.why}",
            remedy=found.remedy,
        )
    ]
