"""Log lines of changes of incidents, beside the ``incident.v1`` event with the same words. People
are told by the alert process (``redistill.workers.alerts``), from SQL."""

from __future__ import annotations

from typing import Any

import structlog

__all__ = ["log_change"]

log = structlog.get_logger(__name__)

PAGES = frozenset({"ask_person"})
"""Decisions that need a person now."""


def log_change(
    *, incident_id: str, model: str, status: str, decision: str | None, why: str
) -> None:
    """Log one change of an incident; a line of level *warning* is meant to wake somebody."""
    fields: dict[str, Any] = {
        "action": "incident_" + status,
        "incident_id": incident_id,
        "model": model,
        "decision": decision,
        "why": why,
    }
    if decision in PAGES and status != "resolved":
        log.warning("incident_needs_a_person", **fields)
    else:
        log.info("incident_changed", **fields)
