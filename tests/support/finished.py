"""A finished installation, made in process by the real parts: what every table looks like after
months in which everything happened that can happen. Nothing is trained, and no graph is real."""

from __future__ import annotations

import shutil
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import sqlalchemy as sa
from stream_rows import chunk

from redistill.compress.plan import (
    Accepted,
    Comparison,
    Diagnosis,
    Gate,
    Measure,
    Rejected,
    Report,
    Variant,
)
from redistill.compress.plan import to_json as report_json
from redistill.streams.client.release import FileEntry, InputLayout, Manifest
from redistill.streams.engine.accumulator import Accumulator
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.expected_error import ExpectedError
from redistill.streams.monitor.findings import superseded
from redistill.streams.monitor.label_requests import RequestState, decide, spread
from redistill.streams.monitor.reference import build_profile
from redistill.streams.monitor.suspicion import slice_of
from redistill.streams.store import properties, state_key
from redistill.streams.store import specs as watched_specs
from redistill.streams.store.batch import Flushed, Partition
from redistill.streams.store.database import Database, upsert
from redistill.streams.store.findings import store_findings
from redistill.streams.store.flush import flush
from redistill.streams.store.join_step import join_labels
from redistill.streams.store.process_rows import Presence
from redistill.streams.store.rates import set_rate
from redistill.streams.store.relay import relay
from redistill.streams.store.request_draws import Draw
from redistill.streams.store.requestable_rows import newest, unlabelled
from redistill.streams.store.stored_requests import store_request
from redistill.streams.store.tables import findings, label_request_states, outbox
from redistill.streams.wire.block import Codes, Feature, PredictionBlock, Schema
from redistill.streams.wire.codec import Record, encode
from redistill.streams.wire.events import DriftFound, LabelObserved, PredictionMade, Trigger
from redistill.times import DAY, HOUR, SECOND, to_seconds, utc
from redistill.workers.incidents import incident_repository, ingest, lifecycle
from redistill.workers.incidents.model_context import FleetLimits
from redistill.workers.invariants.topic_facts import Announced, Log, TopicFacts, digest
from redistill.workers.jobs import completion, job_spec, turn
from redistill.workers.jobs.dependencies import Dependencies
from redistill.workers.jobs.publish import PackagedCandidate, Publisher
from redistill.workers.jobs.session import JobSession
from redistill.workers.models import registration
from redistill.workers.models.registration import PreparedModel
from redistill.workers.models.spec import (
    DataSection,
    LabelsSection,
    ModelSection,
    ModelSpec,
    RepairSection,
    TeacherSection,
    WatchSection,
)
from redistill.workers.releases import (
    keys,
    post_release_monitor,
    registry,
    release_requests,
)
from redistill.workers.releases.package import ReleasePackage, version_name
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.releases.repository_writer import RepositoryWriter
from redistill.workers.releases.roles import Lifetimes
from redistill.workers.settings.settings import Settings
from redistill.workers.store import alert_holds, audit, deletion_budget, job_queue, opening
from redistill.workers.store.tables import (
    alert_deliveries,
    operational_alerts,
    storm_members,
)

START = 1_764_000_000 * SECOND
"""November 2025."""
SCHEMA = Schema(
    features=(
        Feature(name="income"),
        Feature(name="age"),
        Feature(name="region", kind="category", values=("EU", "US")),
    ),
    classes=("repay", "default"),
    slices=("region",),
)
LIFETIMES = Lifetimes()
LIMITS = FleetLimits(cool_down=HOUR, fleet_jobs_per_day=24)
PREDICTIONS, LABELS, LEDGER = "predictions", "labels", "labels.ledger"
TOPIC_IDS = {PREDICTIONS: "tp", LABELS: "tl", LEDGER: "tb"}
ACTOR = "cli:ann"
BASELINE = "2026-03"
KEY = "ab" * 32


class Acknowledged:
    """What a producer answers once the broker has a record."""

    def get(self, timeout: float | None = None) -> None:
        """It has."""


@dataclass
class Topics:
    """Takes what the relay sends, as a broker does."""

    records: list[Record] = field(default_factory=list)

    def send(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        headers: list[tuple[str, bytes]] | None = None,
    ) -> Acknowledged:
        """Append a record to the only partition of its topic."""
        offset = sum(r.topic == topic for r in self.records)
        self.records.append(Record(topic, 0, offset, 0, key, value, tuple(headers or ())))
        return Acknowledged()


@dataclass
class Finished:
    """The installation and what was sent."""

    settings: Settings
    database: Database
    topics: Topics
    ends: dict[tuple[str, int], int]
    """Where the logs of the inputs end, by topic and partition."""
    now: int
    layout: RepositoryLayout
    writer: RepositoryWriter

    @property
    def home(self) -> Path:
        """Where its files are."""
        return self.settings.root


class _Maker:
    """Makes it, step by step; time is its own."""

    def __init__(self, folder: Path, url: str | None) -> None:
        self.settings = _settings(folder, url)
        opening.upgrade(self.settings)
        self.now = START
        self.database = opening.open(self.settings)
        with self.database.begin() as conn:
            state_key.claim(conn, self.settings.state_key_bytes())
            # else it is chance which rows come first, and which labels are not in the sample
            properties.put(conn, properties.SALT, "5a" * 16)
        self.layout = RepositoryLayout(self.settings.root)
        keys.init(self.layout.keys, passphrase=None, now=utc(self.now).replace(microsecond=0))
        self.writer = _writer(self.database, self.layout, lambda: self.now)
        self.topics = Topics()
        self.ends: dict[tuple[str, int], int] = {}
        self.rows = 0
        self.accumulator = Accumulator(
            self.database,
            state_key=self.settings.state_key_bytes(),
            kinds={topic: topic for topic in TOPIC_IDS},
            clock=lambda: to_seconds(self.now),
        )

    # --- time, and what happens by itself -----------------------------------------------------

    def later(self, microseconds: int = SECOND) -> int:
        self.now += microseconds
        return self.now

    def round(self) -> None:
        """Sign what is due, and send what may go."""
        self.later()
        self.writer.tick()
        assert self.writer.problem is None, self.writer.problem
        while relay(self.database, self.topics, clock=lambda: to_seconds(self.now)).sent:
            pass

    # --- the observing side ---------------------------------------------------------------------

    def read(self, topic: str, partition: int, events: Sequence[Any], *, lost: int = 0) -> None:
        """A stream worker reads events from a partition, and flushes; ``lost`` offsets before them
        were gone."""
        place = Partition(TOPIC_IDS[topic], partition)
        stored = self.ends.get((topic, partition))
        at = stored or 0
        if self.accumulator.position(place) is None:
            self.accumulator.assign(place, topic, stored=stored, start=at)
        if lost:
            self.accumulator.lost(place, at, at + lost - 1)
            at += lost
        records = [
            Record(topic, partition, at + i, 0, None, e, ())
            if isinstance(e, bytes)
            else _record(e, at + i, partition)
            for i, e in enumerate(events)
        ]
        self.accumulator.refresh()
        self.accumulator.take(place, chunk(records))
        self.ends[topic, partition] = at + len(records)
        self.accumulator.tick()
        self.flush()

    def flush(self) -> None:
        batch = self.accumulator.close()
        assert batch is not None
        assert isinstance(flush(self.database, batch, now=self.later()), Flushed)

    def serve(
        self, version: str, n: int, *, wrong: int = 0, model: str = "credit", partition: int = 0
    ) -> list[PredictionMade]:
        """Rows that a service answered; the first ``wrong`` of them wrongly."""
        made = []
        for i in range(n):
            self.rows += 1
            truth = "repay" if self.rows % 2 else "default"
            other = "default" if truth == "repay" else "repay"
            made.append(
                PredictionMade(
                    id=f"{truth}-{self.rows}",
                    model=model,
                    version=version,
                    served_at=utc(self.later(10_000)),
                    features={
                        "income": 1_000.0 + self.rows % 97,
                        "age": float(20 + self.rows % 50),
                        "region": "EU" if self.rows % 3 else "US",
                    },
                    prediction=other if i < wrong else truth,
                    scores=[0.75, 0.25] if (truth == "repay") == (i >= wrong) else [0.25, 0.75],
                )
            )
        self.read(PREDICTIONS, partition, made)
        return made

    def labelled(self, rows: Iterable[PredictionMade], **changes: Any) -> list[LabelObserved]:
        """The truth of rows, as the ledger has it."""
        self.later()
        values = {"source": "ledger", "observed_at": utc(self.now)} | changes
        return [
            LabelObserved(**{"id": r.id, "model": r.model, "label": r.id.split("-")[0], **values})
            for r in rows
        ]

    def join(self) -> None:
        with self.database.read() as conn:
            config = watched_specs.load(conn)["credit"].config
        key = self.settings.state_key_bytes()
        while (step := join_labels(self.database, config, now=self.later(), state_key=key)) and (
            step.more
        ):
            pass

    # --- the acting side -------------------------------------------------------------------------

    def ask_for_labels(self, version: str, why: str, wanted: int) -> None:
        """Something was suspected."""
        with self.database.begin() as conn:
            config = watched_specs.load(conn)["credit"].config
            of, name = newest(conn, "credit", version, 100), slice_of(why)
            of = of if name is None else of.of_slice(conn, "credit", name)
            drawn = unlabelled(conn, "credit", of.some(spread(len(of), wanted, 0.0)))
            draw = Draw(
                request_id=str(uuid.uuid5(uuid.NAMESPACE_OID, why)), version=version,
                first_served_at=int(of.served_at.min()), last_served_at=int(of.served_at.max()),
                p_include=wanted / len(of), slice=name,
            )  # fmt: skip
            store_request(conn, config, draw, why, drawn, now=self.later())
            state, _ = decide(RequestState(), why, row=100, since=0, left=500, rows=100)
            conn.execute(
                upsert(label_request_states, ["model", "version"]).values(
                    model="credit", version=version, state=state.to_json().decode(), block_id=1
                )
            )

    def register(self, name: str, level: str) -> None:
        spec = ModelSpec(
            name=name,
            level=level,
            model=ModelSection(version=BASELINE if level == "repair" else None, onnx="m.onnx"),
            teacher=TeacherSection(onnx="teacher.onnx") if level == "repair" else None,
            schema=SCHEMA,
            data=DataSection(reference="r.parquet", trusted="t.parquet", order="time"),
            labels=LabelsSection(
                sources=("ledger",), bound=("ledger",), requests_per_day=500, cost=0.25
            ),
            watch=WatchSection(tolerance_points=2.0, window_rows=100),
            repair=RepairSection(max_jobs_per_day=5),
        )
        base = BaseError.from_errors((np.arange(5_000) % 20 == 0).astype(np.int64))
        full = level == "repair"
        prepared = PreparedModel(
            spec=spec.with_objects({}),
            profile=build_profile(_reference(name), SCHEMA).to_bytes() if full else None,
            base=base if full else None,
            warnings=(),
            contents=(),
        )
        registration.store(self.database, prepared, self.settings, actor=ACTOR, now=self.later())

    def package(self, version: str, *, made_at: int | None = None, **more: Any) -> ReleasePackage:
        """A release whose files hold nothing that runs."""
        contents = {
            "model.onnx": f"graph of {version}".encode(),
            "golden.npz": f"golden of {version}".encode(),
            "reference_rows.parquet": f"rows of {version}".encode(),
        }
        files = {n: FileEntry(sha256=_sha(b), bytes=len(b)) for n, b in contents.items()}
        manifest = Manifest(
            model="credit",
            version=version,
            sha256=files["model.onnx"].sha256,
            files=files,
            schema=SCHEMA,
            input=InputLayout(kind="matrix", names=("x",)),
            output="y",
            output_kind="logits",
            golden_tolerance=0.01,
            created_at=utc(self.now if made_at is None else made_at),
            policy_sha256=_sha(b"policy"),
            **more,
        )
        data = manifest.to_json()
        files = {**files, "manifest.json": FileEntry(sha256=_sha(data), bytes=len(data))}
        for name, content in {**contents, "manifest.json": data}.items():
            path = self.layout.path("credit", name, files[name].sha256)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return ReleasePackage(
            manifest=manifest, manifest_sha256=files["manifest.json"].sha256, files=files
        )

    def report(
        self, version: str, *, mode: str = "repair", passed: bool = True, **more: Any
    ) -> Report:
        """What the child found about a candidate."""
        variant = Variant(
            name="static_int8",
            sha256=_sha(f"graph of {version}".encode()),
            bytes=9,
            p50_ms=0.1,
            p95_ms=0.2,
            trusted_accuracy=Measure(value=0.9, low=0.88, high=0.92, n=1_000),
            fresh_accuracy=Measure(value=0.95, low=0.9, high=0.98, n=200),
            agreement=None,
        )
        given = [
            Gate(name="trusted", value=0.4, limit=2.0, passed=True, why="0.4 points lost at most"),
            Gate(name="fresh", value=2_000.0, limit=200.0, passed=passed, why="better by evidence"),
        ]
        judged = (
            {"incumbent": variant, "gates": (given[0],)}
            if mode == "baseline"
            else {"chosen": "static_int8", "variants": (variant,), "gates": tuple(given)}
        )
        return Report(
            job_id=more.pop("job_id", "none"),
            model="credit",
            mode=cast(Any, mode),
            decision=Accepted(variant="static_int8")
            if passed
            else Rejected(reasons=("fresh: not better",)),
            policy_sha256=_sha(b"policy"),
            **(judged | more),
        )

    def enter(self, version: str, kind: str, report: Report, *, passed: bool = True) -> None:
        with self.database.begin() as conn:
            registry.add_version(
                conn,
                self.package(
                    version, kind=kind, predecessor=None if kind == "baseline" else BASELINE
                ),
                report=report_json(report),
                gate_passed=passed,
                trigger=Trigger(kind="baseline" if kind == "baseline" else "actor", id=ACTOR),
                actor=ACTOR,
                now=self.later(),
            )

    def publish(self, version: str) -> None:
        with self.database.begin() as conn:
            registry.publish(
                conn,
                "credit",
                version,
                trigger=Trigger(kind="actor", id=ACTOR),
                actor=ACTOR,
                reason=f"publish {version}",
                now=self.later(),
                lifetimes=LIFETIMES,
            )
        self.round()
        self.activated(version)

    def activated(self, version: str) -> None:
        """A service says that it serves a version."""
        from redistill.workers.store.tables import activations, pointer_history

        with self.database.begin() as conn:
            row = conn.execute(
                sa.select(pointer_history)
                .where(pointer_history.c.stable == version)
                .order_by(pointer_history.c.epoch.desc())
            ).first()
            assert row is not None
            conn.execute(
                sa.insert(activations).values(
                    event_id=f"a-{row.epoch}", model="credit", instance_id="svc-1",
                    version=version, sha256=row.sha256, epoch=row.epoch, at=self.later(),
                )
            )  # fmt: skip

    def ask(self, kind: Any, **body: Any) -> None:
        """A person asks by a command, and the writer does it."""
        with self.database.begin() as conn:
            release_requests.submit(conn, kind, "credit", body, actor=ACTOR, now=self.later())
        self.round()

    def settle(self, comparison: Comparison) -> None:
        with self.database.begin() as conn:
            (release,) = post_release_monitor.due(conn)
            post_release_monitor.settle(
                conn, release, comparison, last_seq=10, actor="worker:repair-1", now=self.later(),
                lifetimes=LIFETIMES, cool_down_seconds=3_600.0,
            )  # fmt: skip
        self.round()

    def repair(self) -> str:
        """The job of the open incident runs, and its candidate is published; the version."""
        claim = job_queue.claim(self.database, "repair-1", now=self.later())
        assert claim is not None
        publisher = Publisher(
            self.layout,
            lifetimes=LIFETIMES,
            wake_writer=lambda: None,
            load_memory_bytes=2**28,
            load_seconds=3.0,
        )
        made: list[str] = []

        def prepare(folder: Path, context: job_spec.JobInputs) -> PackagedCandidate:
            job = context.job
            name = version_name(job.number, _sha(b"graph of repaired"))
            packaged = self.package(
                name,
                made_at=job.frozen_at or job.created_at,
                kind="repaired",
                predecessor=context.version,
                job_id=job.job_id,
            )
            made.append(name)
            judged = self.report(name, job_id=job.job_id, recipe=1, recipe_name="warm", faced=True)
            wrong = (np.arange(200) % 20 == 0).astype(np.int64)
            region = Codes.of(["EU", "US"] * 100)
            return PackagedCandidate(
                package=packaged,
                sha256=packaged.manifest.sha256,
                report=report_json(judged),
                profile=build_profile(_reference("credit"), SCHEMA).to_bytes(),
                base_error=BaseError.from_errors(wrong, ordered=False, provisional=True).to_json(),
                expected_error=ExpectedError.fit(
                    wrong, {"region": region}, ordered=False
                ).to_json(),
            )

        deps = cast(
            Dependencies,
            SimpleNamespace(
                publisher=SimpleNamespace(
                    prepare=prepare, publish=publisher.publish, published=publisher.published
                ),
                folder=lambda job_id: self.settings.root / "jobs" / job_id,
                fleet_limits=LIMITS,
            ),
        )
        with JobSession(
            self.database,
            claim,
            actor="worker:repair-1",
            clock=self.later,
            stop=threading.Event(),
            beat_seconds=3_600.0,
        ) as session:
            found = Diagnosis(
                cause="compression_gap", why="the student lost it", student_loss_points=None,
                teacher_loss_points=None, disagreement=None, labelled=100,
            )  # fmt: skip
            with session.fenced() as transaction:
                lifecycle.diagnosed(
                    transaction.conn, str(claim.job.incident_id), found, LIMITS,
                    job_id=claim.job.job_id, actor=transaction.actor, now=transaction.now,
                )  # fmt: skip
                for step in ("window", "diagnose", "train", "quantize"):
                    detail = msgspec.to_builtins(found) if step == "diagnose" else None
                    transaction.record(step, seconds=1.5, cpu_seconds=1.25, detail=detail)
            with session.fenced() as transaction:
                context = job_spec.read_inputs(transaction.conn, transaction.job())
                present = turn.read(transaction.conn, context, transaction.job())
                name = version_name(context.job.number, _sha(b"graph of repaired"))
                judged = self.report(name, recipe=1, recipe_name="warm", faced=True)
                turn.count(transaction, present, judged, context)
                transaction.record("gate", seconds=1.5)
            completion.publish(session, deps)
        self.round()
        self.activated(made[0])
        return made[0]

    # --- all of it -------------------------------------------------------------------------------

    def everything(self) -> None:
        self.round()
        self.register("credit", "repair")
        self.register("spam", "watch")
        self.enter(BASELINE, "baseline", self.report(BASELINE, mode="baseline"))
        self.publish(BASELINE)
        rows = self.serve(BASELINE, 130, wrong=7)
        rows += self.serve(BASELINE, 50, partition=1)
        self.read(PREDICTIONS, 1, [b"not json"])
        self.read(PREDICTIONS, 2, [b"also not json"], lost=5)
        self.serve("9", 40, model="stranger")
        self.serve("1", 40, model="spam", partition=1)
        truth = self.labelled(rows[:140])
        self.read(LEDGER, 0, truth)
        self.read(LABELS, 0, [*self.labelled(rows[140:145], source="rumour"), b"{"])
        self.join()
        corrected = self.labelled(rows[5:6], label="repay") + self.labelled(
            rows[6:7], label="default"
        )
        taken_back = self.labelled(rows[7:8], op="retract", label=None)
        brought = LabelObserved(
            id="repay-brought", model="credit", label="repay", version=BASELINE,
            prediction="default", observed_at=utc(self.now), source="ledger",
        )  # fmt: skip
        nobody = LabelObserved(
            id="repay-nobody", model="credit", label="repay", observed_at=utc(self.now),
            source="ledger",
        )  # fmt: skip
        self.read(LEDGER, 0, [*corrected, *taken_back, brought, nobody, truth[0]])
        self.join()
        self.round()

        bad = self.serve(BASELINE, 130, wrong=130)
        self.read(LEDGER, 0, self.labelled(bad))
        self.join()
        ingest.ingest(self.database, fleet_limits=LIMITS, actor="worker:repair-1", clock=self.later)
        self.round()
        repaired = self.repair()
        with self.database.begin() as conn:  # as the reconciler does after a publish
            bodies = conn.execute(
                sa.select(findings.c.body).where(findings.c.status != "resolved")
            ).scalars()
            over = [
                superseded(msgspec.json.decode(b, type=DriftFound), self.later()) for b in bodies
            ]
            store_findings(conn, over, now=self.now)
        ingest.ingest(self.database, fleet_limits=LIMITS, actor="worker:repair-1", clock=self.later)
        good = self.serve(repaired, 110, wrong=4)
        self.ask_for_labels(repaired, "harm", 30)
        self.ask_for_labels(repaired, "slice:region=EU", 20)
        self.read(LEDGER, 0, self.labelled(good[:40], inclusion_probability=0.5))
        self.join()
        self.settle(Comparison(wins=60, losses=3, ties=40, e_better=1e6, e_worse=0.01))
        with self.database.begin() as conn:
            (open_one,) = incident_repository.open_ones(conn)
            lifecycle.resolve(
                conn, open_one, "recovered", why="error is back", actor="worker:repair-1",
                now=self.later(),
            )  # fmt: skip

        self.enter("2026-04", "added", self.report("2026-04"))
        self.enter("2026-05", "added", self.report("2026-05", passed=False), passed=False)
        self.publish("2026-04")
        self.settle(Comparison(wins=3, losses=60, ties=40, e_better=0.01, e_worse=1e6))
        self.activated(repaired)
        self.ask("rollback", to=BASELINE, reason="to be safe")
        self.ask("publish", version=repaired, reason="it was good")
        self.ask("publish", version="2026-04", reason="once more")  # refused: barred
        self.other_jobs()
        self.alarms()
        self.wait()
        self.round()

    def other_jobs(self) -> None:
        """A job that a person asked for, and one that could not be started."""
        job_id = job_queue.job_id_of("credit", "request-1")
        options = {"train_on": "teacher", "source": None}
        with self.database.begin() as conn:
            assert job_queue.create(
                conn, job_id, model="credit", trigger=("actor", ACTOR),
                deadline_at=self.later() + DAY, now=self.now, options=options,
            )  # fmt: skip
            audit.append(
                conn, ACTOR, "job.asked", "credit", {"job_id": job_id, **options}, self.now
            )
        claim = job_queue.claim(self.database, "repair-1", now=self.later())
        assert claim is not None
        with JobSession(
            self.database, claim, actor="worker:repair-1", clock=self.later,
            stop=threading.Event(), beat_seconds=3_600.0,
        ) as session:  # fmt: skip
            with session.fenced() as transaction:
                transaction.record("window", seconds=1.0)
            completion.end(session, LIMITS, "rejected", why="no gain")
        fire = "2025-11-25T00:00:00+00:00"
        scheduled = job_queue.job_id_of("credit", fire)
        with self.database.begin() as conn:
            assert job_queue.create(
                conn, scheduled, model="credit", trigger=("schedule", fire),
                deadline_at=self.later() + DAY, now=self.now, state="cancelled",
                outcome={"reasons": ["busy"], "why": "busy"},
            )  # fmt: skip
            body = {"job_id": scheduled, "time": fire, "refused": "busy"}
            audit.append(conn, "schedule", "job.scheduled", "credit", body, self.now)

    def wait(self) -> None:
        """More than a week later: labels without a prediction are given up."""
        with self.database.begin() as conn:
            set_rate(conn, "credit", join=2, now=self.later())
        self.later(9 * DAY)
        nobody = [
            LabelObserved(
                id=f"repay-late-{i}", model="credit", label="repay", observed_at=utc(self.now),
                source="ledger",
            )
            for i in range(8)
        ]  # fmt: skip
        self.read(LEDGER, 0, nobody)
        self.join()

    def alarms(self) -> None:
        """What the alert process keeps of what it told."""
        presence = Presence(self.database, "repair", "host:1:1")
        presence.say()
        with self.database.begin() as conn:
            key = f"incident:{'1' * 8}"
            conn.execute(
                sa.insert(operational_alerts).values(
                    alert_id="o1", kind="disk", subject="/", severity="warn", said="90% full",
                    remedy="make room", opened_at=self.now, updated_at=self.now, open_mark=1,
                )
            )  # fmt: skip
            conn.execute(
                sa.insert(alert_deliveries).values(
                    channel="oncall", alert_key=key, state="told", digest="d", told="d",
                    told_state="firing", title="harm", severity="page", since=self.now, tries=0,
                    not_before=0, wanted_at=self.now, sent_at=self.now,
                )
            )  # fmt: skip
            alert_holds.acknowledge(conn, "o1", subject="o1", actor=ACTOR, now=self.later())
            alert_holds.snooze(
                conn, key, until=self.now + DAY, subject="1" * 8, actor=ACTOR, now=self.later()
            )
            deletion_budget.left(conn, outbox, None, now=self.now)
            conn.execute(
                sa.insert(storm_members).values(alert_key=key, storm_key="s", joined_at=self.now)
            )


def build(folder: Path, url: str | None = None) -> Finished:
    """Make the installation, on SQLite unless another database is given; takes some seconds."""
    maker = _Maker(folder, url)
    maker.everything()
    return Finished(
        settings=maker.settings,
        database=maker.database,
        topics=maker.topics,
        ends=maker.ends,
        now=maker.now,
        layout=maker.layout,
        writer=maker.writer,
    )


def copied(original: Finished, folder: Path) -> Finished:
    """The same once more, in another folder that is not there yet: made in no time."""
    original.database.checkpoint()
    shutil.copytree(original.home, folder)
    settings = _settings(folder)
    database = opening.open(settings)
    layout = RepositoryLayout(folder)
    return replace(
        original,
        settings=settings,
        database=database,
        layout=layout,
        writer=_writer(database, layout, lambda: original.now),
    )


def _settings(folder: Path, url: str | None = None) -> Settings:
    url = url or f"sqlite:///{folder / 'redistill.db'}"
    return Settings.load({"home": folder, "state_key": KEY, "database": url})


def _writer(
    database: Database, layout: RepositoryLayout, clock: Callable[[], int]
) -> RepositoryWriter:
    return RepositoryWriter(
        database,
        layout,
        holder="repair-1",
        clock=lambda: to_seconds(clock()),
        lifetimes=LIFETIMES,
        cool_down_seconds=3_600.0,
    )


def _record(event: PredictionMade | LabelObserved, offset: int, partition: int) -> Record:
    made = encode(event, source="/service")
    return Record(made.topic, partition, offset, 0, made.key, made.value, made.headers)


def _sha(data: bytes) -> str:
    return sha256(data).hexdigest()


def _reference(model: str) -> PredictionBlock:
    """Rows as they usually are."""
    n = 2_000
    i = np.arange(n)
    features = np.stack([1_000.0 + i % 97, 20.0 + i % 50, (i % 3 == 0) * 1.0], axis=1)
    return PredictionBlock(
        model=model,
        version=BASELINE,
        ids=[str(x) for x in i],
        served_at=START - DAY + i.astype(np.int64) * SECOND,
        feature_names=SCHEMA.names,
        features=features.astype(np.float32),
        prediction=Codes.of(["repay" if x % 2 else "default" for x in i.tolist()]),
        scores=np.where((i % 2 == 1)[:, None], [0.75, 0.25], [0.25, 0.75]).astype(np.float32),
    )


def facts(installation: Finished) -> TopicFacts:
    """What its broker holds."""
    return TopicFacts.of(
        [
            Log(topic, TOPIC_IDS[topic], partition, 0, end, end)
            for (topic, partition), end in installation.ends.items()
        ],
        [
            Announced(
                topic=r.topic,
                event_id=dict(r.headers)["ce_id"].decode(),
                digest=digest(r.key, r.value, r.headers),
                at=installation.now,
            )
            for r in installation.topics.records
        ],
    )
