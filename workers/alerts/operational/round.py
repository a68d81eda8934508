"""Round of the operational checks: look at everything once, write down what opened and ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from redistill.streams.errors import StoreUnavailable
from redistill.streams.store import process_rows, properties
from redistill.streams.store.database import Database
from redistill.workers.alerts.operational import book
from redistill.workers.alerts.operational.checks.silent_processes import missed_no_more
from redistill.workers.alerts.operational.history import History
from redistill.workers.alerts.operational.look import Check, Look
from redistill.workers.alerts.operational.reading import Reading, settle
from redistill.workers.alerts.operational.table import CHECKS
from redistill.workers.errors import WorkersError
from redistill.workers.settings.settings import Settings

__all__ = ["Changes", "run"]

log = structlog.get_logger(__name__)

HISTORY = "operational_history"
"""Of the property."""


class ChecksFailed(WorkersError):
    """Most operational checks fail: a look at the installation that saw next to nothing."""

    retriable = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """What one round changed: kind and subject of each alert."""

    opened: tuple[tuple[str, str], ...]
    ended: tuple[tuple[str, str], ...]

    def __bool__(self) -> bool:
        return bool(self.opened or self.ended)


def run(database: Database, settings: Settings, now: int) -> Changes:
    """Look at everything once. One process does it at a time (the lease ``alerts``); two would do
    no harm but half the memory of trends.

    Parameters
    ----------
    now
        Microseconds since 1970 by the database's clock.

    Returns
    -------
    Changes
        True when somebody has to be told.

    Raises
    ------
    StoreUnavailable
        The database is away: nothing was changed.
    ChecksFailed
        Most checks could not look, so nobody knows whether the installation is in order. What the
        others found was written down.
    """
    with database.read() as conn:
        history = History.from_json(properties.get(conn, HISTORY))
    history.begin(now)
    found = {
        kind: _readings(database, settings, history, now, kind, known.check)
        for kind, known in CHECKS.items()
    }
    history.end()
    opened: list[tuple[str, str]] = []
    ended: list[tuple[str, str]] = []
    with database.begin() as conn:
        properties.put(conn, HISTORY, history.to_json())
        for kind, readings in found.items():
            settled = settle(readings, book.opened(conn, kind))
            severity = CHECKS[kind].severity
            began, over = book.enter(conn, kind, settled, severity=severity, now=now)
            opened += [(kind, subject) for subject in began]
            ended += [(kind, subject) for subject in over]
        if gone := missed_no_more(process_rows.seen(conn), now):
            process_rows.forget(conn, gone)
    _log(opened, ended, found)
    failed = [kind for kind in found if f"failed:{kind}" in history.since]
    if 2 * len(failed) > len(found):
        raise ChecksFailed(f"{len(failed)} of {len(found)} operational checks fail")
    return Changes(opened=tuple(opened), ended=tuple(ended))


def _readings(
    database: Database, settings: Settings, history: History, now: int, kind: str, check: Check
) -> Sequence[Reading] | None:
    """Of one check; one that fails says nothing, holds up none of the others, and is said once."""
    failed = f"failed:{kind}"
    try:
        with database.read() as conn:
            found = check(Look(conn=conn, settings=settings, now=now, history=history))
    except StoreUnavailable:
        raise
    except Exception:  # a defect in one check stops no other
        if history.begins(failed, now):
            log.exception("check_failed", action="check_failed", kind=kind)
        history.keep("")
        return None
    history.lasted(failed, False, now)
    return found


def _log(
    opened: list[tuple[str, str]],
    ended: list[tuple[str, str]],
    found: dict[str, Sequence[Reading] | None],
) -> None:
    for kind, subject in opened:
        reading = next(r for r in found[kind] or () if r.subject == subject)
        log.warning(
            "operational_alert",
            action="operational_alert",
            kind=kind,
            subject=subject,
            said=reading.said,
            remedy=reading.remedy,
        )
    for kind, subject in ended:
        log.info(
            "operational_alert_ended",
            action="operational_alert_ended",
            kind=kind,
            subject=subject,
        )
