from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import linear
import loop
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from redistill.streams.monitor.config import WatchConfig
from redistill.streams.store.clock import DatabaseClock
from redistill.streams.store.database import Database
from redistill.streams.store.tables import (
    feature_rows,
    input_states,
    labels,
    model_locks,
    outcomes,
    specs,
    unregistered,
    windows,
)
from redistill.times import DAY, HOUR
from redistill.workers.errors import UsageError
from redistill.workers.models import registration, spec_file
from redistill.workers.settings.settings import Settings
from redistill.workers.store import alarm_budget, opening, queries
from redistill.workers.store.tables import (
    incidents,
    monitored_releases,
    pauses,
    pointer_history,
    pointers,
    versions,
)

NOW = 1_790_000_000_000_000


@pytest.fixture
def settings(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("REDISTILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REDISTILL_DATABASE", database_url)
    monkeypatch.delenv("REDISTILL_BROKER", raising=False)
    settings = Settings.load()
    opening.upgrade(settings)
    return settings


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> registration.PreparedModel:
    folder = tmp_path_factory.mktemp("linear")
    spec = spec_file.read(linear.build(folder, level="watch"))
    return registration.prepare(spec, Settings.load({"home": folder}))


@pytest.fixture
def database(settings: Settings, prepared: registration.PreparedModel) -> Iterator[Database]:
    database = opening.open(settings)
    registration.store(database, prepared, settings, actor="test", now=NOW)
    yield database
    database.dispose()


def put(conn: sa.Connection, table: sa.Table, **values: Any) -> None:
    conn.execute(sa.insert(table).values(**values))


def serve(
    database: Database, *, rows: int = 10_000, right: int = 90, wrong: int = 10, at: int = NOW
) -> None:
    """Two days of traffic that ended at ``at``, with some labels an hour late."""
    with database.begin() as conn:
        put(
            conn, input_states, model="linear", version="v1", topic_id="t", partition=0, state=b"",
            rows=rows, first_served_at=at - 2 * DAY, last_served_at=at,
        )  # fmt: skip
        put(
            conn, windows, model="linear", version="v1", topic_id="t", partition=0, number=0, rows=rows,
            first_served_at=at - 2 * DAY, last_served_at=at, closed_at=at,
        )  # fmt: skip
        put(
            conn, feature_rows, model="linear", version="v1", first_served_at=at, last_served_at=at,
            rows=1, bytes=1, data=b"",
        )  # fmt: skip
        conn.execute(sa.update(model_locks).values(join_exponent=0, feature_exponent=1))
        for seq in range(1, right + wrong + 1):
            served = at - 2 * DAY + seq
            put(
                conn, outcomes, model="linear", version="v1", seq=seq, id_hash=seq, id=str(seq),
                correct=int(seq > wrong), prediction="a", label="a", served_at=served,
                observed_at=served + HOUR, source="s", uniform=True, made_at=at - DAY,
            )  # fmt: skip
        put(
            conn, labels, model="linear", id="x", source="s", observed_at=at, id_hash=1, label="a",
            op="upsert", uniform=True, received_at=at, state="waiting",
        )  # fmt: skip


def overview(database: Database, now: int = NOW) -> queries.Overview:
    with database.read() as conn:
        return queries.overview(conn, "linear", now)


def test_overview_measures_accuracy_and_rates(database: Database) -> None:
    serve(database)
    found = overview(database)
    assert (found.version, found.correct, found.labelled) == ("v1", 90, 100)
    assert found.labels_waiting == 1
    assert found.label_lag_us == HOUR
    # 100 outcomes in two days, half of whose rows have stored features
    assert found.gate_rows_per_day == pytest.approx(25.0)
    with database.read() as conn:
        traffic = queries.traffic(conn, "linear", NOW)
    assert traffic is not None
    assert (traffic.rows, traffic.labels) == (5_000, 50)


def test_rows_per_alarm_needs_a_week_and_splits_the_fleets_alarms(database: Database) -> None:
    serve(database)
    with database.read() as conn:
        assert queries.rows_per_alarm(conn, "linear", alarms_per_week=1, now=NOW) is None
    with database.begin() as conn:
        put(
            conn, outcomes, model="other", version="v", seq=1, id_hash=1, id="1", correct=1, prediction="a",
            label="a", served_at=0, observed_at=0, source="s", uniform=True, made_at=NOW - 8 * DAY,
        )  # fmt: skip
    with database.read() as conn:
        # 10,000 rows and 100 labels a week; at least 1,000 labels per alarm
        assert queries.rows_per_alarm(conn, "linear", alarms_per_week=1, now=NOW) == 100_000
        assert queries.rows_per_alarm(conn, "linear", alarms_per_week=0.05, now=NOW) == 200_000


def test_the_budget_follows_the_traffic_and_wakes_the_stream_workers(database: Database) -> None:
    serve(database)
    assert alarm_budget.refresh(database, alarms_per_week=1, now=NOW) == []  # no week is known yet
    with database.begin() as conn:
        conn.execute(sa.update(outcomes).where(outcomes.c.seq == 1).values(made_at=NOW - 8 * DAY))
    assert alarm_budget.refresh(database, alarms_per_week=1, now=NOW) == ["linear"]
    with database.read() as conn:
        revision, text = conn.execute(sa.select(specs.c.revision, specs.c.watch)).one()
    # 10,000 rows and 99 labels a week, 1,000 labels per alarm at least
    assert WatchConfig.from_json(text).rows_per_alarm == pytest.approx(1_000 * 10_000 / 99)
    assert revision == 2
    assert alarm_budget.refresh(database, alarms_per_week=1, now=NOW) == []


def incident(kind: str, stage: str) -> Any:
    def change(conn: sa.Connection) -> None:
        put(
            conn, incidents, incident_id="i", model="linear", version="v1", incident_class=kind,
            status="open", stage=stage, why="error 10% -> 40%", attempt=0, split_salt="s", opened_at=NOW,
            updated_at=NOW, open_mark=1,
        )  # fmt: skip

    return change


def rolled_back(conn: sa.Connection) -> None:
    put(
        conn,
        pointers,
        model="linear",
        stable="v1",
        epoch=2,
        reason="r",
        moved_at=NOW,
        announced_at=NOW,
    )
    put(
        conn, pointer_history, model="linear", epoch=2, stable="v1", sha256="0" * 64, change="rollback",
        reason="r", trigger="{}", at=NOW,
    )  # fmt: skip


def test_the_command_lists_models_for_people_and_for_programs(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from redistill.workers.cli.models import app

    monkeypatch.setattr(DatabaseClock, "__call__", lambda _: NOW)
    serve(database)
    with database.begin() as conn:
        incident("harm", "repairing")(conn)
        put(conn, pauses, model="linear", until=NOW + 1, reason="r")
        put(
            conn,
            unregistered,
            model="new",
            version="1",
            rows=70,
            first_seen_at=DAY,
            last_seen_at=NOW,
        )
        rolled_back(conn)
        put(
            conn, monitored_releases, model="linear", epoch=2, version="v2", predecessor="v1", state="worse",
            last_seq=9, result='{"wins": 3, "losses": 30, "ties": 9, "e_better": 0.1, "e_worse": 512.0}',
            since=0, until=NOW,
        )  # fmt: skip
    result = CliRunner().invoke(app, [], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "repairing (repairs paused)" in result.output
    assert "  accuracy 90.0% [82.4, 95.1], measured on 100 labels" in result.output
    assert "  harm: error 10% -> 40%" in result.output
    assert "not registered: new, 70 rows seen since 1970-01-02 00:00:00Z" in result.output
    document = json.loads(CliRunner().invoke(app, ["--json"]).stdout)
    (model,) = document["models"]
    assert model["state"] == "repairing"
    assert model["accuracy"]["basis"] == "measured"
    assert model["accuracy"]["n"] == 100
    assert document["unregistered"] == {"new": 70}
    detail = CliRunner().invoke(app, ["linear"], env={"COLUMNS": "200"}).stdout
    assert (
        "v2 against its predecessor v1 on the same labelled rows: worse, 3 won, 30 lost" in detail
    )
    assert "2026-09-21 14:13:20 rollback v1: r" in detail
    assert "a repair can draw on 1 rows served since 2026-09-21 14:13:20" in detail
    shown = json.loads(CliRunner().invoke(app, ["linear", "--json"]).stdout)
    assert shown["comparison"]["result"]["losses"] == 30
    assert [m["change"] for m in shown["moves"]] == ["rollback"]
    assert shown["stored"]["rows"] == 1
    with pytest.raises(UsageError, match="there is no model named 'nope': register it first"):
        raise CliRunner().invoke(app, ["nope"]).exception or AssertionError


def test_what_the_trusted_rows_can_show_is_shown_and_who_waived_a_gate(database: Database) -> None:
    from redistill.workers.cli.models import app

    rows = {"trusted_judging_rows": 360.0, "trusted_ranking_rows": 90.0}
    with database.begin() as conn:
        loop.register(conn, replace(loop.spec(name="proven"), measured=rows), now=NOW)
        report = json.dumps(
            {
                "waived": {"trusted": "cli:ann: old rows"},
                "trusted": {"wins": 5, "losses": 5, "ties": 90},
            }
        )
        conn.execute(sa.update(versions).where(versions.c.model == "proven").values(report=report))
    said = CliRunner().invoke(app, ["proven"], env={"COLUMNS": "200"}).stdout
    (line,) = [line for line in said.splitlines() if line.startswith("450 trusted rows")]
    assert "360 show a margin of 4.3 points at a churn of 10.0% (measured on the newest" in line
    assert "gates passed; trusted waived by cli:ann: old rows" in said
    document = json.loads(CliRunner().invoke(app, ["proven", "--json"]).stdout)
    assert document["trusted_rows"] == line
    (line,) = [line for line in said.splitlines() if line.startswith("slices of v1 have no tests")]
    assert document["slice_tests"] == line


def test_what_judged_one_version_is_shown(database: Database) -> None:
    from redistill.workers.cli.models import app

    with database.begin() as conn:
        loop.register(conn, loop.spec(name="proven"), now=NOW)
        row = conn.execute(sa.select(versions).where(versions.c.model == "proven")).one()
        gate = {"name": "size", "value": 9.0, "limit": 10.0, "passed": True, "why": "small"}
        variant = {"name": "fp32", "sha256": row.sha256, "bytes": 9, "p50_ms": 0.01}
        report = json.dumps({"gates": [gate], "variants": [variant]})
        files = json.loads(row.files)
        files["documents/lineage.json"] = {"sha256": "ab" * 32, "bytes": 1}
        change = sa.update(versions).where(versions.c.model == "proven")
        conn.execute(change.values(report=report, files=json.dumps(files)))
    said = CliRunner().invoke(app, ["proven", row.version], env={"COLUMNS": "200"}).stdout
    assert said.startswith(f"{row.version}: {row.status}, {row.kind}, sha256 {row.sha256[:8]}")
    assert "9 bytes, p50 0.0100 ms" in said
    assert "small" in said
    document = json.loads(CliRunner().invoke(app, ["proven", row.version, "--json"]).stdout)
    assert (document["gates"], document["gaps"]) == ([gate], [])
    path = document["documents"]["documents/lineage.json"]
    assert path.endswith(f"targets/proven/{'ab' * 32}.json")
    assert f"documents/lineage.json: {path}" in said
    with pytest.raises(UsageError, match="proven has no version 'v9'"):
        raise CliRunner().invoke(app, ["proven", "v9"]).exception or AssertionError


def test_the_next_scheduled_run_is_shown_with_its_day_of_the_week(database: Database) -> None:
    from redistill.workers.cli.models import app

    with database.begin() as conn:
        loop.register(conn, loop.spec(name="planned", schedule="0 3 * * 7"), now=NOW)
    said = CliRunner().invoke(app, ["planned"], env={"COLUMNS": "200"}).stdout
    (line,) = [line for line in said.splitlines() if line.startswith("next scheduled")]
    assert line.startswith("next scheduled recompression: Sunday ")
    assert line.endswith(", 03:00 UTC (0 3 * * 7)")
    document = json.loads(CliRunner().invoke(app, ["planned", "--json"]).stdout)
    assert document["schedule"] == line
    assert json.loads(CliRunner().invoke(app, ["linear", "--json"]).stdout)["schedule"] is None
