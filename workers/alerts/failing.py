"""Failing channels: trouble of the installation that is told on the other channels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

from redistill.streams.store.database import Database
from redistill.workers.alerts.alert import CHANNEL_FAILING
from redistill.workers.alerts.delivery import FAILING_TRIES
from redistill.workers.alerts.operational import book
from redistill.workers.store import alert_deliveries
from redistill.workers.store.alert_deliveries import Delivery

__all__ = ["failing", "tell_failing"]


def failing(rows: Iterable[Delivery]) -> dict[str, str]:
    """Channels that fail, each with a sentence that says how. Pure.

    One fails after ``FAILING_TRIES`` tries in a row that all failed, of one alert or of several.
    """
    tries: dict[str, list[Delivery]] = defaultdict(list)
    for row in rows:
        if row.tries and row.state in ("owed", "given_up"):
            tries[row.channel].append(row)
    out = {}
    for name, those in tries.items():
        count = sum(row.tries for row in those)
        if count < FAILING_TRIES:
            continue
        last = max(those, key=lambda row: row.tries)
        waits = "1 alert" if len(those) == 1 else f"{len(those):,} alerts"
        out[name] = f"channel {name} does not deliver: {waits} after {count:,} tries: {last.error}"
    return out


def tell_failing(database: Database, channels: Collection[str], *, now: int) -> None:
    """Open, tell anew and end the operational alerts about channels that fail.

    Parameters
    ----------
    channels
        Names in ``alerts.toml``: one that is there no more is no trouble.
    """
    with database.read() as conn:
        rows = alert_deliveries.read(conn, since=now).values()
        known = book.opened(conn, CHANNEL_FAILING)
    found = failing(row for row in rows if row.channel in channels)
    if not found and not known:
        return
    with database.begin() as conn:
        for name, said in found.items():
            book.open_alert(
                conn,
                CHANNEL_FAILING,
                name,
                severity="page",
                said=said,
                remedy=f"redistill alerts test {name}",
                now=now,
            )
        for name in known - set(found):
            book.resolve(conn, CHANNEL_FAILING, name, now=now)
