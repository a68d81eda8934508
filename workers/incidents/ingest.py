"""Findings become incidents: each revision of a finding is taken in once, and either belongs to an
incident or has its reason why not.

The ``drift`` event only says where to look: what is believed is the row in SQL. A sweep over rows
that were not yet taken in makes the announcement unnecessary, so a lost, doubled or forged one
changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID, uuid5

import msgspec
import sqlalchemy as sa
import structlog

from redistill.streams.store.database import Database
from redistill.streams.store.tables import findings
from redistill.streams.wire.events import DriftFound, IncidentClass
from redistill.times import microseconds
from redistill.workers.errors import WorkersError
from redistill.workers.incidents import lifecycle, repository
from redistill.workers.incidents.model_context import Rules, Terms, load
from redistill.workers.store.tables import incident_findings, incidents, pointers

log = structlog.get_logger(__name__)

NAMESPACE = UUID("0d9d4c0e-3a51-5b0d-9f0e-6b8f4a1a9a52")

BATCH = 200
"""Findings that one sweep takes in: bounded, the next sweep goes on."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one revision of a finding."""

    finding_id: str
    did: Literal["opened", "reopened", "attached", "resolved", "noted"]
    incident_id: str | None
    note: str


def pending(conn: sa.Connection, limit: int = BATCH) -> list[str]:
    """Findings whose newest revision was not taken in, in the order in which they were stored."""
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


def take_in(
    database: Database,
    finding_id: str | None = None,
    *,
    rules: Rules,
    actor: str,
    clock: Callable[[], int],
) -> list[Taken]:
    """Take in one finding, or all that are pending; each in a transaction of its own.

    Parameters
    ----------
    finding_id
        From a ``drift`` event; ``None``: the sweep.
    rules
        The fleet's limits.
    actor
        Who writes, for the audit chain.
    clock
        Microseconds since 1970.

    Returns
    -------
    list of Taken
        Empty where there was nothing new, or where the finding does not exist (a forged event).
    """
    if finding_id is None:
        with database.read() as conn:
            wanted = pending(conn)
    else:
        wanted = [finding_id]
    taken: list[Taken] = []
    for one in wanted:
        try:
            with database.begin() as conn:
                done = _take(conn, one, rules=rules, actor=actor, now=clock())
        except sa.exc.IntegrityError as error:
            # PostgreSQL: another worker opened the same incident a moment earlier; the sweep
            # attaches the finding to it.
            log.info("intake_raced", action="intake_raced", finding_id=one, error=str(error.orig))
            continue
        except WorkersError as error:  # it stays pending; the others go on
            log.warning("intake_failed", action="intake_failed", finding_id=one, error=str(error))
            continue
        if done is not None:
            say = log.debug if done.did == "noted" else log.info
            say(
                "finding_taken_in",
                action="finding_taken_in",
                finding_id=one,
                incident_id=done.incident_id,
                did=done.did,
                note=done.note,
            )
            taken.append(done)
    return taken


def _take(
    conn: sa.Connection, finding_id: str, *, rules: Rules, actor: str, now: int
) -> Taken | None:
    where = findings.c.finding_id == finding_id
    row = conn.execute(sa.select(findings.c.model).where(where)).one_or_none()
    if row is None:
        log.warning("finding_unknown", action="finding_unknown", finding_id=finding_id)
        return None
    terms = load(conn, row.model, lock=True)
    full = conn.execute(sa.select(findings).where(where).with_for_update()).mappings().one()
    if full["intake_revision"] is not None and full["intake_revision"] >= full["revision"]:
        return None
    try:
        found = msgspec.json.decode(full["body"], type=DriftFound)
    except msgspec.MsgspecError as error:
        done = Taken(finding_id, "noted", None, f"its body cannot be read: {error}")
    else:
        done = _route(conn, found, terms, rules, actor=actor, now=now)
    conn.execute(
        sa.update(findings)
        .where(where)
        .values(intake_revision=full["revision"], intake_note=done.note)
    )
    return done


def class_of(found: DriftFound) -> tuple[IncidentClass | None, str]:
    """The class of incident that a finding may open, or why it opens none."""
    match found.kind:
        case "accuracy" if found.impact.harmful is True and found.impact.basis == "measured":
            return "harm", ""
        case "accuracy":
            return None, "harm is not established by measurement: shown, nobody is called"
        case "quality" if found.severity != "info":
            return "data_bug", ""
        case "calibration" if found.impact.harmful is True:
            return "calibration", ""
        case "latency" if found.impact.harmful is True:
            return "serving", ""
        case "confidence":
            return None, "unusual doubt asks for labels; it opens no incident"
        case _:
            return None, f"{found.kind} explains and ranks; it opens no incident of its own"


def class_when_open(found: DriftFound) -> IncidentClass | None:
    """The class that a resolved finding had while it was open (a resolved one harms nobody)."""
    classes: dict[str, IncidentClass] = {
        "accuracy": "harm",
        "quality": "data_bug",
        "calibration": "calibration",
        "latency": "serving",
    }
    return classes.get(found.kind)


def change_of(found: DriftFound) -> tuple[int, int]:
    """Bounds of the time at which the change began: microseconds since 1970."""
    point = found.change_point
    start, end = (
        (point.low, point.high) if point is not None else (found.window.start, found.window.start)
    )
    return microseconds(start), microseconds(end)


def _route(
    conn: sa.Connection,
    found: DriftFound,
    terms: Terms | None,
    rules: Rules,
    *,
    actor: str,
    now: int,
) -> Taken:
    finding_id = str(found.finding_id)

    def noted(note: str, incident_id: str | None = None) -> Taken:
        return Taken(finding_id, "noted", incident_id, note)

    if terms is None:
        return noted(f"model {found.model} is not registered")
    klass, reason = class_of(found)
    belongs = _incident_of(conn, finding_id, klass or class_when_open(found))
    if found.status == "resolved":
        return _resolved(conn, found, belongs, actor=actor, now=now)
    if belongs is not None and klass in (None, belongs["incident_class"]):
        short = belongs["incident_id"]
        if belongs["status"] == "resolved":
            return noted(f"belongs to incident {short}, which is resolved", short)
        return noted(f"belongs to incident {short}", short)

    stable = conn.execute(
        sa.select(pointers.c.stable).where(pointers.c.model == found.model)
    ).scalar_one_or_none()
    if stable is not None and found.version != stable:
        return noted(f"version {found.version} is not the one that the pointer names ({stable})")

    if klass is None:
        for incident in repository.open_ones(conn, found.model):
            repository.attach(conn, incident["incident_id"], finding_id, now)
            return Taken(finding_id, "attached", incident["incident_id"], "explains the incident")
        return noted(reason)

    for incident in repository.open_ones(conn, found.model):
        if incident["incident_class"] != klass:
            continue
        if incident["version"] != found.version:
            return _moved_on(conn, incident, found, terms, rules, actor=actor, now=now)
        repository.attach(conn, incident["incident_id"], finding_id, now)
        repository.update(conn, incident, actor=actor, action="incident.finding_attached", now=now)
        return Taken(finding_id, "attached", incident["incident_id"], "same trouble")

    did: Literal["opened", "reopened"]
    recent = _recent(conn, found.model, klass, since=now - rules.cool_down)
    if recent is not None:
        incident = repository.reopen(
            conn,
            recent,
            version=found.version,
            finding_id=finding_id,
            change=change_of(found),
            why=f"it came back within the cool-down: {found.reason}",
            actor=actor,
            now=now,
        )
        did = "reopened"
    else:
        incident = repository.open_new(
            conn,
            incident_id=str(uuid5(NAMESPACE, f"{klass}|{finding_id}|{found.revision}")),
            model=found.model,
            version=found.version,
            incident_class=klass,
            finding_id=finding_id,
            change=change_of(found),
            why=found.reason,
            actor=actor,
            now=now,
        )
        did = "opened"
    remedy = lifecycle.consider(conn, incident, terms, rules, actor=actor, now=now)
    return Taken(finding_id, did, incident["incident_id"], f"{remedy.decision}: {remedy.why}")


def _moved_on(
    conn: sa.Connection,
    incident: repository.Row,
    found: DriftFound,
    terms: Terms,
    rules: Rules,
    *,
    actor: str,
    now: int,
) -> Taken:
    """What was published against an incident is harmed as well: the incident is about it now."""
    lifecycle.cancel_job(conn, incident, why=f"harm on {found.version}", now=now)
    why = f"the version that replaced {incident['version']} is harmed as well: {found.reason}"
    incident = repository.reopen(
        conn,
        incident,
        version=found.version,
        finding_id=str(found.finding_id),
        change=change_of(found),
        why=why,
        actor=actor,
        now=now,
    )
    remedy = lifecycle.consider(conn, incident, terms, rules, actor=actor, now=now)
    note = f"{remedy.decision}: {remedy.why}"
    return Taken(str(found.finding_id), "reopened", incident["incident_id"], note)


def _incident_of(
    conn: sa.Connection, finding_id: str, klass: IncidentClass | None
) -> repository.Row | None:
    """The incident that a finding belongs to: best one of this class, best an open one."""
    row = (
        conn.execute(
            sa.select(incidents)
            .join(incident_findings, incident_findings.c.incident_id == incidents.c.incident_id)
            .where(incident_findings.c.finding_id == finding_id)
            .order_by(
                sa.case((incidents.c.incident_class == (klass or ""), 0), else_=1),
                sa.case((incidents.c.open_mark == 1, 0), else_=1),
                incidents.c.opened_at.desc(),
            )
            .limit(1)
        )
        .mappings()
        .one_or_none()
    )
    return None if row is None else dict(row)


def _recent(
    conn: sa.Connection, model: str, klass: IncidentClass, *, since: int
) -> repository.Row | None:
    """The last incident of this class, if it was resolved after ``since``."""
    row = (
        conn.execute(
            sa.select(incidents)
            .where(
                incidents.c.model == model,
                incidents.c.incident_class == klass,
                incidents.c.status == "resolved",
                incidents.c.resolved_at > since,
            )
            .order_by(incidents.c.resolved_at.desc())
            .limit(1)
        )
        .mappings()
        .one_or_none()
    )
    return None if row is None else dict(row)


def _resolved(
    conn: sa.Connection,
    found: DriftFound,
    belongs: repository.Row | None,
    *,
    actor: str,
    now: int,
) -> Taken:
    finding_id = str(found.finding_id)
    if belongs is None:
        return Taken(finding_id, "noted", None, "it was over before anything had to be done")
    incident_id = belongs["incident_id"]
    if belongs["status"] == "resolved":
        return Taken(finding_id, "noted", incident_id, f"incident {incident_id} is resolved")
    if found.resolution == "superseded":
        note = "its version was replaced: the incident ends when the new one is seen to do well"
        return Taken(finding_id, "noted", incident_id, note)
    if class_when_open(found) != belongs["incident_class"] or belongs["stage"] == "guarding":
        return Taken(finding_id, "noted", incident_id, "explained the incident")
    still = conn.execute(
        sa.select(sa.func.count())
        .select_from(
            findings.join(
                incident_findings, incident_findings.c.finding_id == findings.c.finding_id
            )
        )
        .where(
            incident_findings.c.incident_id == incident_id,
            findings.c.finding_id != finding_id,
            findings.c.kind == found.kind,
            findings.c.status != "resolved",
        )
    ).scalar_one()
    if still:
        return Taken(finding_id, "noted", incident_id, f"{still} findings of it are still open")
    lifecycle.resolve(
        conn,
        belongs,
        "reverted",
        why=f"it went away without a release: {found.reason}",
        actor=actor,
        now=now,
    )
    return Taken(finding_id, "resolved", incident_id, "the incident ended: it went away by itself")
