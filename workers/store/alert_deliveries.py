"""Deliveries: what each channel was told of each alert, and what it is still owed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import sqlalchemy as sa

from redistill.streams.store.database import insert_ignore, upsert
from redistill.workers.store.tables import alert_deliveries

__all__ = ["PLANNED", "Delivery", "delete", "note", "plan", "read"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """Of one alert to one channel; times are microseconds since 1970."""

    channel: str
    alert_key: str
    state: Literal["owed", "held", "told", "given_up"]
    """``held``: quiet hours, a snooze or a storm keep it back for now."""
    digest: str
    """Of what it is owed (``redistill.workers.alerts.delivery.telling``)."""
    told: str | None = None
    """The digest that it was told last."""
    told_state: Literal["firing", "acknowledged", "resolved"] | None = None
    title: str
    severity: Literal["page", "warn", "info"]
    since: int
    """Since when it is open at this severity."""
    tries: int = 0
    """Failed ones in a row."""
    not_before: int
    wanted_at: int
    """Since when it is owed something."""
    sent_at: int | None = None
    error: str | None = None
    """Of the last failed try."""

    @property
    def told_open(self) -> bool:
        """Whether the channel believes that it fires, and so has to hear of its end."""
        return self.told_state in ("firing", "acknowledged")


def read(conn: sa.Connection, *, since: int = 0) -> dict[tuple[str, str], Delivery]:
    """Deliveries by channel and key of the alert.

    Parameters
    ----------
    since
        Of those that ended, only those told after this time; microseconds since 1970.
    """
    c = alert_deliveries.c
    open_ = sa.or_(c.told_state.is_(None), c.told_state != "resolved", c.state != "told")
    rows = conn.execute(sa.select(alert_deliveries).where(sa.or_(open_, c.sent_at > since)))
    return {(row["channel"], row["alert_key"]): Delivery(**row) for row in rows.mappings()}


PLANNED = ("state", "digest", "title", "severity", "since", "not_before", "wanted_at")
"""Columns that a plan writes; the others are of the thread that tells the channel."""


def plan(conn: sa.Connection, rows: Iterable[Delivery]) -> None:
    """Store what channels are owed; what they were told stays as it was noted meanwhile."""
    values = [asdict(row) for row in rows]
    if values:
        keys = ["channel", "alert_key"]
        conn.execute(upsert(alert_deliveries, keys, update=PLANNED), values)


def note(conn: sa.Connection, row: Delivery) -> None:
    """Store what came of a try; what the channel is owed by now stays as it was planned."""
    c = alert_deliveries.c
    same = c.digest == row.digest
    values: dict[str, Any] = {"tries": row.tries, "not_before": row.not_before, "error": row.error}
    values["state"] = sa.case((same, row.state), else_=c.state)
    if row.state == "told":
        values |= {"told": row.told, "told_state": row.told_state, "sent_at": row.sent_at}
    mine = sa.and_(c.channel == row.channel, c.alert_key == row.alert_key)
    done = conn.execute(sa.update(alert_deliveries).where(mine).values(values))
    if not done.rowcount and row.state == "told":  # its end has to be told as well
        conn.execute(insert_ignore(alert_deliveries).values(**asdict(row)))


def delete(conn: sa.Connection, keys: Iterable[tuple[str, str]]) -> None:
    """Forget deliveries by channel and key of the alert."""
    c = alert_deliveries.c
    for channel, key in keys:
        conn.execute(sa.delete(alert_deliveries).where(c.channel == channel, c.alert_key == key))
