"""What happens to an incident after its opening, step by step, in SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import loop
import pytest
import sqlalchemy as sa
from loop import LIMITS, NOW, finding

from redistill.compress.plan import Diagnosis
from redistill.streams.store.tables import outbox, specs
from redistill.times import HOUR, MINUTE
from redistill.workers.errors import UsageError
from redistill.workers.incidents import incident_repository, lifecycle
from redistill.workers.incidents.incident_repository import IncidentRow
from redistill.workers.incidents.model_context import load
from redistill.workers.incidents.remedy import (
    AskPerson,
    Nothing,
    Remedy,
    Repair,
    Wait,
    WaitForLabels,
)
from redistill.workers.store import job_queue
from redistill.workers.store.tables import audit, incidents, jobs


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sa.Connection]:
    database = loop.opened(f"sqlite:///{tmp_path / 'lifecycle.db'}")
    with database.begin() as conn:
        loop.register(conn, loop.spec())
        yield conn
    database.dispose()


def register(conn: sa.Connection, **over: Any) -> None:
    """Register the model anew, with other limits."""
    model = loop.spec(**over)
    conn.execute(sa.update(specs).values(spec=model.to_json(), level=model.level))


def opened(conn: sa.Connection) -> IncidentRow:
    return incident_repository.open_new(
        conn, incident_id=str(uuid4()), model="credit", version="v1", incident_class="harm",
        finding_id=str(finding().finding_id), change=(1, 2), why="harm", actor="a", now=NOW,
    )  # fmt: skip


def apply_policy(conn: sa.Connection, incident: IncidentRow, **over: Any) -> Remedy:
    context = load(conn, "credit")
    assert context is not None
    options: dict[str, Any] = {"actor": "a", "now": NOW} | over
    return lifecycle.apply_policy(conn, incident, context, LIMITS, **options)


def now_of(conn: sa.Connection) -> IncidentRow:
    (row,) = conn.execute(sa.select(incidents)).mappings()
    return dict(row)


def job(conn: sa.Connection) -> job_queue.Job:
    row = conn.execute(sa.select(jobs).order_by(jobs.c.number.desc()).limit(1)).mappings().one()
    return job_queue.job_of(row)


def actions(conn: sa.Connection) -> list[str]:
    return list(conn.execute(sa.select(audit.c.action).order_by(audit.c.seq)).scalars())


def announcements(conn: sa.Connection) -> int:
    return int(conn.execute(sa.select(sa.func.count()).select_from(outbox)).scalar_one())


@pytest.fixture
def repairing(conn: sa.Connection) -> IncidentRow:
    """An incident whose first job was made."""
    apply_policy(conn, opened(conn))
    return now_of(conn)


# --- the policy's word is carried out ---


def test_repair_makes_the_job_of_the_next_attempt(conn: sa.Connection) -> None:
    incident = opened(conn)
    assert isinstance(apply_policy(conn, incident), Repair)
    after, made = now_of(conn), job(conn)
    assert (after["stage"], after["decision"], after["attempt"]) == ("diagnosing", "repair", 1)
    assert made.job_id == job_queue.job_id_of(incident["incident_id"], 1)
    assert (made.state, made.trigger_kind, made.deadline_at) == (
        "queued",
        "incident",
        NOW + 24 * HOUR,
    )
    assert actions(conn)[-1] == "incident.job_made"


def test_person_is_asked_once_for_the_same_reason(conn: sa.Connection) -> None:
    register(conn, approval="on_request")
    apply_policy(conn, opened(conn))
    asked, announced = now_of(conn), announcements(conn)
    assert (asked["stage"], asked["decision"]) == ("awaiting_person", "ask_person")
    apply_policy(conn, asked)
    assert announcements(conn) == announced
    register(conn, approval="paused")
    apply_policy(conn, asked)
    assert announcements(conn) == announced + 1
    assert "paused" in now_of(conn)["why"]


def test_wait_is_announced_once_though_its_reason_counts_minutes(conn: sa.Connection) -> None:
    register(conn, max_jobs_per_day=5)
    incident = opened(conn)
    job_queue.create(
        conn, "old", model="credit", trigger=("incident", "x"), deadline_at=NOW, now=NOW,
        incident_id=incident["incident_id"], state="rejected", outcome={},
    )  # fmt: skip
    assert isinstance(apply_policy(conn, incident), Wait)
    waiting, announced = now_of(conn), announcements(conn)
    assert (waiting["stage"], waiting["decision"]) == ("detected", "wait")
    apply_policy(conn, waiting, now=NOW + MINUTE)
    assert announcements(conn) == announced


def test_approval_is_the_persons_word(conn: sa.Connection) -> None:
    register(conn, approval="on_request")
    apply_policy(conn, opened(conn))
    lifecycle.approve(conn, now_of(conn), LIMITS, actor="cli:ann", now=NOW)
    assert now_of(conn)["stage"] == "diagnosing"
    assert job(conn).state == "queued"


def asked_a_person(conn: sa.Connection, **outcome: Any) -> job_queue.Job:
    """The incident's job ended with a question to a person."""
    register(conn, max_jobs_per_day=1)
    apply_policy(conn, opened(conn))
    conn.execute(sa.update(jobs).values(started_at=NOW))
    asked = job(conn)
    job_queue.finish(conn, asked, "needs_person", outcome=outcome, now=NOW)
    lifecycle.job_ended(
        conn, asked, "needs_person", why="needs a person: trusted rows", fleet_limits=LIMITS,
        actor="w", now=NOW,
    )  # fmt: skip
    return asked


def test_question_to_a_person_is_no_rejection(conn: sa.Connection) -> None:
    asked_a_person(conn, incumbent="v1")
    row = now_of(conn)
    assert (row["stage"], row["decision"]) == ("awaiting_person", "ask_person")
    assert row["why"] == "needs a person: trusted rows"
    assert actions(conn)[-1] == "incident.job_needs_person"


def test_approval_takes_up_the_job_that_asked_though_the_budget_is_spent(
    conn: sa.Connection,
) -> None:
    asked = asked_a_person(conn, incumbent="v1", phase="gate")
    lifecycle.approve(
        conn, now_of(conn), LIMITS, actor="cli:ann", now=NOW, waived={"trusted": "old rows"}
    )
    again = job(conn)
    assert (again.job_id, again.state) == (asked.job_id, "queued")
    assert again.options == {"waived": {"trusted": "cli:ann: old rows"}}
    row = now_of(conn)
    assert (row["stage"], row["attempt"]) == ("repairing", 1)
    assert actions(conn)[-2:] == ["incident.job_taken_up", "job.gates_waived"]


def test_waiver_without_a_job_that_asked_goes_to_a_new_one(conn: sa.Connection) -> None:
    register(conn, approval="on_request")
    apply_policy(conn, opened(conn))
    lifecycle.approve(conn, now_of(conn), LIMITS, actor="cli:ann", now=NOW, waived={"f1": "known"})
    assert job(conn).options == {"waived": {"f1": "cli:ann: known"}}
    assert actions(conn)[-2:] == ["incident.job_made", "job.gates_waived"]


@pytest.mark.parametrize(
    ("over", "says"),
    [({"level": "watch"}, "level watch"), ({"max_jobs_per_day": 0}, "daily budget")],
)
def test_approval_overrides_neither_level_nor_budget(
    conn: sa.Connection, over: dict[str, Any], says: str
) -> None:
    register(conn, **over)
    with pytest.raises(UsageError, match=f"cannot be repaired now: .*{says}"):
        lifecycle.approve(conn, opened(conn), LIMITS, actor="cli:ann", now=NOW)


def test_resolved_or_unregistered_cannot_be_approved(conn: sa.Connection) -> None:
    incident = opened(conn)
    lifecycle.resolve(conn, incident, "person", why="known", actor="a", now=NOW)
    with pytest.raises(UsageError, match="is resolved: known"):
        lifecycle.approve(conn, incident, LIMITS, actor="cli:ann", now=NOW)
    conn.execute(sa.delete(specs))
    with pytest.raises(UsageError, match="not registered any more"):
        lifecycle.approve(conn, incident, LIMITS, actor="cli:ann", now=NOW)


def test_second_job_of_a_model_is_a_defect(conn: sa.Connection, repairing: IncidentRow) -> None:
    context = load(conn, "credit")
    assert context is not None
    with pytest.raises(LookupError, match="another one of credit is live"):
        lifecycle.start_job(conn, repairing, context, Repair("x"), actor="a", now=NOW)


# --- what the child found ---


def diagnosed(conn: sa.Connection, incident: IncidentRow, cause: Any) -> Remedy:
    diagnosis = Diagnosis(
        cause=cause, why="because", student_loss_points=None, teacher_loss_points=None,
        disagreement=None, labelled=40,
    )  # fmt: skip
    return lifecycle.diagnosed(
        conn, incident["incident_id"], diagnosis, LIMITS, job_id=str(uuid4()), actor="a", now=NOW + 1
    )  # fmt: skip


@pytest.mark.parametrize(
    ("cause", "remedy", "stage", "stored"),
    [
        ("compression_gap", Repair, "repairing", "compression_gap"),
        ("unclear", WaitForLabels, "waiting_labels", "unknown"),
        ("concept_change", AskPerson, "awaiting_person", "concept_change"),
        ("data_bug", AskPerson, "awaiting_person", "data_bug"),
        ("none", Nothing, "resolved", "none"),
    ],
)
def test_diagnosis_decides_how_it_goes_on(
    conn: sa.Connection, repairing: IncidentRow, cause: str, remedy: type, stage: str, stored: str
) -> None:
    assert isinstance(diagnosed(conn, repairing, cause), remedy)
    after = now_of(conn)
    assert (after["stage"], after["cause"]) == (stage, stored)
    assert (after["status"], after["resolution"]) == (
        ("resolved", "harmless") if cause == "none" else ("open", None)
    )
    assert actions(conn)[-1] == "incident.diagnosed"


def test_diagnosis_that_says_the_same_again_is_not_announced(
    conn: sa.Connection, repairing: IncidentRow
) -> None:
    diagnosed(conn, repairing, "unclear")
    announced = announcements(conn)
    diagnosed(conn, repairing, "unclear")
    assert announcements(conn) == announced


def test_model_that_was_taken_away_meanwhile_asks_a_person(
    conn: sa.Connection, repairing: IncidentRow
) -> None:
    conn.execute(sa.delete(specs))
    assert isinstance(diagnosed(conn, repairing, "compression_gap"), AskPerson)
    with pytest.raises(LookupError):
        diagnosed(conn, {"incident_id": "gone"}, "compression_gap")


# --- the end, and the job's ends ---


def test_incident_that_ends_cancels_its_job_and_no_other(
    conn: sa.Connection, repairing: IncidentRow
) -> None:
    lifecycle.resolve(conn, repairing, "reverted", why="it went away", actor="a", now=NOW + 1)
    after = now_of(conn)
    assert (after["status"], after["resolution"], after["why"]) == (
        "resolved", "reverted", "it went away",
    )  # fmt: skip
    assert job(conn).state == "cancelled"
    why = "the incident ended: it went away"
    assert job(conn).outcome == {"reasons": [why], "why": why}
    job_queue.create(conn, "m", model="credit", trigger=("actor", "x"), deadline_at=NOW, now=NOW)
    lifecycle.cancel_job(conn, repairing, why="x", now=NOW)
    assert job(conn).state == "queued"


@pytest.mark.parametrize(
    ("state", "stage", "decision", "action"),
    [
        ("succeeded", "guarding", "repair", "incident.published"),
        ("failed", "awaiting_person", "ask_person", "incident.job_failed"),
        ("expired", "awaiting_person", "ask_person", "incident.job_expired"),
        ("cancelled", "detected", "wait", "incident.job_cancelled"),
    ],
)
def test_end_of_the_job_moves_its_incident(
    conn: sa.Connection, repairing: IncidentRow, state: str, stage: str, decision: str, action: str
) -> None:
    lifecycle.job_ended(
        conn, job(conn), state, why="so", fleet_limits=LIMITS, actor="a", now=NOW + 1
    )
    after = now_of(conn)
    assert (after["stage"], after["decision"], after["why"]) == (stage, decision, "so")
    assert actions(conn)[-1] == action


def rejected(conn: sa.Connection) -> None:
    made = job(conn)
    job_queue.finish(conn, made, "rejected", outcome={}, now=NOW + 1)
    lifecycle.job_ended(
        conn, made, "rejected", why="worse", fleet_limits=LIMITS, actor="a", now=NOW + 1
    )


def test_rejected_candidate_is_followed_by_the_cool_down(
    conn: sa.Connection, repairing: IncidentRow
) -> None:
    rejected(conn)
    after = now_of(conn)
    assert (after["stage"], after["decision"]) == ("detected", "wait")
    assert after["why"].startswith("the candidate was rejected: worse; cool-down")


def test_second_rejected_candidate_asks_a_person(
    conn: sa.Connection, repairing: IncidentRow
) -> None:
    rejected(conn)
    apply_policy(conn, now_of(conn), now=NOW + 2 * HOUR)
    assert job(conn).attempt == 2
    rejected(conn)
    after = now_of(conn)
    assert (after["stage"], after["decision"]) == ("awaiting_person", "ask_person")
    assert "circuit breaker" in after["why"]


def test_job_that_nobody_waits_for_moves_nothing(
    conn: sa.Connection, repairing: IncidentRow
) -> None:
    made = job(conn)
    lifecycle.resolve(conn, repairing, "person", why="known", actor="a", now=NOW)
    before = now_of(conn)
    lifecycle.job_ended(conn, made, "failed", why="x", fleet_limits=LIMITS, actor="a", now=NOW + 9)
    lifecycle.job_parked(conn, made, why="x", actor="a", now=NOW + 9)
    lifecycle.cancelled_by_person(conn, made, why="x", actor="a", now=NOW + 9)
    lifecycle.candidate_refused(conn, made, why="x", actor="a", now=NOW + 9)
    assert now_of(conn) == before


def test_job_that_waits_for_labels_is_told_once(
    conn: sa.Connection, repairing: IncidentRow
) -> None:
    lifecycle.job_parked(conn, job(conn), why="7 of 25 rows", actor="a", now=NOW + 1)
    after, announced = now_of(conn), announcements(conn)
    assert (after["stage"], after["decision"]) == ("waiting_labels", "wait_for_labels")
    lifecycle.job_parked(conn, job(conn), why="7 of 25 rows", actor="a", now=NOW + 2)
    assert announcements(conn) == announced


def test_incident_is_told_that_its_job_goes_on_with_another_candidate(
    conn: sa.Connection, repairing: IncidentRow
) -> None:
    lifecycle.job_parked(conn, job(conn), why="7 of 25 rows", actor="a", now=NOW + 1)
    why = "recipe warm was refused (fresh: worse); scratch is next"
    lifecycle.candidate_refused(conn, job(conn), why=why, actor="a", now=NOW + 2)
    after = now_of(conn)
    assert (after["stage"], after["decision"], after["why"]) == ("repairing", "repair", why)
    assert actions(conn)[-1] == "incident.candidate_refused"
    lifecycle.candidate_refused(
        conn, job(conn), why="scratch is left open", actor="a", now=NOW + 3, left_open=True
    )
    assert actions(conn)[-1] == "incident.candidate_left_open"


def test_job_that_a_person_cancelled_leaves_the_incident_to_a_person(
    conn: sa.Connection, repairing: IncidentRow
) -> None:
    lifecycle.cancelled_by_person(conn, job(conn), why="wrong labels", actor="cli:ann", now=NOW + 1)
    after = now_of(conn)
    assert (after["stage"], after["decision"]) == ("awaiting_person", "ask_person")
    assert after["why"].startswith("job 1 was cancelled: wrong labels;")
