"""Candidates judged: what was logged is checked, what does not load is told, a choice stands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from any_speed import ANY_SPEED
from compress_rows import context_of, rows_of, tiny_job

from redistill.compress import judging
from redistill.compress.errors import BadModel
from redistill.compress.judge.probe import Probe
from redistill.compress.judging import TrainingFacts
from redistill.compress.plan import (
    ERROR_ROWS,
    Accepted,
    Measure,
    Rejected,
    Report,
    Tried,
    Undecidable,
)
from redistill.files import sha256_of

FACTS = TrainingFacts(
    counts={"train": 5}, labels_in_loss=False, training_sources=(), domain_auc=None, warnings=()
)

ANSWERED = ("prediction", "label")


@pytest.mark.parametrize(("differ", "warned"), [(0, False), (1, False), (2, True)])
def test_check_log_warns_beyond_one_row_in_a_hundred(
    tmp_path: Path, differ: int, warned: bool
) -> None:
    context = context_of(tmp_path, tiny_job(tmp_path))
    answered = np.zeros(100, np.int64)
    logged = answered.copy()
    logged[:differ] = 1
    judging.check_log(context, rows_of(100, prediction=logged), answered)
    assert bool(context.warnings) is warned


def test_check_log_looks_at_logged_rows_only(tmp_path: Path) -> None:
    context = context_of(tmp_path, tiny_job(tmp_path))
    judging.check_log(context, rows_of(100), np.ones(100, np.int64))
    assert context.warnings == []


def test_facts_are_read_as_they_were_written(tmp_path: Path) -> None:
    import msgspec

    (tmp_path / "facts.json").write_bytes(msgspec.json.encode(FACTS))
    np.save(tmp_path / "trained.npy", np.array([3, 5], np.uint64))
    facts, trained = judging.read_facts(tmp_path)
    assert facts == FACTS
    assert trained.tolist() == [3, 5]


def judge(folder: Path, models: dict[str, Path], **more: object) -> tuple[Report, list[str]]:
    given = {"policy": ANY_SPEED} | more
    job = tiny_job(folder, candidates=tuple(models), **given)
    context = context_of(folder, job)
    fresh, trusted = context.read("fresh"), context.read("trusted")
    with Probe.start() as child:
        answers = judging.probe(context, child, models, trusted, role="candidate")
    report = judging.judge(
        context, variants=models, training=folder / "incumbent" / "training", facts=FACTS,
        answers=answers, fresh=fresh, gate_rows=fresh.take(fresh.gate), trusted=trusted,
    )  # fmt: skip
    return report, [g.name for g in report.gates if g.passed is False]


def test_the_better_model_is_accepted_and_becomes_the_candidate(tmp_path: Path) -> None:
    tiny_job(tmp_path)
    report, failed = judge(tmp_path, {"fp32": tmp_path / "teacher" / "model.onnx"})
    assert (report.decision, failed) == (Accepted(variant="fp32"), [])
    copied = (tmp_path / "candidate" / "model.onnx").read_bytes()
    assert copied == (tmp_path / "teacher" / "model.onnx").read_bytes()


def test_rows_behind_the_accuracy_on_fresh_rows_are_left_with_the_answers(tmp_path: Path) -> None:
    tiny_job(tmp_path)
    model = tmp_path / "incumbent" / "model.onnx"
    report, _ = judge(tmp_path, {"fp32": model})
    table = pq.read_table(tmp_path / ERROR_ROWS)
    (told,) = (v.fresh_accuracy for v in report.variants)
    assert told is not None
    right = sum(p == y for p, y in zip(*(table[c].to_pylist() for c in ANSWERED), strict=True))
    assert (len(table), right / len(table)) == (told.n, told.value)
    assert 0 < right < len(table)
    assert set(table["region"].to_pylist()) == {"EU", None}
    judge(tmp_path, {"fp32": model}, policy={"size": {"max_bytes": 10}})
    assert len(pq.read_table(tmp_path / ERROR_ROWS)) == 0  # what no gate may look at


def test_the_same_model_again_is_not_published_for_an_incident(tmp_path: Path) -> None:
    tiny_job(tmp_path)
    report, failed = judge(tmp_path, {"fp32": tmp_path / "incumbent" / "model.onnx"})
    assert isinstance(report.decision, Undecidable)
    assert (report.decision.gate, failed) == ("fresh", [])


def test_the_loss_of_the_incident_says_what_is_worth_waiting_for(tmp_path: Path) -> None:
    tiny_job(tmp_path)
    lost = Measure(value=30.0, low=20.0, high=40.0, n=200)
    report, failed = judge(
        tmp_path, {"fp32": tmp_path / "incumbent" / "model.onnx"}, incident_loss=lost
    )
    assert failed == ["futility"]
    assert any("not better by 15 points" in g.why for g in report.gates)


def test_a_second_candidate_needs_twice_as_much_and_one_of_before_keeps_its_number(
    tmp_path: Path,
) -> None:
    job = tiny_job(tmp_path)
    model = tmp_path / "teacher" / "model.onnx"
    tried = (Tried(name="warm", number=1, sha256="ab" * 32, reasons=("fresh: worse",)),)
    both = {"recipes": ("warm", "scratch"), "tried": tried, "recipe": 2}
    report, _ = judge(tmp_path, {"fp32": model}, **both)
    assert (report.recipe, report.recipe_name, report.faced) == (2, "scratch", True)
    assert report.tried == tried
    assert limits(report) == {"fresh": 400.0, "recipe": 3.0}
    again, _ = judge(tmp_path, {"fp32": model}, faced={sha256_of(model): 3}, **both)
    assert again.recipe == 3
    assert limits(again)["fresh"] == 800.0
    assert job.recipe == 1


def limits(report: Report) -> dict[str, float | None]:
    return {g.name: g.limit for g in report.gates if g.name in ("fresh", "recipe")}


@pytest.mark.parametrize("refused", [{"recipe": 4}, {"policy": {"size": {"max_bytes": 10}}}])
def test_what_may_not_face_fresh_rows_is_told_nothing_of_them(
    tmp_path: Path, refused: dict[str, Any]
) -> None:
    tiny_job(tmp_path)
    report, _ = judge(tmp_path, {"fp32": tmp_path / "teacher" / "model.onnx"}, **refused)
    assert isinstance(report.decision, Rejected)
    assert not report.faced
    assert report.fresh is None
    assert [v.fresh_accuracy for v in report.variants] == [None]
    assert "fresh" not in {g.name for g in report.gates}


def test_a_candidate_that_does_not_load_is_rejected_with_its_reason(tmp_path: Path) -> None:
    tiny_job(tmp_path)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no graph")
    report, failed = judge(tmp_path, {"fp32": broken})
    assert isinstance(report.decision, Rejected)
    assert failed == ["loads"]
    assert not (tmp_path / "candidate").exists()


def test_an_incumbent_that_does_not_load_is_no_decision_but_an_error(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    (tmp_path / "incumbent" / "model.onnx").write_bytes(b"no graph")
    context = context_of(tmp_path, replace(job))
    with Probe.start() as child, pytest.raises(BadModel, match=r"^incumbent: "):
        judging.probe(
            context, child, {"fp32": tmp_path / "teacher" / "model.onnx"},
            context.read("trusted"), role="candidate",
        )  # fmt: skip


def test_a_rival_that_the_job_did_not_bring_is_none(tmp_path: Path) -> None:
    context = context_of(tmp_path, tiny_job(tmp_path))
    rows = rows_of(10)
    assert judging.rival(context, "predecessor", {}, rows, rows) is None
    teacher = judging.rival(context, "teacher", {}, rows, rows)
    assert teacher is not None
    assert len(teacher.trusted) == 10
