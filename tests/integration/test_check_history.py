"""Each invariant can be broken, and is then reported; an untouched history holds."""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from redistill import times
from redistill.streams.kafka.broker import Broker, admin, producer
from redistill.streams.store import lease, outbox, properties
from redistill.streams.store.database import Database
from redistill.streams.store.flush import store_findings
from redistill.streams.store.tables import accuracy_states, findings, gaps, offsets, outcomes
from redistill.streams.store.tables import outbox as outbox_table
from redistill.streams.wire.events import Detector, DriftFound, Impact, Statistic, Window
from redistill.times import DAY, to_seconds, utc
from redistill.workers.invariants import check as history
from redistill.workers.invariants.check import CheckedInvariant
from redistill.workers.invariants.log_offsets import logs
from redistill.workers.jobs.scheduler import LEASE as SCHEDULER
from redistill.workers.jobs.scheduler import Scheduler
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.settings.settings import Settings
from redistill.workers.store import audit, opening
from redistill.workers.store.tables import (
    activations,
    barred,
    incident_findings,
    incidents,
    job_steps,
    jobs,
    pointer_history,
    pointers,
    versions,
)
from redistill.workers.store.tables import audit as audit_table

NOW = 1_790_000_000_000_000
FINDING = uuid.UUID("8a0e8f0e-0000-5000-8000-000000000001")
INCIDENT, JOB = "11111111-aaaa", "22222222-bbbb"
Change = Callable[[sa.Connection], None]
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
            "gates": [{"name": "fresh_e_value", "passed": True}],
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
            put(
                conn, versions, model="credit", version=version, sha256=SHA[version], manifest_sha256="m" * 64,
                kind=kind, status="published", report=report(version, mode=mode), gate_passed=True,
                files=json.dumps({"model.onnx": {"sha256": SHA[version], "bytes": len(BYTES[version])}}),
                policy_sha256="p" * 64, job_id=job, created_at=NOW, published_at=NOW,
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


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = opening.open(Settings.load({"home": tmp_path}))
    fill(database, tmp_path)
    yield database
    database.dispose()


def check(database: Database, home: Path, **more: Any) -> list[CheckedInvariant]:
    more = {"settle_seconds": 0.0, **more}
    return history.check(database, now=NOW + 2 * DAY, home=home, outbox_kept_us=7 * DAY, **more)


def test_an_untouched_history_holds(database_url: str, tmp_path: Path) -> None:
    settings = Settings.load({"home": tmp_path, "database": database_url})
    opening.upgrade(settings)
    database = opening.open(settings)
    fill(database, tmp_path)
    checked = check(database, tmp_path)
    database.dispose()
    assert [(c.number, c.holds, c.problems) for c in checked] == [
        (n, True, ()) for n in range(1, 9)
    ]
    figures = {c.number: c.figures for c in checked}
    counts = {"counted": 90, "dead": 2, "gaps": 8, "rows": 900, "outcomes": 20}
    assert figures[1] == counts | {"last_gap_found": times.utc(NOW).isoformat(timespec="seconds")}
    assert figures[2] == {"findings": 1, "waiting": 0, "unsent": 0, "incidents": 1}
    assert figures[5] == {"pointers": 1, "moves": 2, "releases": 2}
    assert figures[7] == {"activations": 3, "declared_fallbacks": 1}


def test_an_empty_database_holds(tmp_path: Path) -> None:
    database = opening.open(Settings.load({"home": tmp_path}))
    assert all(c.holds for c in check(database, tmp_path))
    database.dispose()


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


def second_live_job(conn: sa.Connection) -> None:
    for number in (2, 3):  # marks that were not set let two live jobs past the unique key
        put(
            conn, jobs, job_id=str(number), number=number, model="credit", attempt=1, trigger_kind="actor",
            trigger_id="x", state="running", options="{}", tries=1, not_before=0, deadline_at=0, created_at=0,
            live_mark=None,
        )  # fmt: skip


def worker_that_does_not_relay(conn: sa.Connection) -> None:
    """As a repair worker leaves it: it holds the scheduler's lease, and the relay's between rounds
    is nobody's.
    """
    lease.acquire(conn, SCHEDULER, "w", now=NOW + 2 * DAY - 1, seconds=30)
    conn.execute(sa.update(outbox_table).values(sent_at=None))


def stream_worker_that_does_not_relay(conn: sa.Connection) -> None:
    conn.execute(sa.update(offsets).values(updated_at=NOW + 2 * DAY - 5_000_000))
    conn.execute(sa.update(outbox_table).values(sent_at=None))


def baseline_again(conn: sa.Connection) -> None:
    conn.execute(sa.update(versions).where(versions.c.version == "r1-x").values(kind="baseline"))


FIRST, SECOND = versions.c.version == "v1", versions.c.version == "r1-x"
EPOCH_2 = pointer_history.c.epoch == 2
SERVED = activations.c.event_id == "1"
LAST_STEP = job_steps.c.name == "publish"

BREAKS: dict[str, tuple[int, str, Change]] = {
    "a lost offset": (1, "100 offsets were passed, 99 are accounted for", set_(offsets, counted=89)),
    "a doubled offset": (1, "101 are accounted for", set_(offsets, counted=91)),
    "a moved offset": (1, "99 offsets were passed", set_(offsets, next_offset=109)),
    "an unrecorded gap": (1, "gaps of 80 offsets, only 8", set_(gaps, last=99)),
    "overlapping gaps": (
        1,
        "overlaps another",
        add(gaps, topic_id="t1", partition=0, topic="predictions", first=22, last=23, found_at=0),
    ),
    "a lost outcome": (1, "1 outcomes are missing, retention deleted 0", remove(outcomes, outcomes.c.seq == 7)),
    "a detector ahead": (1, "saw 20 outcomes, the last is number 21", set_(accuracy_states, last_seq=21)),
    "a detector behind": (1, "its detector saw 19", set_(accuracy_states, last_seq=19, n=19)),
    "a detector lost": (1, "20 outcomes that no detector saw", remove(accuracy_states)),
    "a finding dropped": (
        2,
        "neither an incident nor a reason",
        both(remove(incident_findings), set_(findings, intake_note=None)),
    ),
    "a finding not announced": (2, "was never announced", remove(outbox_table, outbox_table.c.topic == "drift")),
    "a forged finding": (2, "which does not exist", remove(findings)),
    "an incident without an end": (
        2,
        "neither a job nor a reason",
        both(set_(jobs, incident_id=None), set_(incidents, why="")),
    ),
    "an incident half resolved": (2, "its mark says otherwise", set_(incidents, open_mark=1)),
    "a resolution without reason": (2, "resolved without a reason", set_(incidents, resolution=None)),
    "two live jobs": (3, "credit has 2 live jobs", second_live_job),
    "a job half finished": (3, "its mark says otherwise", set_(jobs, live_mark=1)),
    "a release that failed": (4, "without having passed its gates", set_(versions, SECOND, gate_passed=False)),
    "a report of other bytes": (4, "not about its bytes", set_(versions, SECOND, report=report("v1"))),
    "another policy": (4, "under another policy", set_(versions, SECOND, policy_sha256="q" * 64)),
    "a failed gate inside": (
        4,
        "fresh_e_value did not pass",
        set_(versions, SECOND, report=report("r1-x").replace("true", "false")),
    ),
    "an unreadable report": (4, "cannot be read", set_(versions, SECOND, report="{")),
    "a second baseline": (4, "was not the first that served", baseline_again),
    "an epoch that went back": (5, "not the last of its history", set_(pointers, epoch=1)),
    "a hole in the epochs": (5, "are not 1 to 1", remove(pointer_history, pointer_history.c.epoch == 1)),
    "a pointer to nothing": (5, "which is not known", remove(versions, SECOND)),
    "a pointer to other bytes": (5, "names other bytes", set_(pointer_history, EPOCH_2, sha256="0" * 64)),
    "barred bytes served": (
        5,
        "were barred before",
        add(barred, model="credit", sha256=SHA["r1-x"], reason="bad", at=NOW),
    ),
    "a predecessor without files": (5, "cannot be loaded again", set_(versions, FIRST, files="{}")),
    "a zombie's step": (6, "after lease 2 had written", set_(job_steps, LAST_STEP, token=1)),
    "a step of the future": (6, "the last given is 2", set_(job_steps, LAST_STEP, token=3)),
    "unknown bytes served": (7, "which no pointer ever named", set_(activations, SERVED, sha256="9" * 64)),
    "served too early": (7, "before a pointer named it", set_(activations, SERVED, at=NOW)),
    "served under another epoch": (7, "which named other bytes", set_(activations, SERVED, epoch=1)),
    "a changed audit entry": (8, "entry 2 was changed", set_(audit_table, audit_table.c.seq == 2, actor="cli:you")),
    "a worker that does not relay": (8, "workers run (lease scheduler) and do not relay", worker_that_does_not_relay),
    "a stream worker that does not": (8, "offsets stored 5 s ago) and do not relay", stream_worker_that_does_not_relay),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_invariant_is_reported(database: Database, tmp_path: Path, name: str) -> None:
    number, expected, change = BREAKS[name]
    with database.begin() as conn:
        change(conn)
    broken = {c.number: c.problems for c in check(database, tmp_path) if not c.holds}
    assert number in broken
    assert any(expected in p for p in broken[number]), broken[number]


def test_every_invariant_was_broken_once() -> None:
    assert {number for number, _, _ in BREAKS.values()} == set(range(1, 9))


@pytest.mark.parametrize(("content", "expected"), [(None, "is missing"), (b"other", "other bytes")])
def test_changed_files_of_a_release_are_reported(
    database: Database, tmp_path: Path, content: bytes | None, expected: str
) -> None:
    path = RepositoryLayout(tmp_path).path("credit", "model.onnx", SHA["v1"])
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    (problems,) = [c.problems for c in check(database, tmp_path) if not c.holds]
    assert expected in problems[0]


def test_waiting_work_is_pending_and_not_broken(database: Database, tmp_path: Path) -> None:
    with database.begin() as conn:
        store_findings(conn, [finding(revision=1)], now=NOW)
    checked = check(database, tmp_path)
    assert all(c.holds for c in checked)
    assert checked[1].figures["waiting"] == 1
    assert checked[1].figures["unsent"] == 1


def test_a_relay_that_fails_is_broken_while_its_worker_runs_and_pending_when_nobody_does(
    database: Database, tmp_path: Path
) -> None:
    """Real tasks of a repair worker, and a broker that is away."""

    def clock() -> int:
        return NOW + 2 * DAY

    fired = threading.Event()
    chore = {"expire": (0.1, fired.set)}
    scheduler = Scheduler(database, holder="w", chores=chore, on_job=lambda: None, clock=clock)
    relay = outbox.Relay(
        database, Broker("127.0.0.1:1"), holder="w", clock=lambda: to_seconds(clock())
    )
    with database.begin() as conn:
        conn.execute(sa.update(outbox_table).values(sent_at=None))
    scheduler.start()
    assert fired.wait(20)
    assert relay.run_once() == 0
    assert relay.failures == 1
    eighth = check(database, tmp_path)[7]
    assert not eighth.holds
    assert "nothing was ever sent; their log says why (relay_failed)" in eighth.problems[0]
    assert eighth.figures["workers"] == "run"

    scheduler.stop()
    relay.close()
    with database.begin() as conn:
        assert lease.expire(conn, SCHEDULER, "w")
    eighth = check(database, tmp_path)[7]
    assert eighth.holds
    assert (eighth.figures["unsent"], eighth.figures["workers"]) == (1, "nobody runs")
    assert eighth.figures["outbox_lag_s"] == 2 * 86_400


def test_workers_that_have_just_started_may_send_what_waited(
    database: Database, tmp_path: Path
) -> None:
    with database.begin() as conn:
        worker_that_does_not_relay(conn)

    def relayed() -> None:
        with database.begin() as conn:
            conn.execute(sa.update(outbox_table).values(sent_at=NOW + 2 * DAY))

    soon = threading.Timer(0.5, relayed)
    soon.start()
    eighth = check(database, tmp_path, settle_seconds=30.0)[7]
    soon.join()
    assert eighth.holds
    assert (eighth.figures["unsent"], eighth.figures["workers"]) == (0, "run")


def test_problems_beyond_the_first_are_counted(database: Database, tmp_path: Path) -> None:
    with database.begin() as conn:
        for i in range(30):
            put(
                conn, activations, event_id=f"x{i}", model="credit", instance_id="svc", version="v9",
                sha256="9" * 64, epoch=1, at=NOW,
            )  # fmt: skip
    seventh = check(database, tmp_path)[6]
    assert (len(seventh.problems), seventh.more) == (20, 10)


def test_the_command_prints_a_line_each_and_exits_1_when_broken(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from redistill.workers.cli.check_history import app

    monkeypatch.setenv("REDISTILL_HOME", str(tmp_path))
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 0, result.output
    assert len(result.output.splitlines()) == 9
    assert "8 of 8 invariants hold (database only: no broker given)" in result.output
    with database.begin() as conn:
        properties.put(conn, audit.HEAD, f"9 {'0' * 64}")
    result = CliRunner().invoke(app, ["--json"])
    assert result.exit_code == 1
    lines = [json.loads(line) for line in result.output.splitlines()]
    assert [x["number"] for x in lines if x.get("holds") is False] == [8]
    assert lines[-1] == {"summary": {"invariants": 8, "broken": 1, "topics": False}}


@pytest.mark.kafka
def test_what_is_stored_is_compared_with_the_topics(kafka_server: Any, tmp_path: Path) -> None:
    broker = Broker(kafka_server.bootstrap, namespace=f"h{uuid.uuid4().hex[:8]}")
    names = ("predictions", "drift", "incidents", "releases")
    client = admin(broker)
    client.create_topics(
        {broker.topic(n): {"num_partitions": 1, "replication_factor": 1} for n in names}
    )
    client.close()
    database = opening.open(Settings.load({"home": tmp_path}))
    out = producer(broker)
    for _ in range(150):
        out.send(broker.topic("predictions"), b"x")
    out.flush(30)
    (log,) = logs(broker, ["predictions"])
    fill(database, tmp_path, topic_id=log.topic_id)

    first = check(database, tmp_path, broker=broker)
    assert first[0].holds
    assert first[0].figures["pending"] == 40
    assert first[0].figures["produced"] == 140  # since its first offset, 10
    # SQL says that the finding was announced, but it is not in the topic
    assert not first[1].holds
    assert "is marked as sent, and is not in the topic" in first[1].problems[0]

    with database.read() as conn:
        event = conn.execute(sa.select(outbox_table)).one()
    out.send(broker.topic("drift"), event.value, headers=[("ce_id", event.event_id.encode())])
    out.flush(30)
    out.close()
    assert check(database, tmp_path, broker=broker)[1].holds

    with database.begin() as conn:
        conn.execute(sa.update(offsets).values(next_offset=210, counted=190))
    third = check(database, tmp_path, broker=broker)[0]
    assert "counted up to 210, the log ends at 150" in third.problems[0]
    database.dispose()
