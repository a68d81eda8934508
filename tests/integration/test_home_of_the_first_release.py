"""A home that redistill 0.1.0 left behind is upgraded, read, and goes on."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import Result
from typer.testing import CliRunner

from redistill.streams.client.model import ModelClient
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.observe import observe, tick
from redistill.streams.monitor.outcomes import AccuracyState
from redistill.streams.monitor.state import InputState
from redistill.streams.store import properties, specs
from redistill.streams.store.database import Database
from redistill.streams.store.join_step import JoinStep, join_labels
from redistill.streams.store.tables import (
    accuracy_states,
    input_states,
    join_rows,
    labels,
    outcomes,
)
from redistill.streams.wire.block import PredictionBlock
from redistill.streams.wire.codec import Record, decode_predictions, encode
from redistill.streams.wire.events import PredictionMade
from redistill.streams.wire.hashing import id_hashes, signed
from redistill.times import DAY, HOUR, utc
from redistill.workers.cli import main
from redistill.workers.errors import DatabaseError
from redistill.workers.models.traffic import look
from redistill.workers.settings.settings import Settings
from redistill.workers.store import opening

ARCHIVE = Path(__file__).parents[1] / "golden" / "home-0.1.tar.xz"
BASELINE, REPAIRED = "2026-03", "r1-7d47fd59"
ROW = {
    "income": 2_500.0, "debt_ratio": 0.3, "age": 41.0, "utilisation": 0.5, "tenure": 3.0,
    "inquiries": 1, "region": "EU",
}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    for name in ("BROKER", "DATABASE", "STATE_KEY"):
        monkeypatch.delenv(f"REDISTILL_{name}", raising=False)
    monkeypatch.setenv("REDISTILL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings.load({"home": home})


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    command("db", "upgrade")
    opened = opening.open(settings)
    yield opened
    opened.dispose()


def invoke(*args: str) -> Result:
    result = CliRunner().invoke(main.app, list(args))
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def command(*args: str) -> str:
    return invoke(*args).stdout


def document(*args: str) -> Any:
    return json.loads(invoke(*args, "--json").stdout)  # what is said beside it is for a person


def rows(database: Database, table: sa.Table) -> list[Any]:
    with database.read() as conn:
        return list(conn.execute(sa.select(table)))


def test_database_is_upgraded_by_a_person_and_loses_nothing(home: Path, settings: Settings) -> None:
    with pytest.raises(DatabaseError, match="run `redistill db upgrade`"):
        opening.open(settings)
    said = command("db", "upgrade")
    assert "upgraded from revision 0002" in said
    assert "took 10 audit entries and 2 versions of 1 models in as they stand" in said
    assert "sealed 4 stored states of detectors" in said
    assert command("db", "upgrade").endswith("nothing to do\n")
    counts = document("db", "show")["rows"]
    assert (counts["join_rows"], counts["outcomes"], counts["labels"]) == (2_650, 772, 772)
    assert (counts["outbox"], counts["audit"], counts["job_steps"]) == (19, 12, 14)
    assert all(i["holds"] for i in map(json.loads, history()))


def test_upgrade_without_the_state_key_says_so_and_is_done_where_the_key_is(home: Path) -> None:
    key = home / "keys" / "state.key"
    key.rename(home / "elsewhere")
    refused = CliRunner().invoke(main.app, ["db", "upgrade"])
    assert isinstance(refused.exception, DatabaseError)
    assert "which is not here" in str(refused.exception)
    assert not key.exists(), "a new key would open nothing"
    key.write_text("ab" * 32)
    refused = CliRunner().invoke(main.app, ["db", "upgrade"])
    assert "with the key of the stream workers" in str(refused.exception)
    (home / "elsewhere").rename(key)
    assert "sealed 4 stored states" in command("db", "upgrade")


def test_lost_state_key_is_given_up_with_a_word(home: Path) -> None:
    (home / "keys" / "state.key").unlink()
    assert "detectors start anew" in command("db", "upgrade", "--new-state-key")
    assert command("db", "upgrade").endswith("nothing to do\n")


def history() -> list[str]:
    """One document for each invariant."""
    return command("check-history", "--offline", "--json").splitlines()[:-1]


def test_commands_show_what_happened_under_the_first_release(database: Database) -> None:
    shown = document("models")
    (model,) = shown["models"]
    assert (model["model"], model["level"], model["version"]) == ("credit", "repair", BASELINE)
    assert model["accuracy"]["n"] == 720
    assert shown["unregistered"] == {"stranger": 40}
    detail = document("models", "credit")
    assert [(v["version"], v["serves"]) for v in detail["versions"]] == [
        (REPAIRED, False),
        (BASELINE, True),
    ]
    assert [m["change"] for m in detail["moves"]] == ["rollback", "publish", "publish"]
    assert (detail["comparison"]["predecessor"], detail["stored"]["rows"]) == (BASELINE, 1_000)

    (listed,) = document("incidents", "list", "--all")
    assert (listed["incident_class"], listed["stage"]) == ("harm", "guarding")
    incident = document("incidents", "show", listed["incident_id"])
    assert [f["kind"] for f in incident["findings"]] == ["accuracy"]
    assert incident["timeline"][0]["what"] == "opened"

    (job,) = document("jobs", "list")
    assert (job["state"], job["outcome"]["version"]) == ("succeeded", REPAIRED)
    shown = document("jobs", "show", "1")
    assert {s["name"] for s in shown["steps"]} >= {"window", "train", "gate", "publish"}
    assert all(gate["passed"] for gate in shown["gates"])


def test_states_of_detectors_are_read_and_go_on(database: Database, settings: Settings) -> None:
    with database.read() as conn:
        watched = specs.load(conn)["credit"]
    assert set(watched.profiles) == {BASELINE, REPAIRED}
    assert all(profile is not None for profile, _ in watched.profiles.values())
    key = settings.state_key_bytes()
    for row in rows(database, input_states):
        profile, _ = watched.profiles[row.version]
        partition = (row.topic_id, row.partition)
        state = InputState.from_bytes(
            bytes(row.state), key, model="credit", version=row.version, partition=partition
        )
        assert state.counted.rows == row.rows
        assert profile is not None
        assert state.digest == profile.digest  # counts made under another profile are dropped
        later = tick(state, row.last_served_at + 2 * DAY, profile=profile, config=watched.config)
        assert [w.rows for w in later.windows] == [row.rows % watched.config.window_rows]
        seen = observe(
            later.state, served(watched.config, row.version, row.last_served_at + 3 * DAY),
            profile=profile, config=watched.config, partition=partition,
        )  # fmt: skip
        assert seen.state.counted.rows == row.rows + 1
    for row in rows(database, accuracy_states):
        state_n = AccuracyState.from_bytes(
            bytes(row.state), key, model="credit", version=row.version
        ).n
        assert state_n == row.n


def served(config: WatchConfig, version: str, at: int) -> PredictionBlock:
    """One row that was served."""
    made = encode(
        PredictionMade(
            id="later", model=config.model, version=version, served_at=utc(at), features=ROW,
            prediction="repay", scores=[0.9, 0.1],
        ),
        source="/test",
    )  # fmt: skip
    record = Record(made.topic, 0, 0, 0, made.key, made.value, made.headers)
    (block,) = decode_predictions([record], lambda _: config.schema).blocks
    return block


def test_label_that_comes_after_the_upgrade_joins_what_was_served_before(
    database: Database, settings: Settings
) -> None:
    with database.begin() as conn:
        config = specs.load(conn)["credit"].config
        known = sa.select(outcomes.c.id_hash)
        served = conn.execute(sa.select(join_rows).where(join_rows.c.id_hash.not_in(known))).first()
        assert served is not None
        before = conn.execute(
            sa.select(sa.func.max(outcomes.c.seq)).where(outcomes.c.version == served.version)
        ).scalar_one()
        now = served.served_at + HOUR
        conn.execute(
            sa.insert(labels).values(
                model="credit", id="late", source="ledger", observed_at=now, id_hash=served.id_hash,
                label=served.prediction, op="upsert", received_at=now, state="waiting",
            )
        )  # fmt: skip
    key = settings.state_key_bytes()
    step = join_labels(database, config, now=now, state_key=key)
    assert step == JoinStep(outcomes=1)
    (made,) = [o for o in rows(database, outcomes) if o.id == "late"]
    assert (made.version, made.seq, made.correct) == (served.version, before + 1, 1)


def test_salt_still_finds_the_rows_that_were_served(database: Database) -> None:
    with database.begin() as conn:
        salt = properties.salt(conn)
        known = set(conn.execute(sa.select(join_rows.c.id_hash)).scalars())
    ids = [f"loan-{i:06d}" for i in range(1, 2_651)]
    assert set(signed(id_hashes(ids, salt)).tolist()) == known


def test_sample_of_an_unregistered_model_is_read(database: Database) -> None:
    with database.read() as conn:
        seen = look(conn, "stranger")
    assert (seen.rows, list(seen.numbers)) == (40, ["x"])


def test_releases_move_with_their_keys_and_a_client_follows(
    database: Database, home: Path, tmp_path: Path
) -> None:
    assert document("publish", "credit", REPAIRED)["epoch"] == 4
    model = ModelClient(
        "credit", repository=home / "repository", trust=home / "root.json", cache=tmp_path / "cache",
        poll_s=3_600,
    )  # fmt: skip
    try:
        assert (model.version, model.epoch) == (REPAIRED, 4)
        assert model.predict(ROW).prediction in ("repay", "default")
        document("rollback", "credit")
        assert model.refresh()
        assert (model.version, model.epoch) == (BASELINE, 5)
        assert model.predict(ROW).prediction in ("repay", "default")
    finally:
        model.close()
    assert all(i["holds"] for i in map(json.loads, history()))
