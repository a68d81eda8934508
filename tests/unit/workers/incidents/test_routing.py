"""Where a finding belongs: each way through the router, in SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import loop
import pytest
import sqlalchemy as sa
from loop import LIMITS, NOW, finding

from redistill.streams.wire.events import DriftFound
from redistill.times import HOUR, SECOND
from redistill.workers.incidents import incident_repository, lifecycle
from redistill.workers.incidents.incident_repository import IncidentRow
from redistill.workers.incidents.model_context import load
from redistill.workers.incidents.routing import Ingested, Router
from redistill.workers.store.tables import audit, incident_findings, incidents, jobs

DOUBT = {"kind": "confidence", "severity": "info", "harmful": None}
INPUT = {"kind": "input", "severity": "info", "harmful": None}
BROKEN = {"kind": "quality", "severity": "critical", "harmful": None, "scope": "income"}


@dataclass
class Inbox:
    """Routes findings one after the other; time stands until it is moved."""

    conn: sa.Connection
    now: int = NOW

    def route(self, found: DriftFound) -> Ingested:
        """Store a finding as a stream worker does, and route it."""
        loop.store(self.conn, found, now=self.now)
        router = Router(conn=self.conn, fleet_limits=LIMITS, actor="test", now=self.now)
        return router.route(found, load(self.conn, found.model, lock=True))

    def over(self, found: DriftFound, resolution: str = "recovered") -> Ingested:
        """Route the end of a finding."""
        revision = found.revision + 1
        return self.route(
            replace(found, status="resolved", resolution=resolution, revision=revision)
        )

    def incidents(self) -> list[IncidentRow]:
        """All of them, oldest first."""
        query = sa.select(incidents).order_by(incidents.c.opened_at)
        return [dict(row) for row in self.conn.execute(query).mappings()]

    def jobs(self) -> list[str]:
        """States of the jobs, in order."""
        return list(self.conn.execute(sa.select(jobs.c.state).order_by(jobs.c.number)).scalars())

    def attached(self) -> int:
        """How many findings belong to incidents."""
        query = sa.select(sa.func.count()).select_from(incident_findings)
        return int(self.conn.execute(query).scalar_one())


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    database = loop.opened(f"sqlite:///{tmp_path / 'routing.db'}")
    with database.begin() as conn:
        loop.register(conn, loop.spec())
        yield Inbox(conn)
    database.dispose()


def test_harm_opens_an_incident_about_its_version_since_its_change(inbox: Inbox) -> None:
    ingested = inbox.route(finding())
    (incident,) = inbox.incidents()
    assert (ingested.did, ingested.incident_id) == ("opened", incident["incident_id"])
    assert ingested.note.startswith("repair:")
    assert (incident["incident_class"], incident["version"]) == ("harm", "v1")
    assert (incident["change_low"], incident["change_high"]) == (
        NOW - 10 * SECOND,
        NOW - 8 * SECOND,
    )
    assert inbox.jobs() == ["queued"]


def test_id_of_an_incident_follows_from_its_finding(inbox: Inbox) -> None:
    found = finding()
    with inbox.conn.begin_nested() as undone:
        first = inbox.route(found)
        undone.rollback()
    assert inbox.route(found).incident_id == first.incident_id


def test_broken_data_call_a_person_and_never_make_a_job(inbox: Inbox) -> None:
    assert inbox.route(finding(**BROKEN)).did == "opened"
    (incident,) = inbox.incidents()
    assert (incident["incident_class"], incident["stage"], incident["cause"]) == (
        "data_bug", "awaiting_person", "data_bug",
    )  # fmt: skip
    assert inbox.jobs() == []


@pytest.mark.parametrize(
    ("over", "says"),
    [
        ({"harmful": None, "severity": "warning"}, "not established"),
        (INPUT, "input explains and ranks"),
        (DOUBT, "asks for labels"),
        ({"kind": "quality", "severity": "info", "harmful": None}, "quality explains and ranks"),
        ({"model": "unknown"}, "model unknown is not registered"),
        ({"version": "v0"}, "version v0 is not the one that the pointer names (v1)"),
        ({"status": "resolved", "resolution": "recovered"}, "over before"),
    ],
)
def test_what_opens_no_incident_has_its_reason(
    inbox: Inbox, over: dict[str, Any], says: str
) -> None:
    ingested = inbox.route(finding(**over))
    assert (ingested.did, ingested.incident_id) == ("noted", None)
    assert says in ingested.note
    assert inbox.incidents() == []


def test_model_that_has_no_pointer_yet_has_incidents_too(inbox: Inbox) -> None:
    loop.register(inbox.conn, loop.spec("watched", level="watch"), version=None)
    assert inbox.route(finding(model="watched", version="any")).did == "opened"


def test_finding_that_turns_out_harmful_opens_an_incident_later(inbox: Inbox) -> None:
    doubtful = finding(harmful=None, severity="warning")
    assert inbox.route(doubtful).did == "noted"
    worse = finding(finding_id=doubtful.finding_id, revision=1, status="update")
    assert inbox.route(worse).did == "opened"


def test_same_trouble_belongs_to_the_open_incident_and_is_told(inbox: Inbox) -> None:
    first = inbox.route(finding())
    entries = inbox.conn.execute(sa.select(sa.func.count()).select_from(audit)).scalar_one()
    again = inbox.route(finding(scope="slice:region=EU"))
    assert (again.did, again.incident_id) == ("attached", first.incident_id)
    newest = inbox.conn.execute(sa.select(audit.c.action).order_by(audit.c.seq.desc())).scalars()
    assert newest.first() == "incident.finding_attached"
    assert inbox.attached() == 2
    assert inbox.jobs() == ["queued"]
    assert entries < inbox.conn.execute(sa.select(sa.func.max(audit.c.seq))).scalar_one()


def test_trouble_of_another_class_is_another_incident(inbox: Inbox) -> None:
    first, second = inbox.route(finding()), inbox.route(finding(**BROKEN))
    assert second.did == "opened"
    assert first.incident_id != second.incident_id
    assert {i["incident_class"] for i in inbox.incidents()} == {"harm", "data_bug"}


def test_what_opens_nothing_explains_what_is_open(inbox: Inbox) -> None:
    first = inbox.route(finding())
    explains = inbox.route(finding(**INPUT))
    assert (explains.did, explains.incident_id) == ("attached", first.incident_id)


def test_later_revision_belongs_where_the_first_does(inbox: Inbox) -> None:
    found = finding()
    first = inbox.route(found)
    update = inbox.route(replace(found, status="update", revision=1))
    assert (update.did, update.incident_id) == ("noted", first.incident_id)
    assert update.note == f"belongs to incident {first.incident_id}"
    assert inbox.attached() == 1


def test_person_who_ended_an_incident_is_not_called_again_for_the_same_finding(
    inbox: Inbox,
) -> None:
    found = finding()
    inbox.route(found)
    (incident,) = inbox.incidents()
    lifecycle.resolve(inbox.conn, incident, "person", why="known", actor="cli:ann", now=inbox.now)
    update = inbox.route(replace(found, status="update", revision=1))
    assert update.did == "noted"
    assert update.note.endswith("which is resolved")
    assert inbox.incidents()[0]["status"] == "resolved"


def test_harm_that_goes_away_ends_its_incident_and_the_job(inbox: Inbox) -> None:
    found = finding()
    opened = inbox.route(found)
    ended = inbox.over(found)
    assert (ended.did, ended.incident_id) == ("resolved", opened.incident_id)
    (incident,) = inbox.incidents()
    assert (incident["status"], incident["resolution"]) == ("resolved", "reverted")
    assert inbox.jobs() == ["cancelled"]
    assert "is resolved" in inbox.over(replace(found, revision=5)).note


def test_incident_stays_open_while_one_of_its_findings_is(inbox: Inbox) -> None:
    first, second = finding(), finding(scope="slice:region=EU")
    inbox.route(first)
    inbox.route(second)
    assert inbox.over(first).note == "1 findings of it are still open"
    assert inbox.over(second).did == "resolved"


@pytest.mark.parametrize(
    ("resolution", "stage", "says"),
    [
        ("superseded", "diagnosing", "its version was replaced"),
        ("recovered", "guarding", "explained the incident"),  # the new version's labels decide
    ],
)
def test_finding_that_ends_by_a_release_does_not_end_the_incident(
    inbox: Inbox, resolution: str, stage: str, says: str
) -> None:
    found = finding()
    inbox.route(found)
    inbox.conn.execute(sa.update(incidents).values(stage=stage))
    ended = inbox.over(found, resolution)
    assert ended.did == "noted"
    assert says in ended.note
    assert inbox.incidents()[0]["status"] == "open"


def test_end_of_what_only_explained_ends_nothing(inbox: Inbox) -> None:
    inbox.route(finding())
    explains = finding(**INPUT)
    inbox.route(explains)
    assert inbox.over(explains).note == "explained the incident"
    assert inbox.incidents()[0]["status"] == "open"


@pytest.mark.parametrize(
    ("later", "did", "count"), [(HOUR // 2, "reopened", 1), (HOUR + 1, "opened", 2)]
)
def test_trouble_that_comes_back_within_the_cool_down_is_the_same_incident(
    inbox: Inbox, later: int, did: str, count: int
) -> None:
    found = finding()
    inbox.route(found)
    inbox.over(found)
    inbox.now += later
    assert inbox.route(finding(at=inbox.now)).did == did
    assert len(inbox.incidents()) == count
    newest = inbox.incidents()[-1]
    assert (newest["status"], newest["resolved_at"]) == ("open", None)


def test_harm_to_what_was_published_against_an_incident_starts_it_anew(inbox: Inbox) -> None:
    opened = inbox.route(finding())
    inbox.now += SECOND
    loop.point(inbox.conn, "credit", "v2", now=inbox.now)
    again = inbox.route(finding(version="v2", at=inbox.now))
    assert (again.did, again.incident_id) == ("reopened", opened.incident_id)
    (incident,) = inbox.incidents()
    assert (incident["version"], incident["change_low"]) == ("v2", inbox.now - 10 * SECOND)
    assert incident["attempt"] == 2
    assert inbox.jobs() == ["cancelled", "queued"]


def test_open_incident_of_another_model_is_left_alone(inbox: Inbox) -> None:
    loop.register(inbox.conn, loop.spec("other"))
    first = inbox.route(finding(model="other"))
    second = inbox.route(finding())
    assert (second.did, second.incident_id != first.incident_id) == ("opened", True)
    (own,) = incident_repository.open_ones(inbox.conn, "credit")
    assert own["incident_id"] == second.incident_id
