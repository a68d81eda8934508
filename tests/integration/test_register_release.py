"""Levels rollback and repair: register judges what serves, and publishes it as the first release."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import linear
import numpy as np
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from redistill.streams.client.fetch import Repository
from redistill.streams.store.database import Database
from redistill.streams.store.tables import specs
from redistill.workers.errors import KeysError, SpecError
from redistill.workers.invariants import check
from redistill.workers.releases import keys
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.settings.settings import Settings
from redistill.workers.store import opening
from redistill.workers.store.tables import pointer_history, pointers, versions

pytestmark = pytest.mark.slow  # each first registration starts a process that judges

Run = Callable[..., str]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("REDISTILL_HOME", str(tmp_path / "home"))
    return Settings.load()


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = opening.open(settings)
    yield database
    database.dispose()


@pytest.fixture
def run() -> Run:
    from redistill.workers.cli.register import app

    def call(*args: str | Path) -> str:
        result = CliRunner().invoke(app, [str(a) for a in args])
        if result.exception is not None:
            raise result.exception
        return result.stdout

    return call


def make_keys(settings: Settings) -> None:
    from datetime import UTC, datetime

    keys.init(settings.keys_folder, passphrase=None, now=datetime.now(UTC))


def rows(database: Database, table: sa.Table) -> list[Any]:
    with database.read() as conn:
        return list(conn.execute(sa.select(table)))


def test_without_keys_nothing_is_registered(
    settings: Settings, database: Database, run: Run, tmp_path: Path
) -> None:
    with pytest.raises(KeysError, match="redistill keys init"):
        run(linear.build(tmp_path / "m", level="rollback"))
    assert rows(database, specs) == []


def test_the_first_release_is_judged_published_and_readable(
    settings: Settings, database: Database, run: Run, tmp_path: Path
) -> None:
    make_keys(settings)
    spec = linear.build(tmp_path / "m", level="repair")
    said = json.loads(run(spec, "--json"))
    assert said["published"] == "linear serves v1 (epoch 1)"
    (version,) = rows(database, versions)
    assert (version.kind, version.status, version.gate_passed) == ("baseline", "published", True)
    assert json.loads(version.report)["mode"] == "baseline"

    trust = tmp_path / "root.json"
    keys.export(settings.keys_folder, trust)
    repository = Repository(
        RepositoryLayout(settings.root).repository,
        trust=trust.read_bytes(),
        cache=tmp_path / "cache",
    )
    pointer = repository.pointer("linear")
    assert (pointer.stable, pointer.epoch) == ("v1", 1)
    release = repository.release("linear", pointer.manifest_sha256)
    assert (release / "model.onnx").read_bytes() == (tmp_path / "m" / "model.onnx").read_bytes()
    repository.close()

    # again, with another tolerance, and with another file: the pointer stays
    assert "unchanged" in run(spec)
    spec.write_text(spec.read_text().replace("tolerance_points = 2.0", "tolerance_points = 3.0"))
    assert "changed, revision" in run(spec)
    linear.graph(tmp_path / "m" / "model.onnx", np.array([[-2, 2], [-2, 2], [0, 0]], np.float32))
    assert "[model] is read once, and v1 serves: to publish another file" in run(spec)
    assert [r.epoch for r in rows(database, pointer_history)] == [1]

    checked = check.check(
        database, now=1_900_000_000_000_000, home=settings.root, outbox_kept_us=10**15
    )
    assert [c.problems for c in checked if not c.holds] == []


def test_a_registration_cut_short_is_completed_by_the_next(
    settings: Settings,
    database: Database,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_keys(settings)
    spec = linear.build(tmp_path / "m", level="rollback")
    (tmp_path / "m" / "reference.parquet").unlink()  # this level needs none
    spec.write_text(spec.read_text().replace('reference = "reference.parquet"\n', ""))

    from redistill.workers.releases import submission

    def die(*_: Any, **__: Any) -> None:
        raise SystemExit(9)

    with monkeypatch.context() as patch:
        patch.setattr(submission, "perform", die)  # the process ends before its wish is written
        with pytest.raises(SystemExit):
            run(spec)
    assert len(rows(database, specs)) == len(rows(database, versions)) == 1
    assert rows(database, pointers) == []
    assert "linear serves v1 (epoch 1)" in run(spec)
    assert len(rows(database, versions)) == 1


def test_a_model_beyond_its_own_limits_may_not_serve(
    settings: Settings, database: Database, run: Run, tmp_path: Path
) -> None:
    make_keys(settings)
    spec = linear.build(tmp_path / "m", level="repair")
    spec.write_text(spec.read_text() + "[repair]\nmax_bytes = 10\n")
    with pytest.raises(SpecError, match=r"linear v1 may not serve: .*bytes"):
        run(spec)
    assert rows(database, specs) == []
    assert rows(database, versions) == []
