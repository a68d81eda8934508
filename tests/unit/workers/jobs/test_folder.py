"""A job's files: fetched by hash, whole or not at all."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pytest

from redistill.workers.jobs.folder import JobFolderError, fetch

DATA = b"the teacher's graph"
SHA = sha256(DATA).hexdigest()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "objects" / SHA
    path.parent.mkdir()
    path.write_bytes(DATA)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "job" / "teacher" / "model.onnx"


def test_file_is_copied_into_a_folder_that_is_made_for_it(source: Path, target: Path) -> None:
    fetch(source, target, SHA, what="teacher")
    assert target.read_bytes() == DATA
    assert [p.name for p in target.parent.iterdir()] == ["model.onnx"]


def test_file_that_is_there_stays(source: Path, target: Path) -> None:
    fetch(source, target, SHA, what="teacher")
    os.utime(target, (1, 1))
    source.unlink()
    fetch(source, target, SHA, what="teacher")
    assert target.stat().st_mtime == 1


def test_file_with_other_bytes_is_replaced(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.write_bytes(b"half of the teach")
    fetch(source, target, SHA, what="teacher")
    assert target.read_bytes() == DATA


def test_missing_file_is_named(source: Path, target: Path) -> None:
    source.unlink()
    with pytest.raises(JobFolderError, match=r"teacher is missing: .* restore it from a backup"):
        fetch(source, target, SHA, what="teacher")
    assert not target.exists()


def test_damaged_file_is_named_and_leaves_nothing(source: Path, target: Path) -> None:
    source.write_bytes(DATA[:-1])
    with pytest.raises(JobFolderError, match=f"teacher is damaged: .*{SHA[:12]}"):
        fetch(source, target, SHA, what="teacher")
    assert list(target.parent.iterdir()) == []
