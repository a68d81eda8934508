"""Files of releases: where they lie, stored by hash, found damaged, put together again."""

from __future__ import annotations

import errno
import os
from hashlib import sha256
from pathlib import Path

import pytest

from redistill.streams.client.release import FileEntry
from redistill.workers.errors import RegistryError
from redistill.workers.releases import release_files
from redistill.workers.releases.release_files import RepositoryLayout


@pytest.fixture
def layout(tmp_path: Path) -> RepositoryLayout:
    return RepositoryLayout(tmp_path / "home")


def source(tmp_path: Path, data: bytes = b"graph") -> Path:
    path = tmp_path / "candidate.onnx"
    path.write_bytes(data)
    return path


def entry(data: bytes) -> FileEntry:
    return FileEntry(sha256=sha256(data).hexdigest(), bytes=len(data))


def left_over(layout: RepositoryLayout) -> list[str]:
    return [p.name for p in layout.home.rglob("*") if p.is_file() and p.name.startswith(".")]


def test_public_files_lie_apart_from_private_ones(layout: RepositoryLayout) -> None:
    public = layout.path("credit", "model.onnx", "a" * 64)
    private = layout.path("credit", "reference_rows.parquet", "b" * 64)
    assert public == layout.home / "repository" / "targets" / "credit" / f"{'a' * 64}.onnx"
    assert private == layout.home / "private" / "credit" / f"{'b' * 64}.parquet"
    assert layout.metadata == layout.home / "repository" / "metadata"
    assert layout.keys == layout.home / "keys"


def test_file_is_stored_under_its_hash(layout: RepositoryLayout, tmp_path: Path) -> None:
    stored = release_files.store(layout, "credit", "model.onnx", source(tmp_path))
    assert stored == entry(b"graph")
    assert layout.path("credit", "model.onnx", stored.sha256).read_bytes() == b"graph"
    assert left_over(layout) == []


def test_file_that_is_stored_again_becomes_young(layout: RepositoryLayout, tmp_path: Path) -> None:
    stored = release_files.store(layout, "credit", "model.onnx", source(tmp_path))
    path = layout.path("credit", "model.onnx", stored.sha256)
    os.utime(path, (1, 1))
    inode = path.stat().st_ino
    release_files.store(layout, "credit", "model.onnx", source(tmp_path))
    assert path.stat().st_ino == inode
    assert path.stat().st_mtime > 1


def test_damaged_file_is_replaced_when_it_is_stored_again(
    layout: RepositoryLayout, tmp_path: Path
) -> None:
    stored = release_files.store(layout, "credit", "model.onnx", source(tmp_path))
    path = layout.path("credit", "model.onnx", stored.sha256)
    path.write_bytes(b"grap!")
    release_files.store(layout, "credit", "model.onnx", source(tmp_path))
    assert path.read_bytes() == b"graph"


def test_damage_is_named_by_file(layout: RepositoryLayout, tmp_path: Path) -> None:
    stored = {
        "model.onnx": release_files.store(layout, "credit", "model.onnx", source(tmp_path)),
        "golden.npz": release_files.store(
            layout, "credit", "golden.npz", source(tmp_path, b"rows")
        ),
    }
    assert release_files.damaged(layout, "credit", stored) == []
    layout.path("credit", "golden.npz", stored["golden.npz"].sha256).write_bytes(b"rowz")
    missing = stored | {"training/weights.safetensors": entry(b"weights")}
    assert release_files.damaged(layout, "credit", missing) == [
        "golden.npz",
        "training/weights.safetensors",
    ]


def test_release_is_put_together_under_its_own_names(
    layout: RepositoryLayout, tmp_path: Path
) -> None:
    contents = {
        "model.onnx": b"graph",
        "golden.npz": b"rows",
        "training/architecture.json": b"{}",
        "training/weights.safetensors": b"weights",
    }
    stored = {
        name: release_files.store(layout, "credit", name, source(tmp_path, data))
        for name, data in contents.items()
    }
    folder = tmp_path / "in"
    release_files.restore(
        layout, "credit", stored, folder, names={"model.onnx", "training/", "profile.json"}
    )
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert found == {k: v for k, v in contents.items() if k != "golden.npz"}


def test_damaged_release_is_not_put_together(layout: RepositoryLayout, tmp_path: Path) -> None:
    stored = {"model.onnx": release_files.store(layout, "credit", "model.onnx", source(tmp_path))}
    layout.path("credit", "model.onnx", stored["model.onnx"].sha256).write_bytes(b"rotten")
    with pytest.raises(RegistryError, match=r"credit: model\.onnx of a release is missing or"):
        release_files.restore(layout, "credit", stored, tmp_path / "in", names={"model.onnx"})


def test_place_that_cannot_be_written_is_named(layout: RepositoryLayout, tmp_path: Path) -> None:
    path = layout.path("credit", "model.onnx", entry(b"graph").sha256)
    path.mkdir(parents=True)
    with pytest.raises(RegistryError, match=f"{path} cannot be written"):
        release_files.store(layout, "credit", "model.onnx", source(tmp_path))
    assert left_over(layout) == []


def test_metadata_that_cannot_be_written_are_named(layout: RepositoryLayout) -> None:
    path = layout.metadata / "timestamp.json"
    path.mkdir(parents=True)
    with pytest.raises(RegistryError, match="cannot be written"):
        release_files.write_whole(path, b"{}")
    release_files.write_whole(layout.metadata / "new" / "1.root.json", b"{}")
    assert (layout.metadata / "new" / "1.root.json").read_bytes() == b"{}"


def test_source_that_changes_while_it_is_read_is_not_stored(
    layout: RepositoryLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = source(tmp_path)
    hashed = release_files.sha256_of

    def changing(of: Path) -> str:
        found = hashed(of)
        if of == path:
            path.write_bytes(b"grapf")
        return found

    monkeypatch.setattr(release_files, "sha256_of", changing)
    with pytest.raises(RegistryError, match="changed while it was read"):
        release_files.store(layout, "credit", "model.onnx", path)
    assert not list(layout.targets.rglob("*.onnx"))


def test_folder_that_cannot_be_written_is_named(layout: RepositoryLayout, tmp_path: Path) -> None:
    stored = {"model.onnx": release_files.store(layout, "credit", "model.onnx", source(tmp_path))}
    (tmp_path / "in").write_bytes(b"a file where the folder should be")
    with pytest.raises(RegistryError, match="cannot be written"):
        release_files.restore(layout, "credit", stored, tmp_path / "in", names={"model.onnx"})


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full_disk_says_that_nothing_was_published(code: int) -> None:
    error = release_files.cannot_write(Path("/home/x"), OSError(code, os.strerror(code)))
    assert "no room to write /home" in str(error)
    assert "Nothing was published" in str(error)
