"""Whose turn it is among the recipes of a job, and what its child and a person are told of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import job_worker
import loop
import msgspec
import pytest
from compress_rows import job_of
from job_worker import INCIDENT, faced
from loop import NOW

from redistill.compress.plan import Measure, Rejected, Tried
from redistill.streams.store.database import Database
from redistill.workers.jobs import job_spec, turn
from redistill.workers.jobs.job_spec import JobInputs
from redistill.workers.jobs.turn import Turn
from redistill.workers.store import checkpoints, fresh_tests
from redistill.workers.store.fresh_tests import FreshTest

WARM = Tried(name="warm", number=1, sha256="aa" * 32, reasons=("fresh: worse", "trusted: worse"))
BOTH = ("warm", "scratch")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    job_worker.registered(opened, tmp_path / "home")
    job_worker.with_training(opened, tmp_path / "home")
    with opened.begin() as conn:
        job_worker.incident_with_job(conn)
    yield opened
    opened.dispose()


def inputs(database: Database) -> JobInputs:
    with database.read() as conn:
        job = job_worker.only_job(conn)
        return job_spec.read_inputs(conn, job)


def present(database: Database) -> Turn:
    context = inputs(database)
    with database.read() as conn:
        return turn.read(conn, context, context.job)


def entry(number: int, **fields: Any) -> FreshTest:
    given: dict[str, Any] = {
        "number": number, "sha256": f"{number}" * 64, "version": "v1", "since": NOW,
        "recipe": "warm", "job_id": "j", "e_value": 200.0, "at": NOW,
    }  # fmt: skip
    return FreshTest(**given | fields)


def diagnosed(database: Database, cause: str, state: str = "done", **fields: Any) -> Measure:
    lost = Measure(value=12.0, low=8.0, high=16.0, n=200)
    found = job_worker.diagnosis(cause).diagnosis
    assert found is not None
    detail = msgspec.to_builtins(replace(found, student_loss_points=lost, **fields))
    claim = job_worker.claimed(database)
    with database.begin() as conn:
        checkpoints.record(conn, claim, "diagnose", state, now=NOW, detail=detail)
    return lost


def test_recipes_and_loss_follow_from_the_diagnosis(database: Database) -> None:
    lost = diagnosed(database, "stale_quantization")
    found = present(database)
    assert found.recipes == ("requantize", "warm", "scratch", "trees")
    assert (found.name, found.version, found.since) == ("requantize", "v1", NOW)
    spec = found.told(job_of())
    assert (spec.recipe, spec.faced, spec.tried) == (1, {}, ())
    assert (spec.incident_loss, spec.cause) == (lost, "stale_quantization")


@pytest.mark.parametrize(("recoverable", "points"), [(5.0, 5.0), (30.0, 12.0), (-2.0, 12.0)])
def test_of_a_loss_that_the_teacher_shares_its_own_part_can_come_back(
    database: Database, recoverable: float, points: float
) -> None:
    back = Measure(value=recoverable, low=None, high=None, n=200)
    diagnosed(database, "prior_shift", recoverable_points=back)
    told = present(database).told(job_of()).incident_loss
    assert told is not None
    assert told.value == points


def test_diagnosis_that_is_not_done_says_nothing(database: Database) -> None:
    diagnosed(database, "compression_gap", state="running")
    found = present(database)
    assert (found.recipes, found.diagnosis) == ((*BOTH, "trees"), None)
    assert found.told(job_of()).incident_loss is None


def test_without_known_weights_all_begin_from_nothing(tmp_path: Path) -> None:
    opened = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    job_worker.registered(opened, tmp_path / "home")
    with opened.begin() as conn:
        job_worker.incident_with_job(conn)
    assert present(opened).recipes == ("scratch", "trees")
    opened.dispose()


def test_job_of_a_person_has_one_recipe_and_pays_for_none(tmp_path: Path) -> None:
    opened = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    job_worker.registered(opened, tmp_path / "home")
    job_worker.with_training(opened, tmp_path / "home")
    with opened.begin() as conn:
        job_worker.manual_job(conn)
    found, context = present(opened), inputs(opened)
    assert (found.recipes, found.told(job_of()).recipe) == (("warm",), 1)
    assert found.test(faced(1), context, at=NOW) is None
    assert turn.number_of(faced(1), context) is None
    opened.dispose()


def test_what_was_tried_and_counted_before_is_told(database: Database) -> None:
    context = inputs(database)
    claim = job_worker.claimed(database)
    with database.begin() as conn:
        checkpoints.remember(
            conn, claim.job, {"tried": msgspec.to_builtins((WARM,)), "recipes": list(BOTH)}
        )
        for test in (
            entry(1, job_id=claim.job.job_id),
            entry(2, job_id=claim.job.job_id, version="v0"),
        ):
            fresh_tests.enter(conn, INCIDENT, test)
    with database.read() as conn:
        found = turn.read(conn, context, job_worker.only_job(conn))
    assert (found.name, found.tried) == ("scratch", (WARM,))
    spec = found.told(job_of())
    assert (spec.recipes, spec.tried, spec.recipe) == (BOTH, (WARM,), 3)
    assert spec.faced == {"1" * 64: 1}, "a test against another version is another test"


def test_steps_of_later_recipes_are_named_after_them() -> None:
    first = Turn(recipes=BOTH, version="v1")
    assert first.step("train") == "train"
    assert replace(first, tried=(WARM,)).step("train") == "scratch.train"


def test_candidate_that_faced_fresh_rows_is_written_down(database: Database) -> None:
    context = inputs(database)
    first = Turn(recipes=BOTH, version="v1", since=NOW)
    assert first.test(faced(2), context, at=NOW + 5) == FreshTest(
        number=2, sha256="22" * 32, version="v1", since=NOW, recipe="warm",
        job_id=context.job.job_id, e_value=200.0, at=NOW + 5,
    )  # fmt: skip
    assert turn.number_of(faced(2), context) == 2
    unseen = replace(faced(1), faced=False)
    assert (first.test(unseen, context, at=NOW), turn.number_of(unseen, context)) == (None, None)


@pytest.mark.parametrize(
    ("tests", "recipes", "after", "said"),
    [
        (0, BOTH, "scratch", None),
        (2, BOTH, "scratch", None),
        (3, BOTH, None, "scratch: not tried, 3 candidates of this incident have faced"),
        (0, ("warm",), None, None),
        (3, ("warm",), None, None),
    ],
)
def test_next_recipe_has_its_turn_while_a_candidate_may_face_fresh_rows(
    tests: int, recipes: tuple[str, ...], after: str | None, said: str | None
) -> None:
    found = Turn(recipes=recipes, version="v1", tests=tuple(entry(n) for n in range(1, tests + 1)))
    refused = found.refused(faced(1, Rejected(reasons=())), ("fresh: worse",))
    assert (refused.name, refused.number) == ("warm", 1)
    assert found.after(refused) == after
    told = found.reasons(refused)
    assert told[0] == "fresh: worse"
    assert [t for t in told[1:] if said and t.startswith(said)] == list(told[1:])


def test_last_refusal_tells_of_every_recipe() -> None:
    last = Turn(recipes=BOTH, version="v1", tried=(WARM,))
    refused = last.refused(faced(2), ("futility: hopeless",))
    assert last.after(refused) is None
    assert last.reasons(refused) == (
        "warm: fresh: worse",
        "warm: trusted: worse",
        "scratch: futility: hopeless",
    )


def tried(name: str, loss: float | None, *, left_open: bool = True) -> Tried:
    return Tried(
        name=name, number=None, sha256=None, reasons=("r",), open=left_open, ranking_loss=loss
    )


@pytest.mark.parametrize(
    ("before", "present", "asked"),
    [
        ((tried("a", 0.2), tried("b", 0.1)), tried("c", 0.3), "b"),
        ((tried("a", 0.2), tried("b", 0.1, left_open=False)), tried("c", 0.3), "a"),
        ((tried("a", None), tried("b", None)), tried("c", 0.3), "c"),
        ((tried("a", None), tried("b", None)), tried("c", None), "a"),
        ((tried("a", 0.2), tried("b", 0.1)), tried("c", 0.0, left_open=False), "b"),
        ((tried("a", 0.2, left_open=False),), tried("b", 0.1, left_open=False), None),
    ],
)
def test_person_is_asked_about_the_least_loss_on_ranking_rows(
    before: tuple[Tried, ...], present: Tried, asked: str | None
) -> None:
    found = Turn(recipes=("a", "b", "c"), version="v1", tried=before)
    assert found.to_ask_about(present) == asked


def test_candidate_that_had_its_turn_once_more_is_the_one_asked_about() -> None:
    """Its loss may have changed by then: nothing goes round in circles."""
    both = (tried("a", 0.2), tried("b", 0.3))
    found = Turn(recipes=("a", "b"), version="v1", tried=both, again="a")
    assert (found.name, found.step("gate")) == ("a", "gate")
    assert [t.name for t in found.others] == ["b"]
    now = tried("a", 0.9)
    assert (found.after(now), found.to_ask_about(now)) == (None, "a")
    assert found.every(now) == (now, both[1])
    assert found.to_ask_about(tried("a", 0.1, left_open=False)) == "b"


def test_without_the_folder_only_the_one_asked_about_stays_open() -> None:
    both = (tried("a", 0.2), tried("b", 0.3))
    left = turn.without_files(Turn(recipes=("a", "b"), version="v1", tried=both, again="a"))
    assert [t.open for t in left] == [True, False]


def test_waiver_is_told_of_the_candidate_that_was_asked_about() -> None:
    spec = replace(job_of(), waived={"trusted": "ann: known"})
    first = Turn(recipes=BOTH, version="v1", asked_about="scratch")
    assert first.told(spec).waived == {}
    assert replace(first, tried=(WARM,)).told(spec).waived == spec.waived
    assert replace(first, asked_about=None).told(spec).waived == spec.waived
