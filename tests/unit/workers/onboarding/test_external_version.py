"""A version that a person brings: refused at first sight, or judged against what serves."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import job_worker
import loop
import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import release_rows
import sqlalchemy as sa
from job_worker import Progress, ScriptedChild, report
from loop import NOW
from release_kit import graph
from served_rows import labelled, served

from redistill import onnxfile
from redistill.compress.judge.as_good import rows_to_show
from redistill.compress.plan import (
    ERROR_ROWS,
    Accepted,
    Comparison,
    Decision,
    Gate,
    Measure,
    NeedsPerson,
    Rejected,
    Report,
    Undecidable,
    Variant,
)
from redistill.files import sha256_of, sha256_of_bytes
from redistill.streams.client.release import FileEntry
from redistill.streams.errors import ReleaseError
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.expected_error import ExpectedError
from redistill.streams.store.database import Database
from redistill.streams.store.tables import profiles, specs
from redistill.workers.errors import RegistryError, UsageError
from redistill.workers.jobs.child import Child
from redistill.workers.jobs.child_outcome import ChildFailed
from redistill.workers.models.spec import ModelSpec
from redistill.workers.onboarding import external_package, external_version
from redistill.workers.onboarding.external_version import ExternalVersion, as_good
from redistill.workers.releases import best_release, registry
from redistill.workers.settings.settings import Settings
from redistill.workers.store.tables import audit, pointers, versions

ACCEPTED = Accepted(variant="added")


@dataclass
class World:
    """A model that serves ``v1``, and a file that somebody brings."""

    database: Database
    settings: Settings
    file: Path
    child: ScriptedChild = field(default_factory=ScriptedChild)
    started: int = 0

    def start(self) -> Any:
        """The process in which it is judged."""
        self.started += 1
        return contextlib.nullcontext(cast(Child, self.child))

    def add(self, *answers: job_worker.Answer, version: str = "v2", **more: Any) -> ExternalVersion:
        """Bring the file; the child gives these answers."""
        self.child.answers = list(answers)
        options: dict[str, Any] = {"model": "credit", "trusted_only": False} | more
        return external_version.add(
            self.database, self.settings, self.start, version=version, file=self.file,
            actor="cli:ann", now=NOW, **options,
        )  # fmt: skip

    @property
    def rows(self) -> dict[str, Any]:
        """Rows of versions."""
        with self.database.read() as conn:
            return {r.version: r for r in conn.execute(sa.select(versions))}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    job_worker.registered(database, tmp_path / "home")
    file = tmp_path / "brought.onnx"
    onnx.save(graph(np.eye(2, dtype=np.float32), np.zeros(2, np.float32)), file)

    def build(*_: Any, version: str, kind: str, predecessor: str, **__: Any) -> Any:
        return release_rows.package(version, kind=kind, predecessor=predecessor)

    monkeypatch.setattr(external_package, "build", build)
    yield World(database, Settings.load({"home": tmp_path / "home"}), file)
    database.dispose()


def judged(
    decision: Decision = ACCEPTED, *, accuracy: float = 0.75, n: int = 200
) -> Callable[[Path, Progress], Report]:
    """The child's work: a report, and the reference rows with the version's answers."""

    def work(folder: Path, progress: Progress) -> Report:
        (folder / "candidate").mkdir()
        scores = [0.9, 0.1] * 40
        table = pa.table(
            {
                "x": pa.array(np.arange(40, dtype=np.float32)),
                "y": pa.array(np.zeros(40, np.float32)),
                "prediction": ["repay"] * 40,
                "scores": pa.FixedSizeListArray.from_arrays(pa.array(scores, pa.float32()), 2),
            }
        )
        pq.write_table(table, folder / "candidate" / "reference_rows.parquet")
        measure = Measure(value=accuracy, low=None, high=None, n=n)
        variant = Variant(
            name="added", sha256="a" * 64, bytes=1, p50_ms=0.1, p95_ms=0.1,
            trusted_accuracy=measure, fresh_accuracy=None, agreement=None,
        )  # fmt: skip
        return report("baseline", decision, variants=(variant,))

    return work


def test_accepted_version_is_entered_with_what_is_normal_for_it(world: World) -> None:
    found = world.add(judged())
    assert found.version is not None
    row = world.rows["v2"]
    assert (row.kind, row.status, row.gate_passed) == ("added", "candidate", True)
    assert row.predecessor == "v1"
    with world.database.read() as conn:
        normal = conn.execute(sa.select(profiles).where(profiles.c.version == "v2")).one()
        stable = conn.execute(sa.select(pointers.c.stable)).scalar_one()
    assert normal.profile is not None
    base = BaseError.from_json(normal.base_error)
    assert (base.errors, base.n, base.provisional) == (50, 200, False)
    assert stable == "v1"  # publishing is another command


def test_slices_of_an_added_version_have_its_errors_on_trusted_rows(world: World) -> None:
    region = ["EU", "US"] * 100
    answers = [int(i % 4 == 0) for i in range(200)]  # 50 are wrong, all of them in the EU

    def work(folder: Path, progress: Progress) -> Report:
        scores = np.tile(np.array([0.9, 0.1], np.float32), 200)
        table = pa.table(
            {
                "x": pa.array(np.zeros(200, np.float32)),
                "y": pa.array(np.zeros(200, np.float32)),
                "region": region,
                "prediction": [["repay", "default"][a] for a in answers],
                "scores": pa.FixedSizeListArray.from_arrays(pa.array(scores), 2),
                "label": ["repay"] * 200,
            }
        )
        pq.write_table(table, folder / ERROR_ROWS)
        return judged()(folder, progress)

    with world.database.begin() as conn:
        spec = ModelSpec.from_json(conn.execute(sa.select(specs.c.spec)).scalar_one())
        spec = replace(spec, schema=replace(spec.schema, slices=("region",)))
        conn.execute(sa.update(specs).values(spec=spec.to_json()))
    world.add(work)
    with world.database.read() as conn:
        normal = conn.execute(sa.select(profiles).where(profiles.c.version == "v2")).one()
        bodies = conn.execute(
            sa.select(audit.c.body).where(audit.c.action == "release.candidate")
        ).scalars()
        (told,) = (b for b in map(json.loads, bodies) if b["version"] == "v2")
    expected = ExpectedError.from_json(normal.expected_error)
    base = BaseError.from_json(normal.base_error)
    assert (expected.errors, expected.n) == (base.errors, base.n) == (50, 200)
    assert [(s.name, s.errors) for s in expected.slices] == [("region=EU", 50), ("region=US", 0)]
    assert told["expected_error_sha256"] == sha256_of_bytes(normal.expected_error.encode())


def test_rejected_version_is_entered_too(world: World) -> None:
    found = world.add(judged(Rejected(reasons=("too slow",))))
    assert found.version is not None
    assert (world.rows["v2"].status, world.rows["v2"].gate_passed) == ("rejected", False)


def test_a_file_of_a_converter_is_adopted_before_it_is_judged(world: World) -> None:
    doubles = graph(np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
    doubles.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    cast = onnx.helper.make_node("Cast", ["x"], ["x32"], to=onnx.TensorProto.FLOAT)
    for node in doubles.graph.node:
        node.input[:] = ["x32" if name == "x" else name for name in node.input]
    doubles.graph.node.insert(0, cast)
    onnx.save(doubles, world.file)
    brought, seen = world.file.read_bytes(), []

    def work(folder: Path, progress: Progress) -> Report:
        seen.append((folder / "added" / "model.onnx").read_bytes())
        return judged()(folder, progress)

    assert world.add(work).version is not None
    assert seen[0] != brought
    (port,) = onnxfile.check_bytes("m", seen[0]).inputs
    assert port.element == "FLOAT"


def test_undecided_version_is_not_entered(world: World) -> None:
    undecided = Undecidable(gate="fresh_points", have=9, need=90, why="too few rows")
    found = world.add(judged(undecided))
    assert found.version is None
    assert set(world.rows) == {"v1"}


def test_version_without_trusted_rows_has_no_base_error(world: World) -> None:
    world.add(judged(n=0))
    with world.database.read() as conn:
        query = sa.select(profiles.c.base_error).where(profiles.c.version == "v2")
        assert conn.execute(query).scalar_one() is None


def test_child_is_given_both_graphs_and_labelled_rows(world: World) -> None:
    served(world.database, range(1, 101))
    labelled(world.database, range(1, 101))
    world.add(judged())
    (names,) = world.child.folders
    assert names >= {"incumbent/model.onnx", "added/model.onnx", "fresh.parquet", "job.json"}
    assert world.child.asked[0].made_here == ()
    assert list(world.settings.jobs_folder.iterdir()) == []


@pytest.mark.parametrize("how", ["no labels", "trusted only"])
def test_rows_that_are_not_there_or_not_wanted_are_left_out(world: World, how: str) -> None:
    served(world.database, range(1, 101))
    if how == "trusted only":
        labelled(world.database, range(1, 101))
    world.add(judged(), trusted_only=how == "trusted only")
    assert "fresh.parquet" not in world.child.folders[0]


def test_incumbent_of_a_repair_is_told(world: World) -> None:
    with world.database.begin() as conn:
        conn.execute(sa.update(versions).values(kind="repaired"))
    world.add(judged())
    assert world.child.asked[0].made_here == ("incumbent",)


def test_earlier_releases_are_handed_to_the_child(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = world.settings.root
    entry = job_worker.release_file(home, "model.onnx", b"the graph of v0")
    with world.database.read() as conn:
        v1 = registry.get(conn, "credit", "v1")
    files = {"model.onnx": FileEntry(**entry)}
    v0 = replace(v1, version="v0", kind="repaired", files=files)
    monkeypatch.setattr(best_release, "contenders", lambda conn, model: [v0])
    world.add(judged())
    assert "best/1/model.onnx" in world.child.folders[0]
    asked = world.child.asked[0]
    assert (asked.releases, asked.made_here) == (("v0",), ("best/1",))


def test_waiver_of_who_adds_a_version_reaches_the_child_and_the_audit_chain(world: World) -> None:
    world.add(judged(), waived={"trusted": "old rows"})
    told = {"trusted": "cli:ann: old rows"}
    assert world.child.asked[0].waived == told
    with world.database.read() as conn:
        entry = conn.execute(sa.select(audit).order_by(audit.c.seq.desc())).mappings().first()
    assert entry is not None
    assert (entry["action"], entry["actor"]) == ("release.gates_waived", "cli:ann")
    assert json.loads(entry["body"]) == {"version": "v2", "waived": told}


@pytest.mark.parametrize("version", ["", "v" * 81, "v\n2"])
def test_odd_names_of_versions_are_refused(world: World, version: str) -> None:
    with pytest.raises(RegistryError, match="is no name of a version"):
        world.add(version=version)
    assert world.started == 0


def test_very_bytes_that_serve_are_nothing_to_add(world: World) -> None:
    with world.database.begin() as conn:
        conn.execute(sa.update(versions).values(sha256=sha256_of(world.file)))
    with pytest.raises(RegistryError, match="very bytes of credit v1"):
        world.add()
    assert world.started == 0


def test_name_that_is_taken_by_other_bytes_is_refused(world: World) -> None:
    world.add(judged())
    with pytest.raises(RegistryError, match="version v2 with other bytes already"):
        world.add()
    assert world.started == 1


def test_file_that_is_no_graph_is_refused(world: World) -> None:
    world.file.write_bytes(b"pickle")
    with pytest.raises(UsageError):
        world.add()
    assert world.started == 0


def test_graph_with_other_inputs_does_not_fit_the_model(world: World) -> None:
    onnx.save(graph(np.zeros((3, 2), np.float32), np.zeros(2, np.float32)), world.file)
    with pytest.raises(UsageError, match=r"brought\.onnx does not fit \[model\] of credit"):
        world.add()
    assert world.started == 0


def test_child_that_failed_is_told_and_leaves_nothing(world: World) -> None:
    with pytest.raises(ReleaseError, match=r"brought\.onnx cannot be judged: it crashed"):
        world.add(ChildFailed("it crashed", kind="crashed", retriable=True))
    assert list(world.settings.jobs_folder.iterdir()) == []
    assert set(world.rows) == {"v1"}


def test_watched_or_unserved_model_cannot_be_added_to(world: World) -> None:
    with world.database.begin() as conn:
        loop.register(conn, loop.spec("loans", level="watch"), version=None)
        loop.register(conn, loop.spec("cards"), version=None)
    with pytest.raises(RegistryError, match="only watched"):
        world.add(model="loans")
    with pytest.raises(RegistryError, match="cards serves nothing yet"):
        world.add(model="cards")
    with pytest.raises(RegistryError, match="no model named 'nobody'"):
        world.add(model="nobody")


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        (ACCEPTED, "every gate passed"),
        (Rejected(reasons=("too slow", "too large")), "too slow; too large"),
        (Undecidable(gate="gain", have=9, need=90, why="f"), "gain is undecided with 9 rows, about 90 would decide: f"),
        (Undecidable(gate="gain", have=9, need=None, why="few"), "gain is undecided with 9 rows: few"),
        (NeedsPerson(gate="trusted", have=90, need=170, why="few", ask="rows"),
         "needs a person: trusted rows. trusted: few. Choose: (1) bring about 100 more trusted rows: "
         "`redistill register model.toml` with a larger file, then `redistill add credit v2 x.onnx`; "
         "(2) take it upon yourself: `redistill add credit v2 x.onnx --waive trusted --reason TEXT`"),
        (None, "the report decides nothing"),
    ],
)  # fmt: skip
def test_decision_is_told_in_words(decision: Decision, words: str) -> None:
    again = "redistill add credit v2 x.onnx"
    assert external_version.why(report("baseline", decision), again=again) == words


def test_model_that_is_registered_while_a_version_is_added_is_no_changed_row(
    postgres_url: str, tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = loop.opened(postgres_url)
    job_worker.registered(database, tmp_path / "home")
    carried = job_worker.vouched(database, tmp_path / "audit.key")
    known = external_version._known

    def with_a_registration_after_it(*args: Any) -> Any:
        found = known(*args)
        job_worker.register_again(carried)
        return found

    monkeypatch.setattr(external_version, "_known", with_a_registration_after_it)
    world.database = carried
    assert world.add(judged()).version is not None
    database.dispose()


def trusted_gate(passed: bool | None, high: float) -> dict[str, object]:
    gate = Gate(name="trusted", value=-9.0, limit=-1.0, passed=passed, why="", high=high, have=400)
    paired = Comparison(wins=8, losses=32, ties=360, e_better=0.0, e_worse=9.0)
    return {"gates": (gate,), "trusted": paired}


def test_what_as_good_takes_is_told_where_trusted_rows_did_not_let_it_pass() -> None:
    told = as_good(report("baseline", **trusted_gate(False, -4.0)))
    assert told is not None
    assert "loses less than 1 points on trusted rows" in told
    assert "has to win back 3.0 points at least" in told
    need = rows_to_show(0.1, 0.01)
    assert f"differs on 10.0% of the rows shows it with about {need:,} of them, and 400" in told
    assert f"no version does with less than {rows_to_show(0.0, 0.01)}" in told
    open_ = as_good(report("baseline", **trusted_gate(None, 2.0)))
    assert open_ is not None
    assert "win back" not in open_
    assert as_good(report("baseline", **trusted_gate(True, 2.0))) is None
    assert as_good(report("baseline")) is None
