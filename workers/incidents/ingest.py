"""Ingest of findings: each revision of a finding is routed once, and either belongs to an incident
or has its reason why not.

The ``drift`` event only says where to look: what is believed is the row in SQL. Reading the rows
that were not yet ingested makes the announcement unnecessary, so a lost, doubled or forged one
changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import sqlalchemy as sa
import structlog

from redistill.streams.store.database import Database
from redistill.streams.store.tables import findings
from redistill.streams.wire.events import DriftFound
from redistill.workers.errors import WorkersError
from redistill.workers.incidents.model_context import FleetLimits, load
from redistill.workers.incidents.routing import Ingested, Router

__all__ = ["ingest", "pending"]

log = structlog.get_logger(__name__)

BATCH = 200
"""Findings of one round: bounded, the next round goes on."""


def pending(conn: sa.Connection, limit: int = BATCH) -> list[str]:
    """Findings whose newest revision was not ingested, in the order in which they were stored."""
    query = (
        sa.select(findings.c.finding_id)
        .where(
            sa.or_(
                findings.c.intake_revision.is_(None),
                findings.c.intake_revision < findings.c.revision,
            )
        )
        .order_by(findings.c.stored_at, findings.c.opened_at, findings.c.finding_id)
        .limit(limit)
    )
    return list(conn.execute(query).scalars())


def ingest(
    database: Database,
    finding_id: str | None = None,
    *,
    fleet_limits: FleetLimits,
    actor: str,
    clock: Callable[[], int],
) -> list[Ingested]:
    """Ingest one finding, or all that are pending; each in a transaction of its own.

    Parameters
    ----------
    finding_id
        From a ``drift`` event; ``None``: all that are pending.
    fleet_limits
        For the cool-down, and for the policy where an incident opens.
    actor
        Who writes, for the audit chain.
    clock
        Microseconds since 1970.

    Returns
    -------
    list of Ingested
        Empty where there was nothing new, or where the finding does not exist (a forged event).
    """
    if finding_id is None:
        with database.read() as conn:
            wanted = pending(conn)
    else:
        wanted = [finding_id]
    done: list[Ingested] = []
    for wanted_id in wanted:
        try:
            with database.begin() as conn:
                ingested = _ingest_one(
                    conn, wanted_id, fleet_limits=fleet_limits, actor=actor, now=clock()
                )
        except sa.exc.IntegrityError as error:
            # PostgreSQL: another worker opened the same incident a moment earlier; the next round
            # attaches the finding to it.
            log.info(
                "ingest_raced", action="ingest_raced", finding_id=wanted_id, error=str(error.orig)
            )
            continue
        except WorkersError as error:  # it stays pending; the others go on
            log.warning(
                "ingest_failed", action="ingest_failed", finding_id=wanted_id, error=str(error)
            )
            continue
        if ingested is not None:
            say = log.debug if ingested.did == "noted" else log.info
            say(
                "finding_ingested",
                action="finding_ingested",
                finding_id=wanted_id,
                incident_id=ingested.incident_id,
                did=ingested.did,
                note=ingested.note,
            )
            done.append(ingested)
    return done


def _ingest_one(
    conn: sa.Connection, finding_id: str, *, fleet_limits: FleetLimits, actor: str, now: int
) -> Ingested | None:
    """Route a finding under its model's lock, and write down what became of it."""
    where = findings.c.finding_id == finding_id
    model = conn.execute(sa.select(findings.c.model).where(where)).scalar_one_or_none()
    if model is None:
        log.warning("finding_unknown", action="finding_unknown", finding_id=finding_id)
        return None
    context = load(conn, model, lock=True)
    row = conn.execute(sa.select(findings).where(where).with_for_update()).mappings().one()
    if row["intake_revision"] is not None and row["intake_revision"] >= row["revision"]:
        return None
    try:
        finding = msgspec.json.decode(row["body"], type=DriftFound)
    except msgspec.MsgspecError as error:
        ingested = Ingested(finding_id, "noted", None, f"its body cannot be read: {error}")
    else:
        router = Router(conn=conn, fleet_limits=fleet_limits, actor=actor, now=now)
        ingested = router.route(finding, context)
    conn.execute(
        sa.update(findings)
        .where(where)
        .values(intake_revision=row["revision"], intake_note=ingested.note)
    )
    return ingested
