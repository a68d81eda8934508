"""What a brought model is judged with, and the release that comes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import loop
import pytest
import release_rows
from job_worker import report
from loop import NOW

from redistill.compress.plan import read_job_spec
from redistill.times import utc
from redistill.workers.errors import WorkersError
from redistill.workers.models import objects
from redistill.workers.models.spec import ModelSpec
from redistill.workers.onboarding import external_package
from redistill.workers.settings.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.load({"home": tmp_path / "home", "child_seconds": 90.0})


def spec(settings: Settings, *roles: str) -> ModelSpec:
    """A specification whose files with these roles are in the object store."""
    stored = {role: objects.put_bytes(settings.objects_folder, role.encode()) for role in roles}
    return replace(loop.spec(max_p95_ms=2.0), objects=stored)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_folder_holds_what_the_model_has(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "jobs" / "job-1"
    found = spec(settings, "trusted", "reference", "teacher")
    external_package.fill_folder(folder, found, settings, made_here=("incumbent",))
    filled = files(folder)
    job = read_job_spec(filled.pop("job.json"))
    assert filled == {
        "trusted.parquet": b"trusted",
        "reference.parquet": b"reference",
        "teacher/model.onnx": b"teacher",
    }
    assert (job.job_id, job.mode, job.trigger) == ("job-1", "baseline", "actor")
    assert (job.made_here, job.deadline_s, job.policy["latency"]["max_p95_ms"]) == (
        ("incumbent",),
        90.0,
        2.0,
    )
    assert folder.stat().st_mode & 0o777 == 0o700


def test_level_without_a_reference_is_judged_on_trusted_rows(
    settings: Settings, tmp_path: Path
) -> None:
    external_package.fill_folder(tmp_path / "job", spec(settings, "trusted"), settings)
    filled = files(tmp_path / "job")
    assert set(filled) == {"job.json", "trusted.parquet", "reference.parquet"}
    assert filled["reference.parquet"] == b"trusted"


def test_missing_object_is_told(settings: Settings, tmp_path: Path) -> None:
    found = spec(settings, "trusted")
    sha256 = found.objects["trusted"]
    objects.path_of(settings.objects_folder, sha256).unlink()
    with pytest.raises(WorkersError, match=sha256[:12]):
        external_package.fill_folder(tmp_path / "job", found, settings)


def test_release_is_dated_described_and_limited(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def build_package(candidate: Path, **options: Any) -> Any:
        asked.update(options, candidate=candidate)
        return release_rows.package("v2")

    monkeypatch.setattr(external_package, "build_package", build_package)
    judged = report(environment={"cpu_flags": ["avx2"]})
    built = external_package.build(
        tmp_path / "job", loop.spec(), settings, judged, version="v2", kind="added", now=NOW,
        predecessor="v1",
    )  # fmt: skip
    assert built == release_rows.package("v2")
    assert asked["candidate"] == tmp_path / "job" / "candidate"
    assert (asked["model"], asked["version"], asked["kind"]) == ("credit", "v2", "added")
    assert (asked["created_at"], asked["predecessor"]) == (utc(NOW), "v1")
    assert (asked["cpu_flags"], asked["policy_sha256"]) == (("avx2",), judged.policy_sha256)
    assert (asked["output_kind"], asked["load_seconds"]) == ("logits", settings.load_seconds)
    assert asked["layout"].home == settings.root


def test_job_spec_is_whole_json(settings: Settings, tmp_path: Path) -> None:
    external_package.fill_folder(tmp_path / "job", spec(settings, "trusted"), settings)
    document = json.loads((tmp_path / "job" / "job.json").read_bytes())
    assert document["graph"]["features"] == ["x", "y"]
