"""From a candidate's folder to a release: what is refused, and that it is done once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from release_kit import NUMERIC, SCHEMA, rows, write_candidate

from redistill.streams.client.release import Manifest
from redistill.streams.errors import ReleaseError
from redistill.workers.releases.package import ReleasePackage, build_package
from redistill.workers.releases.release_files import RepositoryLayout, damaged


def packaged(layout: RepositoryLayout, candidate: Path, **more: Any) -> ReleasePackage:
    options: dict[str, Any] = {
        "layout": layout,
        "model": "credit",
        "version": "v1",
        "kind": "repaired",
        "schema": SCHEMA,
        "output": None,
        "output_kind": "logits",
        "created_at": datetime(2026, 11, 25, tzinfo=UTC),
    }
    return build_package(candidate, **{**options, **more})


@pytest.fixture
def candidate(tmp_path: Path) -> Path:
    return write_candidate(tmp_path / "candidate", 1)


@pytest.fixture
def layout(tmp_path: Path) -> RepositoryLayout:
    return RepositoryLayout(tmp_path / "home")


def test_packaging_is_content_addressed_and_can_be_done_twice(
    layout: RepositoryLayout, candidate: Path
) -> None:
    first = packaged(layout, candidate)
    assert damaged(layout, "credit", first.files) == []
    assert set(first.files) == {
        "model.onnx", "golden.npz", "report.json", "manifest.json", "reference_rows.parquet",
        "training/architecture.json",
    }  # fmt: skip
    before = sorted(p.name for p in layout.home.rglob("*.*"))
    assert packaged(layout, candidate) == first
    assert sorted(p.name for p in layout.home.rglob("*.*")) == before
    path = layout.path("credit", "manifest.json", first.manifest_sha256)
    assert Manifest.from_json(path.read_bytes()) == first.manifest
    assert first.manifest.output == "y"
    assert first.manifest.golden_tolerance == pytest.approx(1e-4)


def test_damaged_file_of_a_release_is_replaced_by_packaging_again(
    layout: RepositoryLayout, candidate: Path
) -> None:
    first = packaged(layout, candidate)
    layout.path("credit", "model.onnx", first.manifest.sha256).write_bytes(b"rotten")
    assert damaged(layout, "credit", first.files) == ["model.onnx"]
    packaged(layout, candidate)
    assert damaged(layout, "credit", first.files) == []


def spoil(candidate: Path, how: str) -> None:
    if how == "no golden":
        (candidate / "golden.npz").unlink()
    elif how == "own manifest":
        (candidate / "manifest.json").write_text("{}")
    elif how == "broken golden":
        (candidate / "golden.npz").write_bytes(b"PK")
    elif how == "wrong golden":
        x = rows(SCHEMA, 4)
        np.savez(
            candidate / "golden.npz", inputs=x, outputs=np.zeros((4, 2), np.float32), tolerance=0.1
        )
    elif how == "bad tolerance":
        np.savez(candidate / "golden.npz", inputs=rows(SCHEMA, 4), outputs=1, tolerance=np.inf)
    elif how == "bad name":
        (candidate / "training" / "a b.json").write_text("{}")
    elif how == "corrupt":
        (candidate / "model.onnx").write_bytes(b"\x00\x01")


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("no golden", r"no golden\.npz"),
        ("own manifest", "of its own"),
        ("broken golden", "cannot be read"),
        ("wrong golden", "golden outputs differ"),
        ("bad tolerance", "no tolerance"),
        ("bad name", "not allowed"),
        ("corrupt", "ONNX"),
    ],
)
def test_candidate_that_services_would_refuse_is_not_stored(
    layout: RepositoryLayout, candidate: Path, how: str, why: str
) -> None:
    spoil(candidate, how)
    with pytest.raises(ReleaseError, match=why):
        packaged(layout, candidate)
    assert not list(layout.home.rglob("*.onnx"))


def test_another_schema_than_the_graph_takes_is_told(
    layout: RepositoryLayout, candidate: Path
) -> None:
    with pytest.raises(ReleaseError, match=r"shape \(n, 20\)"):
        packaged(layout, candidate, schema=NUMERIC)
    with pytest.raises(ReleaseError, match="no output 'z'"):
        packaged(layout, candidate, output="z")
