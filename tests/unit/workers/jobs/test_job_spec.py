"""What a job is about, as SQL says; when it makes no sense any more; and what its child is given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import job_worker
import loop
import pytest
import sqlalchemy as sa
from loop import NOW

from redistill.compress.plan import Measure, read_job_spec, to_json
from redistill.streams.store.database import Database
from redistill.streams.store.tables import findings, profiles, specs
from redistill.streams.wire.events import LossPart
from redistill.times import SECOND
from redistill.workers.jobs import job_spec
from redistill.workers.jobs.folder import JobFolderError
from redistill.workers.jobs.job_spec import JobInputs, JobObsolete
from redistill.workers.store.tables import (
    incident_findings,
    incidents,
    jobs,
    pointer_history,
    pointers,
    versions,
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    job_worker.registered(opened, tmp_path / "home", max_bytes=400_000)
    with opened.begin() as conn:
        job_worker.incident_with_job(conn)
    yield opened
    opened.dispose()


@pytest.fixture
def manual(database: Database) -> Database:
    """With a job that a person asked for, instead."""
    with database.begin() as conn:
        conn.execute(sa.delete(jobs))
        job_worker.manual_job(conn, source="contractor", train_on="labels")
    return database


def context(database: Database) -> JobInputs:
    with database.read() as conn:
        (job_id,) = conn.execute(sa.select(jobs.c.job_id)).scalars()
        return job_spec.read_inputs(conn, job_worker.job(database, job_id))


def change(database: Database, table: sa.Table, **values: Any) -> None:
    with database.begin() as conn:
        conn.execute(sa.update(table).values(**values))


def attach(
    database: Database,
    *,
    raised_seq: int | None = None,
    parts: dict[str, LossPart] | None = None,
    **finding: Any,
) -> str:
    """Store a finding that belongs to the incident; its id."""
    harm = replace(loop.finding(**finding), **(parts or {}))
    with database.begin() as conn:
        (finding_id,) = loop.store(conn, harm, now=NOW, raised_seq=raised_seq)
        conn.execute(
            sa.insert(incident_findings).values(
                incident_id=job_worker.INCIDENT, finding_id=finding_id, attached_at=NOW
            )
        )
    return finding_id


def test_job_of_an_incident_begins_at_its_change(database: Database) -> None:
    found = context(database)
    assert (found.version, found.since, found.salt) == ("v1", NOW, "s")
    assert found.base_error is not None
    assert (found.trigger, found.base_error.rate) == ("incident", 0.05)
    assert (found.raised_seq, found.broken_columns) == (None, ())


def test_job_of_a_person_has_no_change_and_a_salt_of_its_own(manual: Database) -> None:
    found = context(manual)
    assert (found.since, found.salt) == (None, found.job.job_id)
    assert (found.trigger, found.incident, found.raised_seq) == ("actor", None, None)


def test_newest_alarm_of_the_version_raised_it(database: Database) -> None:
    attach(database, at=NOW + 9 * SECOND, raised_seq=70)
    attach(database, at=NOW + 7 * SECOND, raised_seq=80)
    attach(database, raised_seq=90, version="v0")
    attach(database, raised_seq=90, kind="quality", scope="x")
    found = context(database)
    assert found.raised_seq == 80
    assert job_spec.window_query(found, frozen_at=None, since=None).raised_seq == 80


def test_version_without_a_base_error_has_none(database: Database) -> None:
    with database.begin() as conn:
        conn.execute(sa.delete(profiles))
    assert context(database).base_error is None


@pytest.mark.parametrize(
    ("table", "values", "why"),
    [
        (specs, None, "not registered any more"),
        (specs, {"level": "rollback"}, "only level repair is repaired"),
        (pointers, None, "no published version"),
        (pointers, {"stable": "v2"}, "version v1 was replaced by v2"),
        (jobs, {"outcome": json.dumps({"incumbent": "v0"})}, "version v0, which it was to beat"),
    ],
)
def test_job_that_makes_no_sense_any_more_says_why(
    database: Database, table: sa.Table, values: dict[str, Any] | None, why: str
) -> None:
    if values is None:
        with database.begin() as conn:
            conn.execute(sa.delete(table))
    else:
        change(database, table, **values)
    with pytest.raises(JobObsolete, match=why):
        context(database)


@pytest.mark.parametrize(
    ("findings", "columns"),
    [
        ([{"kind": "quality", "scope": "x"}, {"kind": "quality", "scope": "y"}], ("x", "y")),
        ([{"kind": "quality", "scope": "x", "severity": "info"}], ()),
        ([{"kind": "quality", "scope": "x", "status": "resolved"}], ()),
        ([{"kind": "quality", "scope": "x", "version": "v0"}], ()),
        ([{"kind": "input", "scope": "x"}], ()),
        ([{"kind": "quality", "scope": "x"}, {"contributors": ("z",)}], ("x",)),
    ],
)
def test_broken_columns_are_those_with_an_open_contract_finding(
    database: Database, findings: list[dict[str, Any]], columns: tuple[str, ...]
) -> None:
    for finding in findings:
        attach(database, **finding)
    assert context(database).broken_columns == columns


def test_largest_loss_of_the_versions_alarms_raised_the_incident(database: Database) -> None:
    assert context(database).raised_points == pytest.approx(55.0)  # .95 -> .40
    attach(database, current=0.3)
    attach(database, current=0.2, version="v0")
    attach(database, current=0.1, kind="quality", scope="x")
    assert context(database).raised_points == pytest.approx(65.0)
    spec = job_spec.spec_of(context(database), "diagnose", deadline_s=1.0)
    assert (spec.raised_points, spec.base_rows) == (pytest.approx(65.0), 1_000)


def test_parts_of_the_loss_are_those_of_the_newest_finding_of_the_whole_model(
    database: Database,
) -> None:
    assert (context(database).mix_moved, context(database).got_worse) == (None, None)
    attach(database, current=0.01, scope="slice:region=EU", at=NOW + 9)
    assert context(database).raised_points == pytest.approx(55.0)  # a slice is not all rows
    for at, moved in ((NOW + 2, 0.09), (NOW + 1, 0.5)):
        part = LossPart(value=moved, low=0.05, high=0.6, basis="estimated", n=400)
        worse = LossPart(value=0.01, low=-0.02, high=0.04, basis="measured", n=400)
        attach(database, at=at, parts={"mix_moved": part, "got_worse": worse})
    spec = job_spec.spec_of(context(database), "diagnose", deadline_s=1.0)
    assert spec.mix_moved == Measure(value=9.0, low=5.0, high=60.0, n=400)
    assert spec.got_worse is not None
    assert (spec.got_worse.value, spec.got_worse.low) == (1.0, -2.0)


def test_slices_alone_are_what_an_incident_is_about_only_without_harm_of_all_rows(
    database: Database,
) -> None:
    attach(database, scope="slice:region=EU")
    attach(database, scope="slice:region=US", status="resolved")
    assert context(database).harmed_slices == ()
    with database.begin() as conn:
        conn.execute(sa.update(findings).where(findings.c.scope == "all").values(status="resolved"))
    assert context(database).harmed_slices == ("region=EU",)  # that of all rows is over
    with database.begin() as conn:
        conn.execute(sa.text("DELETE FROM findings WHERE scope = 'all'"))
    assert context(database).harmed_slices == ("region=EU",)
    assert context(database).raised_points is None
    spec = job_spec.spec_of(context(database), "diagnose", deadline_s=1.0)
    assert spec.harmed_slices == ("region=EU",)


def test_window_of_an_incident_begins_at_its_change(database: Database) -> None:
    found = context(database)
    query = job_spec.window_query(found, frozen_at=NOW + 5, since=NOW - 99)
    assert (query.since, query.frozen_at, query.salt) == (NOW, NOW + 5, "s")
    assert (query.features, query.raised_seq) == (("x", "y"), None)
    assert query.train_rows == 1_800  # 1,500 that are used, and a fifth to spare
    assert query.source is None


def test_window_of_a_person_begins_where_it_was_found_before(manual: Database) -> None:
    query = job_spec.window_query(context(manual), frozen_at=None, since=NOW - 99)
    assert (query.since, query.last_rows, query.source) == (NOW - 99, 5_000, "contractor")


def test_window_has_the_segments_of_slices_and_groups_that_are_no_features(
    database: Database,
) -> None:
    found = context(database)
    spec = found.model_context.spec
    schema = replace(spec.schema, slices=("channel", "x"), groups=("sex", "channel", "y"))
    told = replace(found.model_context, spec=replace(spec, schema=schema))
    query = job_spec.window_query(replace(found, model_context=told), frozen_at=None, since=None)
    assert query.segments == ("channel", "sex")
    graph = told.spec.graph()
    assert graph.slices == dict.fromkeys(("channel", "x", "sex", "y"), ())
    assert graph.groups == ("sex", "channel", "y")


def test_same_job_gives_the_same_bytes(database: Database) -> None:
    specs_made = [
        to_json(job_spec.spec_of(context(database), "repair", deadline_s=60.0)) for _ in range(2)
    ]
    assert specs_made[0] == specs_made[1]
    spec = read_job_spec(specs_made[0])
    assert (spec.model, spec.mode, spec.trigger) == ("credit", "repair", "incident")
    assert (spec.policy["size"]["max_bytes"], spec.tolerance_points, spec.base_error) == (
        400_000,
        2.0,
        0.05,
    )
    assert (spec.train_on, spec.made_here, spec.deadline_s) == ("teacher", (), 60.0)
    assert 0 <= spec.seed < 2**31


def test_spec_says_which_graph_a_repair_made_and_what_was_asked_for(manual: Database) -> None:
    change(manual, versions, kind="repaired")
    spec = job_spec.spec_of(context(manual), "gate", deadline_s=1.0)
    assert (spec.made_here, spec.mode) == (("incumbent",), "gate")
    assert (spec.train_on, spec.source) == ("labels", "contractor")


def published_before(database: Database, home: Path, **kinds: str) -> None:
    """Enter releases that served before ``v1`` does; each was measured, and is kept."""
    with database.begin() as conn:
        first = dict(conn.execute(sa.select(versions)).mappings().one())
        for n, (version, kind) in enumerate(kinds.items()):
            entry = job_worker.release_file(home, "model.onnx", f"the graph of {version}".encode())
            accuracy = {"name": "x", "trusted_accuracy": {"value": 0.9 - n / 100}}
            given = {
                "version": version,
                "kind": kind,
                "sha256": entry["sha256"],
                "files": json.dumps({"model.onnx": entry}),
                "report": json.dumps({"chosen": "x", "variants": [accuracy]}),
            }
            conn.execute(sa.insert(versions).values(**first | given))
            moved = {"model": "credit", "epoch": -n, "stable": version, "sha256": entry["sha256"]}
            why = {"change": "publish", "reason": "test", "trigger": "{}", "at": NOW}
            conn.execute(sa.insert(pointer_history).values(**moved | why))


def test_earlier_releases_come_along_with_how_they_are_called(
    database: Database, tmp_path: Path
) -> None:
    published_before(database, tmp_path / "home", first="baseline", second="repaired")
    spec = job_spec.spec_of(context(database), "repair", deadline_s=1.0)
    assert (spec.releases, spec.made_here) == (("first", "second"), ("best/2",))
    folder = fill(database, tmp_path / "home")
    for n, version in enumerate(spec.releases, start=1):
        graph = (folder / "best" / str(n) / "model.onnx").read_bytes()
        assert graph == f"the graph of {version}".encode()


def fill(database: Database, home: Path) -> Path:
    found = context(database)
    folder = home / "jobs" / found.job.job_id
    job_spec.fill_folder(
        folder, found, job_spec.spec_of(found, "repair", deadline_s=1.0), home=home
    )
    return folder


def test_folder_holds_everything_but_the_window(database: Database, tmp_path: Path) -> None:
    folder = fill(database, tmp_path / "home")
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert names == [
        "incumbent/model.onnx",
        "job.json",
        "reference.parquet",
        "teacher/model.onnx",
        "trusted.parquet",
    ]
    assert (folder / "incumbent" / "model.onnx").read_bytes() == b"the graph of v1"
    assert read_job_spec((folder / "job.json").read_bytes()).job_id == folder.name
    assert folder.stat().st_mode & 0o777 == 0o700


def test_training_files_of_the_incumbent_come_along(database: Database, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with database.read() as conn:
        files = json.loads(conn.execute(sa.select(versions.c.files)).scalar_one())
    for name in job_spec.TRAINING:
        files[name] = job_worker.release_file(home, name, name.encode())
    change(database, versions, files=json.dumps(files))
    folder = fill(database, home)
    for name in job_spec.TRAINING:
        assert (folder / "incumbent" / name).read_bytes() == name.encode()


def test_missing_teacher_asks_for_one(database: Database, tmp_path: Path) -> None:
    with database.read() as conn:
        spec = json.loads(conn.execute(sa.select(specs.c.spec)).scalar_one())
    del spec["objects"]["teacher"]
    change(database, specs, spec=json.dumps(spec))
    with pytest.raises(JobObsolete, match="registered without teacher"):
        fill(database, tmp_path / "home")


def test_incumbent_whose_files_retention_removed_cannot_be_beaten(
    database: Database, tmp_path: Path
) -> None:
    change(database, versions, files="{}")
    with pytest.raises(JobObsolete, match="files of v1 are not kept"):
        fill(database, tmp_path / "home")


def test_damaged_incumbent_is_named(database: Database, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (graph,) = (home / "repository").rglob("*.onnx")
    graph.write_bytes(b"rotten")
    with pytest.raises(JobFolderError, match=r"model\.onnx of v1 is damaged"):
        fill(database, home)


def test_incident_about_another_version_is_not_the_incumbents(database: Database) -> None:
    change(database, incidents, version="v0")
    with pytest.raises(JobObsolete, match="version v0 was replaced by v1"):
        context(database)
