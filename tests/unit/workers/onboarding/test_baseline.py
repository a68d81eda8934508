"""The first release: judged alone, published once, never moved by registering again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import loop
import pytest
import release_rows
import sqlalchemy as sa
from job_worker import Answer, ScriptedChild, report
from loop import NOW

from redistill.compress.plan import Accepted, Rejected, Undecidable
from redistill.streams.errors import ReleaseError
from redistill.streams.store import lease
from redistill.streams.store.database import Database
from redistill.workers.errors import KeysError, RegistryError, SpecError
from redistill.workers.jobs.child import Child
from redistill.workers.jobs.child_outcome import ChildFailed
from redistill.workers.models import objects
from redistill.workers.models.spec import ModelSpec
from redistill.workers.onboarding import baseline, external_package
from redistill.workers.onboarding.baseline import JudgedBaseline
from redistill.workers.releases.release_requests import RequestResult
from redistill.workers.releases.repository import LEASE
from redistill.workers.releases.repository_writer import RepositoryWriter
from redistill.workers.settings.settings import Settings
from redistill.workers.store.tables import pointers, versions

ACCEPTED = report("baseline", Accepted(variant="incumbent"))


@dataclass
class World:
    """A model whose files are in the object store, and its level's database."""

    database: Database
    settings: Settings
    spec: ModelSpec
    child: ScriptedChild = field(default_factory=ScriptedChild)

    def judge(self, answer: Answer) -> JudgedBaseline:
        """Judge its files; the child gives this answer."""
        self.child.answers = [answer]
        return baseline.judge(self.spec, self.settings, cast(Child, self.child), now=NOW)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    release_rows.prepared(database)
    settings = Settings.load({"home": tmp_path / "home"})
    roles = ("trusted", "reference", "model", "training/architecture.json")
    stored = {role: objects.put_bytes(settings.objects_folder, role.encode()) for role in roles}

    def build(*_: Any, version: str, kind: str, **__: Any) -> Any:
        return release_rows.package(version, kind=kind)

    monkeypatch.setattr(external_package, "build", build)
    yield World(database, settings, replace(loop.spec(), objects=stored))
    database.dispose()


def test_files_of_the_model_are_judged_as_the_incumbent(world: World) -> None:
    judged = world.judge(ACCEPTED)
    assert judged.report == ACCEPTED
    assert (judged.package.manifest.version, judged.package.manifest.kind) == ("v1", "baseline")
    assert world.child.folders == [
        {
            "job.json",
            "trusted.parquet",
            "reference.parquet",
            "incumbent/model.onnx",
            "incumbent/training/architecture.json",
        }
    ]
    assert list(world.settings.jobs_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (report("baseline", Rejected(reasons=("too slow", "too large"))), "may not serve: too slow; too large"),
        (report("baseline", Undecidable(gate="g", have=1, need=None, why="few")), "cannot be judged: few"),
        (report("baseline"), "decides nothing"),
        (ChildFailed("it crashed", kind="crashed", retriable=True), "cannot serve: it crashed"),
    ],
)  # fmt: skip
def test_baseline_that_may_not_serve_says_why(world: World, answer: Answer, why: str) -> None:
    with pytest.raises(SpecError, match=f"credit v1.*{why}"):
        world.judge(answer)
    assert list(world.settings.jobs_folder.iterdir()) == []


def test_graph_that_no_service_would_load_is_a_mistake_in_model_toml(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ReleaseError("the golden test failed")

    monkeypatch.setattr(external_package, "build", refuse)
    with pytest.raises(SpecError, match="cannot serve: the golden test failed"):
        world.judge(ACCEPTED)


def test_folder_that_a_crash_left_is_begun_again(world: World) -> None:
    name = f"baseline-credit-{world.spec.config_sha256()[:8]}"
    (world.settings.jobs_folder / name / "work").mkdir(parents=True)
    world.judge(ACCEPTED)
    assert "work" not in {n.partition("/")[0] for n in world.child.folders[0]}


def publish(
    world: World, monkeypatch: pytest.MonkeyPatch, result: RequestResult
) -> list[dict[str, Any]]:
    """Publish the baseline; the repository's writer gives this answer."""
    asked: list[dict[str, Any]] = []

    def perform(
        database: Database, writer: Any, kind: str, model: str, body: Any, **more: Any
    ) -> RequestResult:
        asked.append({"kind": kind, "model": model, "body": body, **more})
        return result

    monkeypatch.setattr(baseline.submission, "perform", perform)
    said = baseline.publish(
        world.database,
        cast(RepositoryWriter, None),
        world.judge(ACCEPTED),
        actor="cli:ann",
        now=NOW,
        wait_seconds=3,
    )
    assert said == result.message
    return asked


def test_baseline_is_entered_as_passed_and_asked_to_be_published(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = publish(world, monkeypatch, RequestResult(ok=True, message="credit serves v1"))
    with world.database.read() as conn:
        row = conn.execute(sa.select(versions)).one()
    assert (row.version, row.kind, row.status, row.gate_passed) == (
        "v1", "baseline", "candidate", True,
    )  # fmt: skip
    ((request),) = asked
    assert (request["kind"], request["model"]) == ("publish", "credit")
    assert request["body"] == {"version": "v1", "reason": "baseline: what served before"}
    assert (request["actor"], request["wait_seconds"]) == ("cli:ann", 3)


def test_publishing_again_after_a_crash_enters_nothing_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = RequestResult(ok=True, message="credit serves v1")
    publish(world, monkeypatch, done)
    publish(world, monkeypatch, done)
    with world.database.read() as conn:
        assert len(conn.execute(sa.select(versions)).all()) == 1


def test_refusal_of_the_writer_is_raised(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RegistryError, match="is barred"):
        publish(world, monkeypatch, RequestResult(ok=False, message="v1 is barred"))


# --- registering again ------------------------------------------------------------------------


def serving(world: World, version: str = "v1") -> None:
    with world.database.begin() as conn:
        release_rows.add(conn, version, kind="baseline")
        release_rows.publish(conn, version)


def differs(world: World, spec: ModelSpec) -> str | None:
    with world.database.read() as conn:
        return baseline.differs(conn, spec)


def with_model(spec: ModelSpec, sha256: str, **model: Any) -> ModelSpec:
    return replace(
        spec, objects=spec.objects | {"model": sha256}, model=replace(spec.model, **model)
    )


def test_changed_model_section_moves_no_pointer_and_says_so(world: World) -> None:
    serving(world)
    same = with_model(world.spec, release_rows.digest("credit|v1|model.onnx"))
    assert differs(world, same) is None
    other_file = with_model(world.spec, "f" * 64)
    assert differs(world, other_file) == (
        "[model] is read once, and v1 serves: to publish another file use"
        " `redistill add credit v1 FILE`"
    )
    other_version = with_model(same, same.objects["model"], version="v2")
    assert "redistill add credit v2 FILE" in str(differs(world, other_version))


def test_nothing_is_said_where_nothing_serves_or_nothing_is_published(world: World) -> None:
    assert differs(world, with_model(world.spec, "f" * 64)) is None
    serving(world)
    assert differs(world, with_model(world.spec, "f" * 64, version=None)) is None
    assert differs(world, replace(with_model(world.spec, "f" * 64), level="watch")) is None


def test_what_serves_is_what_the_pointer_names(world: World) -> None:
    with world.database.read() as conn:
        assert baseline.serves(conn, "credit") is None
    serving(world)
    with world.database.read() as conn:
        assert baseline.serves(conn, "credit") == "v1"
        assert conn.execute(sa.select(pointers.c.epoch)).scalar_one() == 1


# --- keys -------------------------------------------------------------------------------------


def test_somebody_must_be_able_to_sign(world: World) -> None:
    with pytest.raises(KeysError, match="redistill keys init"):
        baseline.check_keys(world.database, world.settings, now=NOW)


def test_process_that_holds_the_repository_can_sign(world: World) -> None:
    with world.database.begin() as conn:
        lease.acquire(conn, LEASE, "worker", now=NOW, seconds=10)
    baseline.check_keys(world.database, world.settings, now=NOW)
    with pytest.raises(KeysError):
        baseline.check_keys(world.database, world.settings, now=NOW + 10_000_001)


def test_own_keys_are_enough(world: World) -> None:
    world.settings.keys_folder.mkdir(parents=True)
    (world.settings.keys_folder / "root.json").write_text("{}")
    baseline.check_keys(world.database, world.settings, now=NOW)
