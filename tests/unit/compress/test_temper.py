"""What serves, corrected to a new mix of classes: without a teacher, and judged by the gates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from any_speed import ANY_SPEED
from compress_rows import context_of, rows_of, tiny_job, write_table

from redistill.compress import repair
from redistill.compress.plan import Accepted, JobSpec, Rejected, Report
from redistill.compress.rows import Rows
from redistill.files import sha256_of

POLICY = {
    **ANY_SPEED,
    # trusted rows hold the old mix, for which the correction is wrong by design
    "trusted": {"margin_points": 50.0},
    "worst_class": {"max_loss_points": 50.0, "excluded_loss_points": 50.0},
    "negative_flips": {"max_share": 1.0},
    "calibration": {"max_excess": 1.0},
    "f1": {"max_loss_points": 50.0},
}


def moved(n: int, *, seed: int, share: float = 0.1) -> Rows:
    """Rows of which ``share`` are above the threshold, as far from it as before."""
    rows = rows_of(4 * n, seed=seed)
    above = np.flatnonzero(rows.x[:, 0] > 0.0)
    below = np.flatnonzero(rows.x[:, 0] <= 0.0)
    take = np.sort(np.concatenate([above[: round(share * n)], below[: n - round(share * n)]]))
    return replace(rows.take(take), gate=np.arange(n) % 2 == 1)


def noisy(rows: Rows, *, seed: int) -> tuple[Rows, np.ndarray]:
    """Inputs blurred so that classes overlap; the threshold that makes each row's label true."""
    rng = np.random.default_rng(seed)
    truth = rows.x[:, 0] > 0.0
    x = rows.x.copy()
    x[:, 0] = np.where(truth, 0.13, -0.13) + rng.normal(0.0, 0.25, len(rows))
    return replace(rows, x=x), np.where(truth, -np.inf, np.inf)


def job_about(folder: Path, *, share: float, n: int = 3_000) -> JobSpec:
    """The incumbent has learned equal classes (its log odds are 16 a, near what is right); now
    ``share`` are of the second."""
    job = tiny_job(folder, policy=POLICY, recipes=("temper",), cause="prior_shift")
    for name, seed, s, rows in (
        ("fresh", 0, share, n), ("reference", 1, 0.5, 1_000), ("trusted", 2, 0.5, 600),
    ):  # fmt: skip
        given, threshold = noisy(moved(rows, seed=seed, share=s), seed=seed + 10)
        write_table(folder / f"{name}.parquet", given, threshold=threshold)
    (folder / "incumbent" / "training" / "architecture.json").unlink()  # no weights are needed
    return replace(job, seed=3)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, JobSpec, Report]:
    job = job_about(tmp_path, share=0.05)
    return tmp_path, job, repair.repair(context_of(tmp_path, job))


def test_scores_follow_the_mix_of_classes_and_no_weight_is_touched(
    made: tuple[Path, JobSpec, Report],
) -> None:
    folder, _, report = made
    assert report.decision == Accepted(variant="temper"), report.gates
    assert (report.recipe_name, report.reused, report.faced) == ("temper", None, True)
    assert report.fresh is not None
    assert report.fresh.wins > 3 * report.fresh.losses
    (variant,) = report.variants
    assert variant.sha256 == sha256_of(folder / "candidate" / "model.onnx")
    assert not (folder / "candidate" / "training").exists()
    assert any("corrected to another mix of classes" in w for w in report.warnings)
    assert not {"train", "export"} & report.seconds.keys()


def test_corrected_graph_is_judged_again_with_the_rows_of_now(
    made: tuple[Path, JobSpec, Report],
) -> None:
    folder, job, report = made
    table = pq.read_table(folder / "fresh.parquet")
    pq.write_table(table.slice(0, 2_000), folder / "fresh.parquet")
    again = repair.gate(context_of(folder, replace(job, mode="gate")))
    assert again.variants[0].sha256 == report.variants[0].sha256
    assert again.rows["gate"] < report.rows["gate"]
    assert "corrected to another mix" in " ".join(again.warnings)


def test_mix_that_did_not_move_faces_no_label(tmp_path: Path) -> None:
    job = job_about(tmp_path, share=0.5)
    report = repair.repair(context_of(tmp_path, job))
    assert isinstance(report.decision, Rejected)
    (why,) = report.decision.reasons
    assert why.startswith(("the mix of classes has hardly moved", "on "))
    assert "estimated shares: no " in why
    assert (report.faced, report.variants) == (False, ())


def test_correction_that_training_labels_speak_against_faces_no_label(tmp_path: Path) -> None:
    """Inputs moved as if the mix had, and did not: the threshold moved with them."""
    job = job_about(tmp_path, share=0.05)
    rows = context_of(tmp_path, job).read("fresh")
    write_table(tmp_path / "fresh.parquet", rows, threshold=0.0)  # the incumbent is always right
    report = repair.repair(context_of(tmp_path, job))
    assert isinstance(report.decision, Rejected)
    assert "labelled training rows the corrected scores cost" in report.decision.reasons[0]
    assert report.faced is False
