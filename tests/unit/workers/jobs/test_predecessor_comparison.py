"""Comparisons with the predecessor: when they are made, of what, and what follows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import job_worker
import loop
import pytest
import sqlalchemy as sa
from job_worker import ScriptedChild, report
from loop import NOW, Clock
from served_rows import labelled, served
from structlog.testing import capture_logs

from redistill.compress.plan import Comparison
from redistill.streams.store import lease
from redistill.streams.store.database import Database
from redistill.streams.store.tables import labels, outcomes, specs
from redistill.times import DAY, HOUR, SECOND
from redistill.workers.errors import RegistryError
from redistill.workers.jobs import predecessor_comparison, training_window
from redistill.workers.jobs.child_outcome import ChildCancelled, ChildFailed
from redistill.workers.jobs.predecessor_comparison import ComparisonRunner
from redistill.workers.releases import post_release_monitor, registry
from redistill.workers.releases.post_release_monitor import Settlement
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.releases.roles import Lifetimes
from redistill.workers.store.tables import barred, monitored_releases, versions

OPEN = report("compare", fresh=Comparison(wins=3, losses=2, ties=9, e_better=1.1, e_worse=0.9))
BETTER = report("compare", fresh=Comparison(wins=40, losses=2, ties=9, e_better=1e4, e_worse=0.1))
WORSE = report("compare", fresh=Comparison(wins=2, losses=40, ties=9, e_better=0.1, e_worse=1e4))


@dataclass
class World:
    """A version ``v2`` that replaced ``v1`` a moment ago, and its first labelled rows."""

    database: Database
    home: Path
    clock: Clock = field(default_factory=Clock)
    child: ScriptedChild = field(default_factory=ScriptedChild)
    rolled_back: int = 0

    def __post_init__(self) -> None:
        self.deps = job_worker.dependencies(
            self.database, self.home, child=self.child, clock=self.clock
        )
        self.runner = ComparisonRunner(
            self.deps, lifetimes=Lifetimes(), cool_down_seconds=60.0, on_rollback=self._count
        )

    def _count(self) -> None:
        self.rolled_back += 1

    def look(self, *answers: job_worker.Answer) -> int:
        """One round; the child gives these answers."""
        self.child.answers = list(answers)
        return self.runner.run_once()

    def label(
        self, *hashes: int, source: str = "ledger", came: int = NOW, every: int = 10 * SECOND
    ) -> None:
        """Serve and label rows of the new version."""
        rows = range(*hashes)
        served(self.database, rows, at=NOW, version="v2")
        labelled(self.database, rows, version="v2", source=source, came=came, every=every)

    def watching(self, **settings: Any) -> None:
        """Change what stream workers obey."""
        with self.database.begin() as conn:
            watch = json.loads(conn.execute(sa.select(specs.c.watch)).scalar_one())
            conn.execute(sa.update(specs).values(watch=json.dumps(watch | settings)))

    def usual(self, labels: int, *, days: int = 5, first: int = 10_000, **how: Any) -> None:
        """So many labels a day came before the release."""
        rows = range(first, first + labels * days)
        labelled(self.database, rows, came=NOW - days * DAY, every=DAY // labels, **how)

    @property
    def compared(self) -> set[int]:
        """Rows that the child was given last."""
        return set(self.child.fresh[-1].column("id_hash").to_pylist())

    @property
    def state(self) -> str:
        """State of the comparison."""
        return str(self.row["state"])

    @property
    def row(self) -> Any:
        """Its row."""
        with self.database.read() as conn:
            return conn.execute(sa.select(monitored_releases)).mappings().one()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    database, home = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}"), tmp_path / "home"
    job_worker.registered(database, home)
    entry = job_worker.release_file(home, "model.onnx", b"the graph of v2")
    with database.begin() as conn:
        loop.point(conn, "credit", "v2", now=NOW)
        conn.execute(
            sa.update(versions)
            .where(versions.c.version == "v2")
            .values(files=json.dumps({"model.onnx": entry}))
        )
        conn.execute(
            sa.insert(monitored_releases).values(
                model="credit", epoch=2, version="v2", predecessor="v1", state="watching",
                last_seq=0, since=NOW, until=NOW + 7 * DAY,
            )
        )  # fmt: skip
    yield World(database, home)
    database.dispose()


def test_too_few_labels_are_not_compared(world: World) -> None:
    world.label(1, 25)
    assert world.look() == 0
    assert world.child.asked == []


def forged_losses(world: World, n: int = 60, **how: Any) -> int:
    """Labels that make the new version look worse, if they count; how many comparisons there
    were."""
    world.label(1, n + 1, **how)
    world.look(WORSE)
    return len(world.child.asked)


def test_sixty_labels_at_once_roll_nothing_back(world: World) -> None:
    """So a good release was rolled back, and its bytes were barred for ever."""
    assert forged_losses(world, every=0) == 0
    assert world.state == "watching"
    with world.database.read() as conn:
        assert conn.execute(sa.select(barred)).all() == []
    result = json.loads(world.row["result"])
    assert result["waits_for"] == "labels in 3 batches, there are 1"


def test_labels_of_less_than_two_minutes_decide_nothing(world: World) -> None:
    assert forged_losses(world, every=SECOND) == 0
    assert "labels over 120 s, they came in 59 s" in world.row["result"]
    world.label(61, 63, came=NOW + 60 * SECOND, every=60 * SECOND)
    world.look(OPEN)
    assert len(world.child.asked) == 1


def test_labels_of_a_source_that_judged_no_gate_do_not_count(world: World) -> None:
    world.watching(label_sources=[])
    with world.database.begin() as conn:
        told = {"label_sources": ["ledger", "analyst"]}
        conn.execute(sa.update(versions).values(report=json.dumps(told)))
    assert forged_losses(world, source="stranger") == 0
    world.label(61, 101, source="analyst")
    world.look(OPEN)
    assert len(world.child.asked) == 1
    assert world.compared == set(range(61, 101))


@pytest.mark.parametrize(("source", "looked"), [("ledger", 1), ("stranger", 0)])
def test_version_that_no_fresh_label_judged_is_judged_by_the_models_sources(
    world: World, source: str, looked: int
) -> None:
    world.label(1, 26, source=source)
    world.look(OPEN)
    assert len(world.child.asked) == looked


def test_labels_beyond_three_times_the_usual_rate_do_not_count(world: World) -> None:
    world.usual(24)  # one an hour
    assert forged_losses(world, every=3 * SECOND, came=NOW + HOUR) == 0
    result = json.loads(world.row["result"])
    assert (result["labels"], result["left_out"], result["usual_per_day"]) == (3, 57, 24.0)
    assert result["waits_for"] == "labels over 120 s, they came in 6 s"
    world.label(61, 91, came=NOW + 2 * HOUR, every=HOUR)
    world.look(OPEN)
    assert len(world.child.asked) == 1
    assert world.compared == {1, 2, 3, *range(61, 91)}
    assert json.loads(world.row["result"])["left_out"] == 57


def test_flood_before_a_release_does_not_make_a_flood_after_it_usual(world: World) -> None:
    """Two days of forged labels raised the mean to hundreds a day."""
    world.usual(24, days=7)
    world.usual(2_000, days=2, first=20_000)
    assert forged_losses(world, every=3 * SECOND, came=NOW + HOUR) == 0
    assert json.loads(world.row["result"])["left_out"] == 57


def test_flood_of_one_source_leaves_the_others_what_they_usually_give(world: World) -> None:
    world.usual(24)
    world.usual(24, first=20_000, source="gossip")
    world.label(1, 1_001, source="gossip", came=NOW + HOUR, every=SECOND)
    world.label(1_001, 1_031, came=NOW + HOUR, every=HOUR)
    world.look(OPEN)
    assert set(range(1_001, 1_031)) <= world.compared
    assert len(world.compared) < 40


def test_nightly_labels_count_as_usual(world: World) -> None:
    world.usual(1_000)
    world.label(1, 500, came=NOW + DAY, every=SECOND)
    world.look(OPEN)
    assert json.loads(world.row["result"])["left_out"] == 0


def test_why_nothing_is_compared_is_told_once(world: World) -> None:
    world.label(1, 61, every=0)
    with capture_logs() as said:
        for _ in range(3):
            world.look()
    waits = [line for line in said if line["action"] == "comparison_waits"]
    assert [line["waits_for"] for line in waits] == ["labels in 3 batches, there are 1"]


def test_label_that_was_corrected_came_with_its_correction(world: World) -> None:
    """Otherwise forged corrections of honest labels were no burst."""
    world.label(1, 61)
    with world.database.begin() as conn:
        at = NOW + HOUR
        c, o = labels.c, outcomes.c
        conn.execute(sa.update(labels).where(c.source == "ledger").values(state="superseded"))
        rows = conn.execute(sa.select(labels)).mappings().all()
        again = [{**row, "observed_at": at, "received_at": at, "state": "joined"} for row in rows]
        conn.execute(sa.insert(labels), again)
        conn.execute(sa.update(outcomes).where(o.version == "v2").values(observed_at=at))
    world.look(WORSE)
    assert world.child.asked == []


def test_both_graphs_are_run_on_the_labelled_rows(world: World) -> None:
    world.label(1, 26)
    assert world.look(OPEN) == 0
    (spec,) = world.child.asked
    assert (spec.mode, spec.model, spec.made_here) == (
        "compare",
        "credit",
        ("incumbent",),  # v2 came of a repair, v1 did not
    )
    assert world.child.folders == [
        {"job.json", "fresh.parquet", "incumbent/model.onnx", "predecessor/model.onnx"}
    ]
    assert list((world.home / "jobs").iterdir()) == []
    assert (world.state, world.row["last_seq"]) == ("watching", 25)


def test_better_version_stays_and_is_compared_no_more(world: World) -> None:
    world.label(1, 26)
    assert world.look(BETTER) == 1
    assert world.state == "better"
    world.label(26, 100)
    assert world.look() == 0
    assert world.rolled_back == 0


def test_worse_version_wakes_the_writer_of_the_repository(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = registry.PointerMove(model="credit", version="v1", previous="v2", epoch=3, snapshot=7)
    asked: list[dict[str, Any]] = []

    def rollback(conn: sa.Connection, model: str, **how: Any) -> registry.PointerMove:
        asked.append({"model": model, **how})
        return back

    monkeypatch.setattr(registry, "rollback", rollback)
    world.label(1, 26)
    assert world.look(WORSE) == 1
    assert (world.state, world.rolled_back) == ("worse", 1)
    (request,) = asked
    assert (request["to"], request["change"]) == ("v1", "automatic_rollback")
    assert (request["actor"], request["cool_down_seconds"]) == ("worker:w1", 60.0)


def test_worse_version_that_nothing_can_replace_wakes_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise RegistryError("no signing keys")

    monkeypatch.setattr(registry, "rollback", refused)
    world.label(1, 26)
    assert world.look(WORSE) == 1
    assert (world.state, world.rolled_back) == ("worse", 0)


def test_next_look_waits_for_new_labels(world: World) -> None:
    world.label(1, 26)
    world.look(OPEN)
    world.label(26, 50)
    world.look()
    assert len(world.child.asked) == 1
    world.label(50, 51)
    world.look(OPEN)
    assert len(world.child.asked) == 2


def test_looks_become_rarer_as_rows_become_more(world: World) -> None:
    world.label(1, 1_001)
    world.look(OPEN)
    world.label(1_001, 1_100)
    world.look()
    assert len(world.child.asked) == 1
    world.label(1_100, 1_101)
    world.look(OPEN)
    assert len(world.child.asked) == 2


def test_full_window_is_not_looked_at_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_window, "MAX_LABELLED", 13)
    world.label(1, 101)
    world.look(OPEN)
    world.label(101, 1_000)
    world.look()
    assert len(world.child.asked) == 1


@pytest.mark.parametrize(
    "trouble",
    [
        ChildFailed("out of memory", kind="killed", retriable=True),
        ChildCancelled("the worker stops"),
        report("compare"),
    ],
)
def test_comparison_that_failed_leaves_everything_as_it_was(
    world: World, trouble: job_worker.Answer
) -> None:
    world.label(1, 26)
    assert world.look(trouble) == 0
    assert (world.state, world.row["last_seq"]) == ("watching", 0)
    assert list((world.home / "jobs").iterdir()) == []


def test_comparison_whose_child_died_is_made_again_three_times_in_all(world: World) -> None:
    world.label(1, 26)
    died = ChildFailed("out of memory", kind="killed", retriable=True)
    for _ in range(5):
        world.look(died)
    assert len(world.child.asked) == 3
    world.label(26, 51)
    world.look(died)
    world.look(OPEN)
    assert len(world.child.asked) == 5


def test_predecessor_whose_files_are_gone_cannot_be_compared(world: World) -> None:
    with world.database.begin() as conn:
        conn.execute(sa.update(versions).where(versions.c.version == "v1").values(files="{}"))
    world.label(1, 26)
    assert world.look() == 0
    assert world.child.asked == []
    assert world.state == "watching"


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"others")])
def test_damaged_file_is_told_and_ends_no_round(
    world: World, damage: Callable[[Path], object]
) -> None:
    world.label(1, 26)
    digest = sha256(b"the graph of v1").hexdigest()
    damage(RepositoryLayout(world.home).path("credit", "model.onnx", digest))
    assert world.look() == 0
    assert world.child.asked == []
    assert world.state == "watching"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE versions SET report = '{' WHERE model = 'bad'",
        "UPDATE specs SET spec = '{' WHERE model = 'bad'",
    ],
)
def test_row_that_cannot_be_read_keeps_no_other_model_from_being_compared(
    world: World, statement: str
) -> None:
    with world.database.begin() as conn:
        for table in (specs, versions, monitored_releases):
            for row in conn.execute(sa.select(table)).mappings().all():
                conn.execute(sa.insert(table).values(**(dict(row) | {"model": "bad"})))
        assert conn.exec_driver_sql(statement).rowcount
        before = sa.update(monitored_releases).where(monitored_releases.c.model == "bad")
        conn.execute(before.values(since=NOW - 1))  # it is looked at first
    world.label(1, 31)
    assert world.look(BETTER) == 1
    with world.database.read() as conn:
        states = conn.execute(sa.select(monitored_releases.c.model, monitored_releases.c.state))
        assert dict(states.all()) == {"bad": "watching", "credit": "better"}


def test_comparison_is_over_after_its_time(world: World) -> None:
    world.label(1, 26)
    world.clock.forward(7 * DAY)
    assert world.look() == 0
    assert world.state == "expired"
    assert world.child.asked == []


def test_one_worker_compares_at_a_time(world: World) -> None:
    world.label(1, 26)
    with world.database.begin() as conn:
        lease.acquire(conn, predecessor_comparison.LEASE, "other", now=NOW, seconds=60)
    assert world.look() == 0
    assert world.child.asked == []


def test_worker_that_was_overtaken_while_it_compared_settles_nothing(world: World) -> None:
    def slow(folder: Path, progress: job_worker.Progress) -> job_worker.Report:
        world.clock.forward(61 * SECOND)
        with world.database.begin() as conn:
            now = world.clock()
            assert lease.acquire(conn, predecessor_comparison.LEASE, "w2", now=now, seconds=60)
        return BETTER

    world.label(1, 26)
    assert world.look(slow) == 0
    assert world.state == "watching"


def test_nothing_is_compared_while_the_child_loads_or_the_worker_stops(world: World) -> None:
    world.label(1, 26)
    world.child.ready = False
    assert world.look() == 0
    world.child.ready = True
    world.deps.stop.set()
    assert world.look() == 0
    assert world.child.asked == []


def test_model_that_is_gone_is_left_alone(world: World) -> None:
    world.label(1, 26)
    with world.database.begin() as conn:
        conn.execute(sa.delete(specs))
    assert world.look() == 0
    assert world.child.asked == []


def test_note_of_a_settlement_is_not_a_verdict(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        post_release_monitor,
        "settle",
        lambda *_, **__: Settlement(verdict="go_on", note="the pointer moved meanwhile"),
    )
    world.label(1, 26)
    assert world.look(WORSE) == 0
    assert world.rolled_back == 0


@pytest.mark.parametrize(("bound", "looked"), [(True, 1), (False, 0)])
def test_labels_that_count_for_nothing_decide_nothing(
    world: World, bound: bool, looked: int
) -> None:
    world.label(1, 61)
    world.watching(bound_sources=["ledger"])
    with world.database.begin() as conn:
        conn.execute(sa.update(labels).values(bound=bound))
    world.look(OPEN)
    assert len(world.child.asked) == looked
