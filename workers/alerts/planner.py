"""Planner: one round of the alert process. It reads what is so, decides who is owed what, stores
it, and says what is to be sent.

Only SQL is believed: an event that nobody vouches for can wake a round, and changes nothing else. A
row that cannot be read costs what it would have said, and never what the others say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import sqlalchemy as sa
import structlog

from redistill.streams.store.database import Database
from redistill.times import DAY, HOUR, SECOND
from redistill.workers.alerts import incident_alerts, storms
from redistill.workers.alerts.alert import Alert
from redistill.workers.alerts.alerts_file import AlertsConfig
from redistill.workers.alerts.planning import Facts, Plan, Traits, plan
from redistill.workers.store import alert_deliveries, alert_holds, alert_queries

__all__ = ["AGAIN_US", "LATELY_US", "Planner"]

log = structlog.get_logger(__name__)

LATELY_US = DAY
"""What ended longer ago is told only to those who believe that it goes on."""
AGAIN_US = 2 * SECOND
"""Between two rounds where nothing was written: a thousand open alerts take .2 s of CPU a round."""
STORMS_KEPT_US = HOUR
"""Members of a storm that is over are kept for the message about its end."""


class Planner:
    """Reads, plans and stores.

    Parameters
    ----------
    database
        The installation's.
    public_url
        Where people reach the web process.
    fence
        Called in every transaction that writes: raises where another process has taken over.
    """

    def __init__(
        self,
        database: Database,
        *,
        public_url: str | None,
        fence: Callable[[sa.Connection], None] = lambda conn: None,
    ) -> None:
        self._database, self._url, self._fence = database, public_url, fence
        self._made: dict[str, tuple[Mapping[str, Any], Alert]] = {}
        self._begun: int | None = None
        self._stamp: tuple[Any, ...] = ()
        self._planned_at = 0
        self._said: set[str] = set()
        self._unreadable: set[str] = set()
        self._known_unreadable: set[str] = set()

    def due(self, now: int) -> bool:
        """Whether a round may find anything: something was written since the last one, or that was
        long enough ago for a quiet hour, a snooze or a wait to have ended."""
        with self._database.read() as conn:
            stamp = alert_queries.stamp(conn)
        if stamp == self._stamp and 0 <= now - self._planned_at < AGAIN_US:
            return False
        self._stamp, self._planned_at = stamp, now
        return True

    def reset(self) -> None:
        """The next round is due at once: others planned meanwhile, or channels have changed."""
        self._stamp = ()

    def round(self, config: AlertsConfig, channels: Mapping[str, Traits], *, now: int) -> Plan:
        """Plan what every channel is owed now, and store it.

        Parameters
        ----------
        channels
            Those that can be told.
        """
        facts = self._read(config, now)
        made = plan(facts, config, channels, now=now)
        over = self._storms_over(facts)
        if made.write or made.delete or over:
            with self._database.begin() as conn:
                self._fence(conn)
                alert_deliveries.plan(conn, made.write)
                alert_deliveries.delete(conn, made.delete)
                alert_queries.forget_storms(conn, over, now - STORMS_KEPT_US)
        self._say_unrouted(made)
        return made

    def alerts(self, conn: sa.Connection, now: int) -> list[Alert]:
        """All that is open, that ended lately, or that some channel believes to be open."""
        since = now - LATELY_US
        self._known_unreadable, self._unreadable = self._unreadable, set()
        found = self._incidents(conn, alert_queries.live_incidents(conn, since))
        for row in alert_queries.live_operational(conn, since):
            key = f"operational:{row['alert_id']}"
            found.append(self._first(key, partial(incident_alerts.of_operational, row)))
        begun = now if self._begun is None else self._begun  # what was before is no news
        for row in alert_queries.changes(conn, max(since, begun)):
            ways = [partial(incident_alerts.of_change, r, self._url) for r in (row, _bare(row))]
            found.append(self._first(f"change:{row['model']}:{row['epoch']}", *ways))
        return [alert for alert in found if alert is not None]

    def _read(self, config: AlertsConfig, now: int) -> Facts:
        with self._database.read() as conn:
            found = self.alerts(conn, now)
            members = alert_queries.storms(conn)
            holds = alert_holds.read(conn)
            rows = alert_deliveries.read(conn, since=now - LATELY_US)
        joined = storms.gather(found, members, config.storm)
        if joined or self._begun is None:
            with self._database.begin() as conn:
                self._fence(conn)
                self._begun = alert_queries.begun_at(conn, now)
                alert_queries.join_storms(conn, joined, now)
        return Facts(alerts=found, storms=members | joined, holds=holds, deliveries=rows)

    def _incidents(
        self, conn: sa.Connection, rows: Sequence[Mapping[str, Any]]
    ) -> list[Alert | None]:
        """Alerts of incidents; those that did not change since they were last made are kept."""
        kept = {r["incident_id"]: made for r in rows if (made := self._kept(r)) is not None}
        changed = [r["incident_id"] for r in rows if r["incident_id"] not in kept]
        bodies = alert_queries.finding_bodies(conn, changed) if changed else {}
        out = []
        self._made = {}
        for row in rows:
            number = row["incident_id"]
            alert = kept.get(number) or self._first(
                alert_holds.of_incident(number),
                partial(self._incident, row, bodies.get(number, ())),
                partial(self._of_readable, row, bodies.get(number, ())),
                partial(self._incident, row, ()),
            )
            if alert is not None and alert.key not in self._unreadable:
                self._made[number] = (row, alert)
            out.append(alert)
        return out

    def _incident(self, row: Mapping[str, Any], bodies: Sequence[str]) -> Alert:
        return incident_alerts.of_incident(row, [json.loads(body) for body in bodies], self._url)

    def _of_readable(self, row: Mapping[str, Any], bodies: Sequence[str]) -> Alert:
        """Without those findings of which no alert can be made."""
        readable = []
        for body in bodies:
            with suppress(Exception):  # whatever its body holds, the others say what they say
                self._incident(row, [body])
                readable.append(body)
        return self._incident(row, readable)

    def _first(self, key: str, *ways: Callable[[], Alert]) -> Alert | None:
        """The alert by the first of several ways that works, the one that says most first. A row
        that cannot be read is said in the log once, for as long as it is there."""
        for way in ways:
            try:
                return way()
            except Exception as error:  # whatever it holds, it holds up none of the others
                if key not in self._known_unreadable | self._unreadable:
                    log.error(
                        "alert_unreadable",
                        action="alert_unreadable",
                        alert=key,
                        error=f"{type(error).__name__}: {error}",
                    )
                self._unreadable.add(key)
        return None

    def _kept(self, row: Mapping[str, Any]) -> Alert | None:
        before, alert = self._made.get(row["incident_id"], (None, None))
        return alert if before == row else None

    def _storms_over(self, facts: Facts) -> list[str]:
        """Storms of which no member is open and whose end everybody knows."""
        of = {a.key: a.state for a in facts.alerts}
        living = {s for k, s in facts.storms.items() if of.get(k, "resolved") != "resolved"}
        believed = {key for (_, key), row in facts.deliveries.items() if row.told_open}
        return sorted(set(facts.storms.values()) - living - believed)

    def _say_unrouted(self, made: Plan) -> None:
        """A page that goes nowhere is said in the log, once."""
        for key in made.unrouted:
            if key not in self._said:
                log.warning("alert_unrouted", action="alert_unrouted", alert=key)
        self._said = set(made.unrouted)


def _bare(change: Mapping[str, Any]) -> Mapping[str, Any]:
    """A move of a pointer without what caused it."""
    return {**change, "trigger": "{}"}
