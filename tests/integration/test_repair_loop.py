"""From a finding in SQL to a published release and back, by the real worker, pipeline and
repository.

Nothing listens at the broker's address: all of this has to work without one.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import credit
import loop
import msgspec
import numpy as np
import onnx
import pids
import pytest
import repairable
import sqlalchemy as sa
from repairable import Service
from waiting import eventually

from redistill.compress import remedies
from redistill.compress.plan import Accepted, Gate, read_report
from redistill.files import sha256_of
from redistill.streams.client.fetch import Repository
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.expected_error import ExpectedError
from redistill.streams.store.database import Database
from redistill.streams.store.tables import findings, outbox, profiles, specs
from redistill.streams.wire.events import Trigger
from redistill.times import DAY, MINUTE, SECOND, now_us
from redistill.workers.cli import recompress
from redistill.workers.incidents import incident_repository, lifecycle
from redistill.workers.incidents.model_context import FleetLimits
from redistill.workers.invariants import check
from redistill.workers.jobs.child import Child
from redistill.workers.onboarding import external_version
from redistill.workers.processes.repair_worker import RepairWorker
from redistill.workers.releases import registry
from redistill.workers.releases.package import build_package
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.releases.roles import Lifetimes
from redistill.workers.settings.settings import Settings
from redistill.workers.store import opening
from redistill.workers.store.tables import (
    barred,
    fresh_tests,
    incidents,
    job_steps,
    jobs,
    monitored_releases,
    pauses,
    pointers,
    versions,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp()


@pytest.fixture(scope="module")
def child(base: Path) -> Iterator[Child]:
    with Child.start() as started:
        repairable.template(base, started)
        yield started


class World:
    """One installation, its repair worker and a service."""

    def __init__(self, settings: Settings, child: Child) -> None:
        self.settings = settings
        self.database: Database = opening.open(settings)
        self.rng = np.random.default_rng(1)
        # in the past, and not so far that its announcements, which nobody relays here, wait too
        # long
        self.at = now_us() - 2 * MINUTE
        self.service: Service = repairable.service(self.database, settings)
        self._child = child
        self._stop = threading.Event()
        self.workers: list[RepairWorker] = []

    def start(self, n: int = 1) -> None:
        """Start ``n`` workers."""
        self._stop = threading.Event()
        for _ in range(n):
            worker = RepairWorker(
                self.settings,
                database=self.database,
                broker=self.settings.broker(),
                child=self._child,
                stop=self._stop,
            )
            worker.dependencies.child.close = lambda: None  # type: ignore[method-assign]  # it is shared
            worker.start()
            self.workers.append(worker)

    def stop(self) -> None:
        """Stop them as SIGTERM does."""
        self._stop.set()
        ended = [worker.finish() for worker in self.workers]
        self.workers.clear()
        assert all(ended)

    def serve(self, n: int, *, boom: bool, **over: Any) -> float:
        """Serve ``n`` rows; time goes on."""
        columns = credit.rows(self.rng, n, boom=boom)
        accuracy = self.service.serve(columns, at=self.at, **over)
        self.at += n * 1_000 + SECOND
        return accuracy

    def swap(self) -> str:
        """The service obeys the pointer, from now on."""
        self.service = repairable.service(self.database, self.settings)
        self.at = now_us()
        return self.service.version

    def rows(self, table: sa.Table) -> list[Any]:
        """Every row of a table."""
        with self.database.read() as conn:
            return list(conn.execute(sa.select(table)).mappings())

    def one(self, table: sa.Table) -> Any:
        """The only row of a table."""
        (row,) = self.rows(table)
        return row

    def stable(self) -> str:
        """What the pointer names."""
        return str(self.one(pointers)["stable"])

    def gates(self) -> tuple[Gate, ...]:
        """Of the candidate that was judged."""
        (step,) = (s for s in self.rows(job_steps) if s["name"] == "gate")
        return msgspec.convert(json.loads(step["detail"])["gates"], tuple[Gate, ...])

    def published(self) -> Any:
        """What a client sees in the signed repository."""
        folder = RepositoryLayout(self.settings.root).repository
        trust = (self.settings.keys_folder / "root.json").read_bytes()
        return Repository(folder, trust, cache=self.settings.root / "cache").pointer("credit")

    def job(self, *states: str) -> Any:
        """Wait until the newest job is in one of these states."""

        def newest() -> Any:
            found = [j for j in self.rows(jobs) if j["state"] in states]
            return max(found, key=lambda j: j["number"], default=None)

        return eventually(newest, f"a job that is {' or '.join(states)}: {self.rows(jobs)}")

    def close(self) -> None:
        """End everything."""
        with contextlib.suppress(AssertionError):
            self.stop()
        self.database.dispose()


@pytest.fixture
def world(base: Path, child: Child, tmp_path: Path) -> Iterator[World]:
    home = repairable.copy_of(base, child, tmp_path / "home")
    made = World(repairable.settings_of(home), child)
    yield made
    made.close()


def harm(world: World, *, labels: float = 0.3, rows: int = 1_500) -> None:
    """Usual traffic, then the boom, which the student cannot follow."""
    assert world.serve(1_000, boom=False, label_share=labels) > 0.93
    assert world.serve(rows, boom=True, label_share=labels) < 0.3
    assert [
        json.loads(f["body"])["impact"]["harmful"]
        for f in world.rows(findings)
        if f["kind"] == "accuracy"
    ] == [True]


@pytest.fixture
def postgres_world(base: Path, child: Child, tmp_path: Path, postgres_url: str) -> Iterator[World]:
    home = tmp_path / "home"
    settings = repairable.settings_of(home, postgres_url)
    spec = repairable.template(base, child) / "source" / "model.toml"
    repairable.install(home, spec, child, settings)
    made = World(settings, child)
    yield made
    made.close()


def test_harm_is_repaired_published_guarded_and_recovered(world: World) -> None:
    repaired(world)


@pytest.mark.postgres
def test_two_workers_on_postgresql_make_one_incident_one_job_and_one_release(
    postgres_world: World,
) -> None:
    repaired(postgres_world, workers=2)


def repaired(world: World, *, workers: int = 1) -> None:
    """From harm to recovery."""
    harm(world)
    world.start(workers)
    job = world.job("succeeded", "failed", "rejected", "cancelled")
    assert job["state"] == "succeeded", job["outcome"]

    version = world.stable()
    assert version.startswith("r1-")
    assert [v["version"] for v in world.rows(versions) if v["job_id"]] == [version]
    eventually(lambda: world.published().stable == version, "the signed pointer moved")
    incident = world.one(incidents)
    assert (incident["stage"], incident["cause"]) == ("guarding", "compression_gap")
    steps = {s["name"]: s for s in world.rows(job_steps)}
    assert {"diagnose", "window", "train", "gate", "seal", "publish"} <= steps.keys()
    assert {s["state"] for s in steps.values()} == {"done"}
    assert all(g.passed is not False for g in world.gates())
    profile = next(p for p in world.rows(profiles) if p["version"] == version)
    assert profile["profile"] is not None

    assert world.swap() == version
    # its labels come as fast as others do: more in a burst would not count
    assert world.serve(3_000, boom=True, label_share=0.3, labels_over=10 * MINUTE) > 0.9
    eventually(
        lambda: world.one(monitored_releases)["state"] == "better", "the guard found it better"
    )
    done = eventually(
        lambda: next((i for i in world.rows(incidents) if i["status"] == "resolved"), None),
        f"the incident is resolved: {world.rows(incidents)}",
    )
    assert done["resolution"] == "recovered"
    assert "measured on" in done["why"]
    old = next(f for f in world.rows(findings) if f["version"] == repairable.BASELINE)
    assert old["status"] == "resolved"
    assert json.loads(old["body"])["resolution"] == "superseded"
    # rule 8 would ask a worker that runs why it does not relay, and there is no broker
    world.stop()
    checked = check.check(
        world.database,
        now=now_us(),
        home=world.settings.root,
        outbox_kept_us=7 * DAY,
    )
    # what a stream worker counts is not here: the rows were put into SQL by hand
    assert {c.number: c.problems for c in checked if c.number != 1 and not c.holds} == {}
    kinds = {(r["topic"], json.loads(bytes(r["value"])).get("status")) for r in world.rows(outbox)}
    assert {
        ("drift", "open"),
        ("incidents", "opened"),
        ("incidents", "resolved"),
        ("releases", "candidate"),
        ("releases", "published"),
        ("pointers", None),
    } <= kinds


def test_refused_recipe_gives_the_next_its_turn_and_spends_nothing(world: World) -> None:
    second_recipe(world)


@pytest.mark.postgres
def test_refused_recipe_gives_the_next_its_turn_on_postgresql(postgres_world: World) -> None:
    second_recipe(postgres_world)


def second_recipe(world: World) -> None:
    """The student that serves may not grow so large any more; a built-in one is small enough."""
    with world.database.begin() as conn:
        spec = json.loads(conn.execute(sa.select(specs.c.spec)).scalar_one())
        spec["repair"]["max_bytes"] = 9_000
        conn.execute(sa.update(specs).values(spec=json.dumps(spec)))
        loop.told(conn, now=0)
    harm(world)
    world.start()
    eventually(
        lambda: [j for j in world.rows(jobs) if "tried" in json.loads(j["outcome"] or "{}")],
        "a recipe was refused",
    )
    world.stop()  # and another worker goes on
    world.start()
    job = world.job("succeeded", "failed", "rejected", "cancelled")
    assert job["state"] == "succeeded", job["outcome"]
    (tried,) = json.loads(job["outcome"])["tried"]
    assert (tried["name"], tried["number"]) == ("warm", None)
    assert [r.split(":")[0] for r in tried["reasons"]] == ["size"]

    version = next(v for v in world.rows(versions) if v["version"] == world.stable())
    report = read_report(version["report"])
    assert (report.recipe_name, report.recipe, report.faced) == ("scratch", 1, True)
    assert [t.name for t in report.tried] == ["warm"]
    (test,) = world.rows(fresh_tests)
    assert (test["number"], test["recipe"], test["sha256"]) == (1, "scratch", version["sha256"])
    assert {"train", "scratch.train"} <= {s["name"] for s in world.rows(job_steps)}
    said = [json.loads(bytes(r["value"])) for r in world.rows(outbox) if r["topic"] == "releases"]
    of_job = [r for r in said if r["job_id"] == job["job_id"]]
    assert [r["status"] for r in of_job] == ["rejected", "candidate", "published"]
    assert of_job[0]["sha256"] == tried["sha256"] != version["sha256"]
    world.stop()
    checked = check.check(
        world.database, now=now_us(), home=world.settings.root, outbox_kept_us=7 * DAY
    )
    assert {c.number: c.problems for c in checked if c.number != 1 and not c.holds} == {}


def test_harm_that_an_earlier_release_copes_with_is_answered_by_going_back(
    world: World, base: Path, child: Child
) -> None:
    repaired(world)
    good = world.stable()
    was = next(v for v in world.rows(versions) if v["version"] == good)
    added = old_student_added(world, base, child, trusted_only=True)
    assert isinstance(added.report.decision, Accepted), external_version.why(added.report)
    with world.database.begin() as conn:
        registry.publish(
            conn, "credit", "again", trigger=Trigger(kind="actor", id="cli:test"),
            actor="cli:test", reason="a mistake", now=now_us(), lifetimes=Lifetimes(),
        )  # fmt: skip
        conn.execute(  # a week ago, of usual traffic
            sa.update(monitored_releases)
            .where(monitored_releases.c.state == "watching")
            .values(state="expired")
        )
    assert world.swap() == "again"
    assert world.serve(1_000, boom=False, label_share=0.3) > 0.93
    assert world.serve(1_500, boom=True, label_share=0.3) < 0.3
    world.start()
    incident = eventually(
        lambda: next((i for i in world.rows(incidents) if i["version"] == "again"), None), "harm"
    )
    with world.database.begin() as conn:  # no cool-down
        lifecycle.approve(
            conn, incident, FleetLimits.of(world.settings), actor="cli:ann", now=now_us()
        )
    job = eventually(
        lambda: next((j for j in world.rows(jobs) if j["number"] == 2 and j["finished_at"]), None),
        "the job has ended",
    )
    outcome = json.loads(job["outcome"])
    assert job["state"] == "succeeded", outcome
    assert outcome["why"] == f"went back to {good} (epoch 4), its gates passed"
    assert outcome["recipes"] == ["reuse", "scratch", "trees"]
    assert (outcome["version"], outcome["sha256"]) == (good, was["sha256"])
    now = next(v for v in world.rows(versions) if v["version"] == good)
    assert now == was  # its package, its report
    steps = {s["name"]: s for s in world.rows(job_steps) if s["job_id"] == job["job_id"]}
    assert not {"train", "export", "seal"} & steps.keys()
    assert outcome["cpu_seconds"].keys() == {"reuse"}
    (test,) = [t for t in world.rows(fresh_tests) if t["job_id"] == job["job_id"]]
    assert (test["recipe"], test["sha256"]) == ("reuse", was["sha256"])
    eventually(lambda: world.published().stable == good, "the signed pointer moved back")
    watched = next(m for m in world.rows(monitored_releases) if m["state"] == "watching")
    assert (watched["version"], watched["predecessor"]) == (good, "again")
    world.stop()
    checked = check.check(
        world.database, now=now_us(), home=world.settings.root, outbox_kept_us=7 * DAY
    )
    assert {c.number: c.problems for c in checked if c.number != 1 and not c.holds} == {}


def test_worker_stopped_in_the_middle_leaves_a_job_that_the_next_one_finishes(world: World) -> None:
    harm(world)
    world.start()
    eventually(
        lambda: any(s["name"] == "window" for s in world.rows(job_steps)), "the window is frozen"
    )
    world.stop()
    job = world.one(jobs)
    assert job["state"] == "queued"
    assert job["tries"] <= 1
    frozen = job["frozen_at"]
    world.start()
    job = world.job("succeeded", "failed", "rejected", "cancelled")
    assert job["state"] == "succeeded", job["outcome"]
    assert job["frozen_at"] == frozen
    assert len([v for v in world.rows(versions) if v["kind"] == "repaired"]) == 1


def test_few_labels_make_the_job_wait_until_there_are_enough(world: World) -> None:
    harm(world, labels=0.02, rows=600)
    world.start()
    job = world.job("waiting_labels")
    assert job["live_mark"] == 1
    assert world.one(incidents)["stage"] == "waiting_labels"
    for _ in range(6):  # labels come in while the job waits, is judged, and waits again
        world.serve(300, boom=True, label_share=0.3)
    job = world.job("succeeded", "failed", "rejected", "cancelled")
    assert job["state"] == "succeeded", job["outcome"]


def test_world_that_changed_calls_a_person_and_publishes_nothing(world: World) -> None:
    world.serve(1_000, boom=False, label_share=0.3)
    world.serve(1_000, boom=False, label_share=0.3, wrong=True)  # the classes were swapped
    world.start()
    job = world.job("cancelled", "succeeded", "failed")
    assert job["state"] == "cancelled"
    incident = world.one(incidents)
    assert (incident["cause"], incident["stage"]) == ("concept_change", "awaiting_person")
    assert incident["decision"] == "ask_person"
    assert world.stable() == repairable.BASELINE


def test_broken_columns_are_a_data_bug_and_never_trained_on(world: World) -> None:
    harm(world)
    with world.database.begin() as conn:
        broken = loop.finding(
            version=repairable.BASELINE,
            kind="quality",
            scope="debt_ratio",
            severity="critical",
            harmful=None,
            at=world.at,
        )
        loop.store(conn, broken, now=world.at)
    world.start()
    job = world.job("cancelled", "succeeded", "failed")
    assert job["state"] == "cancelled"
    found = {i["incident_class"]: i for i in world.rows(incidents)}
    assert found["harm"]["cause"] == "data_bug"
    assert found["data_bug"]["stage"] == "awaiting_person"
    assert world.stable() == repairable.BASELINE


def test_wrong_labels_feed_a_job_whose_candidate_is_rejected(world: World) -> None:
    world.serve(1_500, boom=False, label_share=0.5, source="contractor", wrong=True)
    world.start()
    job_id, number = recompress.ask(
        world.database,
        "credit",
        {"train_on": "labels", "source": "contractor"},
        actor="cli:test",
        request="1",
        now=now_us(),
    )
    job = world.job("succeeded", "failed", "rejected", "cancelled", "waiting_labels")
    assert (job["job_id"], job["number"], job["state"]) == (job_id, number, "rejected")
    failed = {g.name for g in world.gates() if g.passed is False}
    assert any("trusted" in name for name in failed), failed
    assert world.stable() == repairable.BASELINE
    said = [json.loads(bytes(r["value"])) for r in world.rows(outbox) if r["topic"] == "releases"]
    rejected = [r for r in said if r["status"] == "rejected"]
    assert len(rejected) == 1
    assert any(g["passed"] is False for g in rejected[0]["gates"])


def test_recompression_without_a_gain_is_not_published(world: World) -> None:
    world.serve(2_000, boom=False, label_share=0.5)
    world.start()
    recompress.ask(world.database, "credit", {}, actor="cli:test", request="1", now=now_us())
    job = world.job("succeeded", "failed", "rejected", "cancelled", "waiting_labels")
    gates = {g.name: g.passed for g in world.gates()}
    assert "gain" in gates
    assert (job["state"] == "succeeded") == all(gates.values())
    assert (world.stable() == repairable.BASELINE) == (job["state"] != "succeeded")
    assert world.rows(incidents) == []


def test_version_that_is_worse_than_its_predecessor_is_rolled_back_and_barred(
    world: World,
) -> None:
    harm(world)
    world.start()
    assert world.job("succeeded", "failed", "rejected")["state"] == "succeeded"
    good = world.stable()
    world.stop()
    # The old student under another name, as if its gates had passed it: they can be wrong.
    folder = repairable.candidate(
        world.settings, world.database, repairable.BASELINE, world.settings.root / "bad"
    )
    with world.database.read() as conn:
        schema = repairable.schema_of(conn)
    package = build_package(
        folder,
        layout=RepositoryLayout(world.settings.root),
        model="credit",
        version="bad",
        kind="added",
        schema=schema,
        output="probabilities",
        output_kind="probabilities",
        created_at=datetime.now(UTC),
    )
    trigger = Trigger(kind="actor", id="cli:test")
    now = now_us()
    with world.database.begin() as conn:
        registry.add_version(
            conn,
            package,
            report=(folder / "report.json").read_bytes(),
            gate_passed=True,
            trigger=trigger,
            actor="cli:test",
            now=now,
        )
        registry.publish(
            conn,
            "credit",
            "bad",
            trigger=trigger,
            actor="cli:test",
            reason="a mistake",
            now=now,
            lifetimes=Lifetimes(),
        )
    assert world.swap() == "bad"
    world.serve(600, boom=True, label_share=0.5, labels_over=10 * MINUTE)
    world.start()
    eventually(lambda: world.stable() == good, "the worker rolled back")
    assert [b["sha256"] for b in world.rows(barred)] == [package.manifest.sha256]
    assert "worse" in [g["state"] for g in world.rows(monitored_releases)]
    assert world.one(pauses)["reason"].startswith("circuit breaker")
    eventually(lambda: world.published().stable == good, "the signed pointer moved back")


def old_student_added(
    world: World, base: Path, child: Child, *, trusted_only: bool
) -> external_version.ExternalVersion:
    """Somebody's retry with the first student, whose graph has two outputs of other names."""
    brought = onnx.load(repairable.template(base, child) / "source" / "student.onnx")
    brought.doc_string = "another try"
    file = world.settings.root / "brought.onnx"
    onnx.save(brought, file)
    return external_version.add(
        world.database,
        world.settings,
        lambda: contextlib.nullcontext(child),  # type: ignore[arg-type,return-value]
        model="credit",
        version="again",
        file=file,
        trusted_only=trusted_only,
        actor="cli:test",
        now=now_us(),
    )


def test_a_file_added_after_a_repair_is_judged_against_what_was_made_here(
    world: World, base: Path, child: Child
) -> None:
    harm(world, labels=0.7)  # so many that slices have tests after the repair, too
    world.start()
    assert world.job("succeeded", "failed", "rejected")["state"] == "succeeded"
    made = world.stable()
    world.stop()
    found = old_student_added(world, base, child, trusted_only=False)
    assert isinstance(found.report.decision, Accepted), external_version.why(
        found.report
    )  # on trusted rows
    assert found.report.incumbent is not None
    assert found.report.incumbent.trusted_accuracy.value > 0.9
    assert world.stable() == made
    normal = {p["version"]: p for p in world.rows(profiles)}
    for version in (made, "again"):
        base_error = BaseError.from_json(normal[version]["base_error"])
        expected = ExpectedError.from_json(normal[version]["expected_error"])
        assert (expected.errors, expected.n) == (base_error.errors, base_error.n)
        assert {s.name for s in expected.slices} <= {f"region={r}" for r in credit.REGIONS}
        assert expected.edges  # scores were known


def test_cancelled_job_stops_within_seconds_and_publishes_nothing(world: World) -> None:
    harm(world)
    world.start()
    job = world.job("running")
    with world.database.begin() as conn:
        (incident,) = incident_repository.open_ones(conn, "credit")
        lifecycle.resolve(conn, incident, "person", why="known", actor="cli:test", now=now_us())
    assert world.job("cancelled")["job_id"] == job["job_id"]
    folder = world.settings.jobs_folder / job["job_id"]
    eventually(lambda: folder.exists(), "it was at work")
    world.stop()
    assert world.stable() == repairable.BASELINE
    assert world.one(jobs)["state"] == "cancelled"


def test_child_that_is_killed_is_tried_again_and_keeps_its_steps(
    world: World, child: Child
) -> None:
    harm(world)
    world.start()
    eventually(
        lambda: any(s["name"] == "window" for s in world.rows(job_steps)), "the repair has begun"
    )
    assert pids.send(eventually(lambda: pids.job_of(child.pid), "its process"))
    job = world.job("succeeded", "failed", "rejected", "cancelled")
    assert job["state"] == "succeeded", job["outcome"]
    outcome = json.loads(job["outcome"])
    assert outcome["failures"] == 1
    assert "SIGKILL" in outcome["last_error"]


def test_approval_on_request_waits_for_a_person(world: World) -> None:
    with world.database.begin() as conn:
        from redistill.streams.store.tables import specs

        row = conn.execute(sa.select(specs.c.spec)).scalar_one()
        spec = json.loads(row)
        spec["repair"]["approval"] = "on_request"
        conn.execute(sa.update(specs).values(spec=json.dumps(spec)))
        loop.told(conn, now=0)
    harm(world)
    world.start()
    eventually(
        lambda: [i["stage"] for i in world.rows(incidents)] == ["awaiting_person"], "it asks"
    )
    assert world.rows(jobs) == []
    with world.database.begin() as conn:
        (incident,) = incident_repository.open_ones(conn, "credit")
        fleet_limits = FleetLimits.of(world.settings)
        lifecycle.approve(conn, incident, fleet_limits, actor="cli:ann", now=now_us())
    assert world.job("queued", "running")["incident_id"] == incident["incident_id"]


def test_candidate_that_trusted_rows_cannot_decide_needs_a_person_who_waives(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every recipe has its turn before; the best open candidate is asked about, and published."""
    students = tuple(r for r in remedies.REMEDIES if r.name != "family")  # trees are that certain
    monkeypatch.setattr(remedies, "REMEDIES", students)
    with world.database.begin() as conn:
        from redistill.streams.store.tables import specs

        spec = json.loads(conn.execute(sa.select(specs.c.spec)).scalar_one())
        spec["gates"]["trusted"] = {"margin_points": 0.0}  # nothing is ever that certain
        conn.execute(sa.update(specs).values(spec=json.dumps(spec)))
        loop.told(conn, now=0)
    harm(world)
    world.start()
    job = world.job("succeeded", "failed", "rejected", "needs_person", "waiting_labels")
    assert job["state"] == "needs_person"
    incident = world.one(incidents)
    assert (incident["stage"], incident["decision"]) == ("awaiting_person", "ask_person")
    assert incident["why"].startswith("needs a person: trusted rows. trusted: ")
    assert "--waive trusted --reason TEXT`" in incident["why"]
    assert world.stable() == repairable.BASELINE
    outcome = json.loads(job["outcome"])
    assert outcome["recipes"] == ["warm", "scratch"]
    assert [t["name"] for t in outcome["tried"]] == outcome["recipes"], "each had its turn"
    best = min((t for t in outcome["tried"] if t["open"]), key=lambda t: float(t["ranking_loss"]))
    assert outcome["asked_about"] == best["name"]
    assert [t["open"] for t in outcome["tried"]] == [True, True]
    candidate = world.settings.jobs_folder / job["job_id"] / "candidate" / "model.onnx"
    asked_about = sha256_of(candidate)
    assert asked_about == best["sha256"]
    with world.database.begin() as conn:
        lifecycle.approve(
            conn, incident, FleetLimits.of(world.settings), actor="cli:ann", now=now_us(),
            waived={"trusted": "old rows"},
        )  # fmt: skip
    assert world.job("succeeded", "failed", "rejected", "needs_person")["state"] == "succeeded"
    with world.database.read() as conn:
        made = registry.get(conn, "credit", world.stable())
    assert (made.sha256, made.job_id) == (asked_about, job["job_id"])
    assert made.report["waived"] == {"trusted": "cli:ann: old rows"}
    (trusted,) = [g for g in made.report["gates"] if g["name"] == "trusted"]
    assert trusted["why"].startswith("waived by cli:ann: old rows; against the incumbent ")
    faced = [t for t in outcome["tried"] if t["number"] is not None]
    assert [t["sha256"] for t in world.rows(fresh_tests)] == [t["sha256"] for t in faced]
    world.stop()
    checked = check.check(
        world.database, now=now_us(), home=world.settings.root, outbox_kept_us=7 * DAY
    )
    assert {c.number: c.problems for c in checked if c.number != 1 and not c.holds} == {}


def test_damaged_teacher_fails_the_job_with_the_file_named(world: World) -> None:
    with world.database.read() as conn:
        from redistill.workers.incidents.model_context import load

        model_context = load(conn, "credit")
    assert model_context is not None
    sha256 = model_context.spec.objects["teacher"]
    path = world.settings.objects_folder / sha256[:2] / sha256
    path.write_bytes(path.read_bytes()[:-10])
    harm(world)
    world.start()
    job = world.job("failed", "succeeded")
    assert job["state"] == "failed"
    assert "teacher is damaged" in json.loads(job["outcome"])["why"]
    incident = world.one(incidents)
    assert (incident["stage"], incident["decision"]) == ("awaiting_person", "ask_person")
