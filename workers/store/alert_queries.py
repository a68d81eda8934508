"""Rows that alerts are made of: what is open, what ended lately, and what somebody was told of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa

from redistill.streams.store import properties
from redistill.streams.store.database import insert_ignore
from redistill.streams.store.tables import findings
from redistill.workers.store.tables import (
    alert_deliveries,
    alert_holds,
    incident_findings,
    incidents,
    operational_alerts,
    pointer_history,
    storm_members,
)

__all__ = [
    "begun_at",
    "changes",
    "finding_bodies",
    "forget_storms",
    "is_open",
    "join_storms",
    "live_incidents",
    "live_operational",
    "stamp",
    "storms",
]

BEGUN = "alerts_since"
"""Name of the property that says since when people are told: what happened before is no news."""


def stamp(conn: sa.Connection) -> tuple[Any, ...]:
    """What changes with every row that an alert is made of, and with every hold: cheap to ask."""
    h = alert_holds.c
    last = (
        sa.func.max(incidents.c.updated_at),
        sa.func.max(operational_alerts.c.updated_at),
        sa.func.max(pointer_history.c.at),
        sa.func.max(sa.func.coalesce(h.acknowledged_at, 0) + sa.func.coalesce(h.snoozed_until, 0)),
        sa.func.count(h.alert_key),
    )
    asked = sa.select(*(sa.select(one).scalar_subquery() for one in last))
    return tuple(conn.execute(asked).one())


def _told(kind: str, id_: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Whether some channel believes that an alert fires, or it belongs to a storm that is kept."""
    key = sa.literal(f"{kind}:") + id_
    d = alert_deliveries.c
    believed = sa.select(d.alert_key).where(d.told_state.in_(("firing", "acknowledged")))
    return sa.or_(key.in_(believed), key.in_(sa.select(storm_members.c.alert_key)))


def live_incidents(conn: sa.Connection, since: int) -> list[dict[str, Any]]:
    """Incidents that are open, ended after ``since``, or that a channel believes to be open."""
    i = incidents.c
    live = sa.or_(i.open_mark == 1, i.resolved_at > since, _told("incident", i.incident_id))
    return [dict(row) for row in conn.execute(sa.select(incidents).where(live)).mappings()]


def finding_bodies(conn: sa.Connection, incident_ids: Collection[str]) -> dict[str, list[str]]:
    """Bodies of findings (JSON) by incident, the oldest first."""
    f = incident_findings.c
    rows = conn.execute(
        sa.select(f.incident_id, findings.c.body)
        .join(findings, findings.c.finding_id == f.finding_id)
        .where(f.incident_id.in_(list(incident_ids)))
        .order_by(f.attached_at, f.finding_id)
    )
    out: dict[str, list[str]] = defaultdict(list)
    for incident_id, body in rows:
        out[incident_id].append(body)
    return out


def live_operational(conn: sa.Connection, since: int) -> list[dict[str, Any]]:
    """Operational alerts by the rule of ``live_incidents``."""
    o = operational_alerts.c
    live = sa.or_(o.open_mark == 1, o.resolved_at > since, _told("operational", o.alert_id))
    return [dict(row) for row in conn.execute(sa.select(operational_alerts).where(live)).mappings()]


def changes(conn: sa.Connection, since: int) -> list[dict[str, Any]]:
    """Moves of pointers after ``since``, each with ``before``: what served until then."""
    h, old = pointer_history, pointer_history.alias("old")
    last = sa.and_(old.c.model == h.c.model, old.c.epoch == h.c.epoch - 1)
    query = (
        sa.select(h, old.c.stable.label("before"))
        .join(old, last, isouter=True)
        .where(h.c.at > since)
        .order_by(h.c.at, h.c.model)
    )
    return [dict(row) for row in conn.execute(query).mappings()]


def begun_at(conn: sa.Connection, now: int) -> int:
    """Since when people are told: the first call says that it is now, and so does one that finds
    what cannot be read."""
    found = properties.get(conn, BEGUN)
    if found is None or not found.isdecimal():
        properties.put(conn, BEGUN, str(now))
        return now
    return int(found)


def storms(conn: sa.Connection) -> dict[str, str]:
    """Key of its storm by the key of each member."""
    rows = conn.execute(sa.select(storm_members.c.alert_key, storm_members.c.storm_key))
    return {row.alert_key: row.storm_key for row in rows}


def is_open(conn: sa.Connection, key: str) -> bool:
    """Whether a storm, or trouble with the installation, is known under this key and not over."""
    kind, _, rest = key.partition(":")
    if kind == "operational":
        o = operational_alerts.c
        query = sa.select(o.alert_id).where(o.alert_id == rest, o.open_mark == 1)
    else:
        m = storm_members.c
        query = sa.select(m.alert_key).where(m.storm_key == key).limit(1)
    return conn.execute(query).first() is not None


def join_storms(conn: sa.Connection, joined: Mapping[str, str], now: int) -> None:
    """Note who belongs to which storm; it does not change afterwards."""
    if joined:
        conn.execute(
            insert_ignore(storm_members),
            [{"alert_key": k, "storm_key": s, "joined_at": now} for k, s in joined.items()],
        )


def forget_storms(conn: sa.Connection, keys: Collection[str], before: int) -> None:
    """Forget the members of storms that are over, but for those that joined lately."""
    m = storm_members.c
    if keys:
        gone = sa.and_(m.storm_key.in_(list(keys)), m.joined_at < before)
        conn.execute(sa.delete(storm_members).where(gone))
