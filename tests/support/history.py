"""A small history in which everything happened that can happen, and ways to break it."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import loop
import sqlalchemy as sa

from redistill.streams.store import lease
from redistill.streams.store.database import Database
from redistill.streams.store.findings import store_findings
from redistill.streams.store.tables import accuracy_states, findings, gaps, offsets, outcomes
from redistill.streams.store.tables import outbox as outbox_table
from redistill.streams.wire.events import Detector, DriftFound, Impact, Statistic, Window
from redistill.times import DAY, utc
from redistill.workers.invariants.rule import Part, Rule, RuleInput, RuleResult
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.store import audit
from redistill.workers.store.tables import (
    activations,
    fresh_tests,
    incident_findings,
    incidents,
    job_steps,
    jobs,
    pointer_history,
    pointers,
    versions,
)

NOW = 1_790_000_000_000_000
FINDING = uuid.UUID("8a0e8f0e-0000-5000-8000-000000000001")
INCIDENT, JOB = "11111111-aaaa", "22222222-bbbb"
Change = Callable[[sa.Connection], None]
Breaks = Mapping[str, tuple[int, str, Change]]
"""By what was done: the rule that has to notice, words of its violation, and the change."""
BYTES = {"v1": b"first model", "r1-x": b"second model"}
SHA = {v: hashlib.sha256(b).hexdigest() for v, b in BYTES.items()}


def finding(revision: int = 0) -> DriftFound:
    at = utc(NOW)
    return DriftFound(
        finding_id=FINDING,
        model="credit",
        version="v1",
        status="open",
        severity="critical",
        kind="accuracy",
        detector=Detector(name="harm"),
        statistic=Statistic(value=1200.0, threshold=1000.0),
        window=Window(start=at, end=at, rows=100, labelled=20),
        impact=Impact(
            metric="accuracy",
            reference=0.95,
            current=0.6,
            low=0.5,
            high=0.7,
            basis="measured",
            n=20,
            harmful=True,
        ),
        reason="error 5% -> 40%",
        opened_at=at,
        at=at,
        revision=revision,
    )


def report(version: str, *, mode: str = "repair") -> str:
    judged = {"name": "static_int8", "sha256": SHA[version]}
    return json.dumps(
        {
            "mode": mode,
            "policy_sha256": "p" * 64,
            "chosen": None if mode == "baseline" else "static_int8",
            "variants": [] if mode == "baseline" else [judged],
            "incumbent": judged if mode == "baseline" else None,
            "gates": [{"name": "fresh", "limit": 200.0, "passed": True}],
            "recipe": 1,
            "faced": mode != "baseline",
        }
    )


def put(conn: sa.Connection, table: sa.Table, **values: Any) -> None:
    conn.execute(sa.insert(table).values(**values))


def fill(database: Database, home: Path, topic_id: str = "t1") -> None:
    """A small history in which everything happened that can happen."""
    with database.begin() as conn:
        put(
            conn, offsets, topic_id=topic_id, partition=0, topic="predictions", first_offset=10,
            next_offset=110, counted=90, dead=2, skipped=8, rows=900, updated_at=NOW,
        )  # fmt: skip
        put(
            conn,
            gaps,
            topic_id=topic_id,
            partition=0,
            topic="predictions",
            first=20,
            last=24,
            found_at=NOW,
        )
        for seq in range(1, 21):
            put(
                conn, outcomes, model="credit", version="v1", seq=seq, id_hash=seq, id=str(seq), correct=1,
                prediction="a", label="a", served_at=NOW, observed_at=NOW, source="s", uniform=True, made_at=NOW,
            )  # fmt: skip
        put(
            conn, accuracy_states, model="credit", version="v1", state=b"", last_seq=20, n=20,
        )  # fmt: skip
        for i in range(2):
            put(
                conn, outbox_table, event_id=f"d{i}", topic="dlq", key="", headers=json.dumps({"ce_id": f"d{i}"}), value=b"",
                created_at=NOW,
            )  # fmt: skip
        store_findings(conn, [finding()], now=NOW)
        conn.execute(sa.update(findings).values(intake_revision=0, intake_note="opened"))
        put(
            conn, incidents, incident_id=INCIDENT, model="credit", version="v1", incident_class="harm",
            status="resolved", stage="resolved", why="repair: compression gap", attempt=1, split_salt="s",
            opened_at=NOW, updated_at=NOW, resolved_at=NOW, resolution="recovered", open_mark=None,
        )  # fmt: skip
        put(conn, incident_findings, incident_id=INCIDENT, finding_id=str(FINDING), attached_at=NOW)
        put(
            conn, jobs, job_id=JOB, number=1, model="credit", incident_id=INCIDENT, attempt=1,
            trigger_kind="incident", trigger_id=INCIDENT, state="succeeded", options="{}", tries=1,
            not_before=NOW, deadline_at=NOW, created_at=NOW, live_mark=None,
        )  # fmt: skip
        put(
            conn, fresh_tests, incident_id=INCIDENT, number=1, sha256=SHA["r1-x"], version="v1",
            since=0, recipe="warm", job_id=JOB, e_value=200.0, at=NOW,
        )  # fmt: skip
        lease.acquire(conn, f"job:{JOB}", "w1", now=NOW, seconds=1)
        lease.acquire(conn, f"job:{JOB}", "w2", now=NOW + DAY, seconds=1)
        for i, (name, token) in enumerate([("train", 1), ("gate", 2), ("publish", 2)]):
            put(conn, job_steps, job_id=JOB, name=name, state="done", token=token, at=NOW + i)
        for i, (version, kind, job) in enumerate(
            [("v1", "baseline", None), ("r1-x", "repaired", JOB)]
        ):
            path = RepositoryLayout(home).path("credit", "model.onnx", SHA[version])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(BYTES[version])
            mode = "baseline" if kind == "baseline" else "repair"
            predecessor = None if kind == "baseline" else "v1"
            put(
                conn, versions, model="credit", version=version, sha256=SHA[version], manifest_sha256="m" * 64,
                kind=kind, status="published", report=report(version, mode=mode), gate_passed=True,
                files=json.dumps({"model.onnx": {"sha256": SHA[version], "bytes": len(BYTES[version])}}),
                policy_sha256="p" * 64, job_id=job, predecessor=predecessor, created_at=NOW,
                published_at=NOW,
            )  # fmt: skip
            put(
                conn, pointer_history, model="credit", epoch=i + 1, stable=version, sha256=SHA[version],
                change="publish", reason="r", trigger="{}", at=NOW + i * DAY,
            )  # fmt: skip
        put(
            conn,
            pointers,
            model="credit",
            stable="r1-x",
            epoch=2,
            reason="r",
            moved_at=NOW,
            announced_at=NOW,
        )
        for i, (version, epoch) in enumerate([("v1", 1), ("r1-x", 2)]):
            put(
                conn, activations, event_id=str(i), model="credit", instance_id="svc", version=version,
                sha256=SHA[version], epoch=epoch, at=NOW + i * DAY + 1,
            )  # fmt: skip
        put(
            conn, activations, event_id="f", model="credit", instance_id="svc", version="fallback",
            sha256="0" * 64, epoch=0, at=NOW,
        )  # fmt: skip
        conn.execute(sa.update(outbox_table).values(sent_at=NOW))
        audit.append(conn, "cli:me", "model.registered", "credit", {}, NOW)
        audit.append(conn, "cli:me", "release.publish", "credit", {}, NOW)


def set_(table: sa.Table, *where: Any, **values: Any) -> Change:
    def change(conn: sa.Connection) -> None:
        assert conn.execute(sa.update(table).where(*where).values(**values)).rowcount

    return change


def remove(table: sa.Table, *where: Any) -> Change:
    def change(conn: sa.Connection) -> None:
        assert conn.execute(sa.delete(table).where(*where)).rowcount

    return change


def add(table: sa.Table, **values: Any) -> Change:
    return lambda conn: put(conn, table, **values)


def both(*changes: Change) -> Change:
    def change(conn: sa.Connection) -> None:
        for one in changes:
            one(conn)

    return change


def holds(database: Database, home: Path, rule: Rule) -> RuleResult:
    """What a rule finds in the history, two days later, without a broker."""
    with database.read() as conn:
        inputs = RuleInput(conn=conn, now=NOW + 2 * DAY, home=home, outbox_kept_us=7 * DAY)
        return rule.check(inputs).settled(None)


def own(number: int, *parts: Part) -> Rule:
    """A rule of some parts only: the history is made up, and others ask for more than it has."""
    return Rule(number=number, text="", parts=parts)


class RuleChecks:
    """What has to be true of every table of rules; a test class of each module names its own."""

    RULES: ClassVar[Sequence[Rule]]
    BREAKS: ClassVar[Breaks]

    def test_broken_invariant_is_reported(
        self, database: Database, tmp_path: Path, broken: tuple[int, str, Change]
    ) -> None:
        number, expected, change = broken
        with database.begin() as conn:
            change(conn)
        (rule,) = (rule for rule in self.RULES if rule.number == number)
        found = holds(database, tmp_path, rule)
        assert any(expected in sentence for sentence in found.violations), found.violations

    def test_untouched_history_holds(self, database: Database, tmp_path: Path, rule: Rule) -> None:
        assert holds(database, tmp_path, rule).violations == []

    def test_empty_database_holds(self, tmp_path: Path, rule: Rule) -> None:
        empty = loop.opened(f"sqlite:///{tmp_path / 'empty.db'}")
        assert holds(empty, tmp_path, rule).violations == []
        empty.dispose()

    def test_every_rule_was_broken(self) -> None:
        assert {number for number, _, _ in self.BREAKS.values()} == {r.number for r in self.RULES}
