"""The best release so far: found on rows that no gate looks at, and what trusted rows compare with."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import linear
import numpy as np
import pytest
from compress_rows import GRAPH, context_of, rows_of, tiny_job, write_table

from redistill.compress import earlier, judging, pipeline, trusted_rows
from redistill.compress.errors import BadJob
from redistill.compress.judge.evaluation import EvaluatedModel
from redistill.compress.plan import Accepted, JobSpec, Rejected, Report, to_json

TRUTH = 0.5
"""Threshold by which the rows of these tests are labelled."""


def threshold(path: Path, at: float) -> Path:
    """A graph that says "yes" where ``a`` is above; it does not look at other features."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = np.array([[-1, 1], [0, 0], [0, 0]], np.float32)
    return linear.graph(path, weights, bias=np.array([at, -at], np.float32))


def brought(folder: Path, **releases: float) -> JobSpec:
    """A job with a trained incumbent (its threshold is 0) and these earlier releases."""
    job = replace(tiny_job(folder), releases=tuple(releases))
    for n, at in enumerate(releases.values(), start=1):
        threshold(folder / "best" / str(n) / "model.onnx", at)
    return job


def found(folder: Path, job: JobSpec) -> tuple[earlier.BestRelease, list[str]]:
    context = context_of(folder, job)
    trusted, none = context.read("trusted"), rows_of(4)
    incumbent = judging.rival(context, "incumbent", {}, trusted, none)
    return earlier.find(context, incumbent, trusted=trusted, gate=none), context.warnings


def test_the_best_of_incumbent_and_earlier_releases_is_found(tmp_path: Path) -> None:
    best, _ = found(tmp_path, brought(tmp_path, v1=0.3, v2=0.45, v3=0.2))
    assert best.version == "v2"
    assert isinstance(best.model, EvaluatedModel)
    assert list(best.accuracy) == ["v1", "v2", "v3"]
    assert best.accuracy["v2"].n == 200
    assert best.accuracy["v2"].value > best.accuracy["v1"].value > best.accuracy["v3"].value


@pytest.mark.parametrize("at", [-0.4, 0.0])
def test_the_incumbent_is_the_best_where_none_is_better(tmp_path: Path, at: float) -> None:
    best, _ = found(tmp_path, brought(tmp_path, v1=at))
    assert (best.version, best.model, list(best.accuracy)) == (None, None, ["v1"])


def test_no_row_that_judges_has_a_say(tmp_path: Path) -> None:
    """A release that is right on every row that judges, and worse on those that rank."""
    job = brought(tmp_path, v1=-0.5)
    rows = rows_of(400, seed=2)
    ranks = trusted_rows.ranking(rows)
    at = np.where(ranks, 0.0, -0.5)  # rows that rank are as the incumbent says
    write_table(tmp_path / "trusted.parquet", rows, threshold=at)
    best, _ = found(tmp_path, job)
    assert best.version is None
    assert best.accuracy["v1"].value > 0.9
    write_table(tmp_path / "trusted.parquet", rows, threshold=np.where(ranks, -0.5, 0.0))
    assert found(tmp_path, job)[0].version == "v1"


def test_where_hardly_a_row_ranks_all_do(tmp_path: Path) -> None:
    job = brought(tmp_path, v1=TRUTH)
    rows = rows_of(60, seed=2)
    assert trusted_rows.ranking(rows).sum() < 30
    write_table(tmp_path / "trusted.parquet", rows, threshold=TRUTH)
    assert found(tmp_path, job)[0].version == "v1"


def test_a_release_that_cannot_be_run_is_left_out_with_a_warning(tmp_path: Path) -> None:
    job = brought(tmp_path, v1=0.4, v2=0.3)
    (tmp_path / "best" / "1" / "model.onnx").write_bytes(b"no graph")
    best, warnings = found(tmp_path, job)
    assert (best.version, list(best.accuracy)) == ("v2", ["v2"])
    assert any(w.startswith("release v1 cannot be compared with: ") for w in warnings)


def test_a_release_that_the_job_names_must_be_there(tmp_path: Path) -> None:
    job = brought(tmp_path, v1=0.4)
    shutil.rmtree(tmp_path / "best")
    with pytest.raises(BadJob, match="best/1"):
        found(tmp_path, job)


def test_without_an_incumbent_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    context = context_of(tmp_path, brought(tmp_path, v1=0.4))
    rows = context.read("trusted")
    best = earlier.find(context, None, trusted=rows, gate=rows)
    assert (best.version, best.accuracy) == (None, {})


def release(folder: Path, at: float, published: dict[str, float]) -> Report:
    """Judge a model that a person adds after these, of which the last one serves."""
    *before, serving = published.values()
    threshold(folder / "added" / "model.onnx", at)
    threshold(folder / "incumbent" / "model.onnx", serving)
    for n, earlier_at in enumerate(before, start=1):
        threshold(folder / "best" / str(n) / "model.onnx", earlier_at)
    write_table(folder / "reference.parquet", rows_of(100, seed=1), threshold=TRUTH)
    write_table(folder / "trusted.parquet", rows_of(5_000, seed=2), threshold=TRUTH)
    job = JobSpec(
        job_id="j",
        model="credit",
        mode="baseline",
        graph=GRAPH,
        releases=tuple(published)[:-1],
        policy={
            "trusted": {"scheduled_margin_points": 4.0},
            "worst_class": {"max_loss_points": 50.0, "excluded_loss_points": 50.0},
            "f1": {"max_loss_points": 50.0},
        },
    )
    (folder / "job.json").write_bytes(to_json(job))
    return pipeline.run(folder)


def test_five_releases_that_each_lose_three_points_do_not_add_up(tmp_path: Path) -> None:
    """Each is within the margin of 4 of the one that it replaces; the second is 6 below the
    best."""
    a = np.sort(rows_of(5_000, seed=2).x[:, 0])
    first = int((a <= TRUTH).sum())
    ladder = [float(a[first - 1 + 150 * k]) for k in range(6)]  # 150 of 5,000 rows are 3 points
    published = {"v0": ladder[0]}
    decisions = {}
    for k in range(1, 6):
        report = release(tmp_path / str(k), ladder[k], published)
        decisions[k] = report.decision
        trusted = next(g for g in report.gates if g.name == "trusted")
        if isinstance(report.decision, Accepted):
            assert trusted.why.startswith("against the incumbent ")
            published[f"v{k}"] = ladder[k]
        else:
            assert report.best == "v0"
            assert trusted.passed is False
            assert "against the best release so far, v0, " in trusted.why
    assert isinstance(decisions[1], Accepted)
    assert all(isinstance(decisions[k], Rejected) for k in range(2, 6))
    assert list(published) == ["v0", "v1"]
