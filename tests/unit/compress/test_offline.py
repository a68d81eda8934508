"""Mode `compress`: students of every family beside each other, one of them judged by all gates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from compress_rows import tiny_job

from redistill.compress import offline, pipeline
from redistill.compress.errors import BadJob, DeadlineExceeded
from redistill.compress.plan import JobSpec, Report, read_job_spec, read_report, to_json
from redistill.compress.recipes import RECIPES
from redistill.compress.rows import read_rows


def job_in(folder: Path, **fields: object) -> JobSpec:
    """A small folder of the mode."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = replace(tiny_job(folder, mode="compress"), **fields)  # type: ignore[arg-type]
    (folder / "job.json").write_bytes(to_json(spec))
    return spec


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    folder = tmp_path_factory.mktemp("done")
    job_in(folder)
    return folder, pipeline.run(folder)


def test_every_variant_is_measured_and_one_is_judged(done: tuple[Path, Report]) -> None:
    folder, report = done
    names = {v.name for v in report.variants}
    assert {"mlp-fp32", "mlp-static_int8", "mlp-dynamic_int8"} <= names
    chosen = next(v for v in report.variants if v.name == report.chosen)
    assert report.gates == chosen.gates
    assert "trusted" in {g.name for g in chosen.gates}
    assert report.decision is not None
    for other in (v for v in report.variants if v.name != report.chosen):
        assert {g.split for g in other.gates} == {"machine"}, "no label but the chosen one's"
        assert other.p50_ms > 0
    assert report.recipe_name in RECIPES
    assert (report.incumbent is not None, report.teacher is not None) == (True, True)
    kept = folder / "candidate"
    assert read_report((kept / "report.json").read_bytes()).chosen == report.chosen
    assert (kept / "model.onnx").stat().st_size == chosen.bytes


def test_finished_steps_are_not_done_again(
    done: tuple[Path, Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, report = done
    again = pipeline.run(folder)
    assert [v.sha256 for v in again.variants] == [v.sha256 for v in report.variants]
    told: list[tuple[str, float]] = []
    pipeline.run(folder, progress=lambda step, share: told.append((step, share)))
    assert ("scratch: train", 0.0) not in told
    assert ("scratch: train", 1.0) in told


def test_rows_are_learned_from_once(done: tuple[Path, Report]) -> None:
    folder, _ = done
    spec = read_job_spec((folder / "job.json").read_bytes())
    rows, _ = read_rows(folder / "reference.parquet", spec.graph)
    fresh, pool = offline._divided(rows, seed=0)
    assert len(fresh) == len(rows) // offline.FRESH_SHARE
    both = np.concatenate([fresh.x, pool.x])
    assert sorted(map(tuple, both.tolist())) == sorted(map(tuple, rows.x.tolist()))
    other, _ = offline._divided(rows, seed=1)
    assert other.x.tolist() != fresh.x.tolist()


def test_recipes_are_those_without_weights() -> None:
    assert {"scratch", "trees"} <= set(offline.from_nothing())
    assert not {"warm", "requantize"} & set(offline.from_nothing())


def test_budget_that_makes_nothing_is_told(tmp_path: Path) -> None:
    job_in(tmp_path, budget_s=1e-6)
    with pytest.raises(DeadlineExceeded, match="passed at step"):
        pipeline.run(tmp_path)


def test_budget_that_is_spent_leaves_what_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from redistill.compress import build

    job_in(tmp_path)
    monkeypatch.setattr(offline, "_able", lambda _: ["scratch", "trees"])
    original = build.build

    def slow(context: object, *rows: object) -> object:
        if context.recipe == "trees":  # type: ignore[attr-defined]
            raise DeadlineExceeded("spent")
        return original(context, *rows)  # type: ignore[arg-type]

    monkeypatch.setattr(build, "build", slow)
    report = pipeline.run(tmp_path)
    assert {v.name.partition("-")[0] for v in report.variants} == {"mlp"}
    assert any("was spent at boosted trees" in w for w in report.warnings)


@pytest.mark.parametrize("role", ["teacher", "incumbent"])
def test_folder_without_a_model_is_refused(tmp_path: Path, role: str) -> None:
    job_in(tmp_path)
    (tmp_path / role / "model.onnx").unlink()
    with pytest.raises(BadJob, match=f"{role}/model.onnx"):
        pipeline.run(tmp_path)


def test_family_whose_library_is_missing_is_left_out_and_said(
    done: tuple[Path, Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = done
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "lightgbm" else object()
    )
    report = pipeline.run(folder)
    assert any("boosted trees were not tried: lightgbm" in w for w in report.warnings)
