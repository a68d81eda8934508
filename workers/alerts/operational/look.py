"""Look: what a check may use, and what a check is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
import structlog

from redistill.workers.alerts.operational.history import History
from redistill.workers.alerts.operational.reading import Reading
from redistill.workers.settings.settings import Settings

__all__ = ["Check", "Look"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """One look at the installation."""

    conn: sa.Connection
    """A transaction that reads."""
    settings: Settings
    now: int
    """Microseconds since 1970 by the database's clock."""
    history: History

    def unreadable(self, what: str, row: str) -> None:
        """Say once, for as long as it is so, that a row cannot be read; the others count.

        Parameters
        ----------
        what
            Which rows these are.
        row
            Which of them it is.
        """
        if self.history.begins(f"unreadable:{what}:{row}", self.now):
            log.error("alert_unreadable", action="alert_unreadable", what=what, row=row)


Check = Callable[[Look], Sequence[Reading] | None]
"""Readings of all its subjects; ``None``: nothing can be known now. It keeps what it wants to
remember in the look's history."""
