"""Manifests and pointers: what is read back, what is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from release_kit import SCHEMA

from redistill.files import sha256_of
from redistill.streams.client.release import FileEntry, InputLayout, Manifest, PointerFile, verify
from redistill.streams.errors import ReleaseError

AT = datetime(2026, 11, 25, 12, tzinfo=UTC)
MODEL = FileEntry(sha256="a" * 64, bytes=3)
MANIFEST = Manifest(
    model="credit",
    version="r1-aaaaaaaa",
    kind="repaired",
    sha256="a" * 64,
    files={"model.onnx": MODEL},
    schema=SCHEMA,
    input=InputLayout(kind="matrix", names=("x",)),
    output="y",
    output_kind="logits",
    golden_tolerance=1e-4,
    created_at=AT,
)
POINTER = PointerFile(
    model="credit", stable="r1-aaaaaaaa", manifest_sha256="b" * 64, sha256="a" * 64, epoch=3, moved_at=AT
)  # fmt: skip


def test_manifest_and_pointer_are_read_back_as_they_were_written() -> None:
    assert Manifest.from_json(MANIFEST.to_json()) == MANIFEST
    assert PointerFile.from_json(POINTER.to_json()) == POINTER


def test_pointer_of_a_newer_format_is_refused_and_says_so() -> None:
    newer = msgspec.json.encode({**msgspec.to_builtins(POINTER), "format": 2, "stable": None})
    with pytest.raises(ReleaseError, match=r"format 2.*upgrade"):
        PointerFile.from_json(newer)


def test_unknown_keys_of_a_known_format_are_ignored() -> None:
    more = msgspec.json.encode({**msgspec.to_builtins(POINTER), "colour": "red"})
    assert PointerFile.from_json(more) == POINTER


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"files": {"../../etc/passwd": MODEL, "model.onnx": MODEL}}, "not allowed"),
        ({"files": {"a/b/c": MODEL, "model.onnx": MODEL}}, "not allowed"),
        ({"files": {"/model.onnx": MODEL, "model.onnx": MODEL}}, "not allowed"),
        ({"files": {}}, "model.onnx"),
        ({"sha256": "c" * 64}, "not the one"),
        ({"schema": replace(SCHEMA, classes=())}, "classes"),
        ({"input": InputLayout(kind="columns", names=("x",))}, "one input per feature"),
        ({"golden_tolerance": -1.0}, "golden_tolerance"),
        ({"model": "Credit"}, "model"),
    ],
)
def test_manifest_that_contradicts_itself_is_refused(change: dict[str, object], why: str) -> None:
    with pytest.raises(ReleaseError, match=why):
        Manifest.from_json(replace(MANIFEST, **change).to_json())  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", b'{"format": "1"}'])
def test_anything_else_is_no_manifest(data: bytes) -> None:
    with pytest.raises(ReleaseError, match="cannot be read"):
        Manifest.from_json(data)


def test_verify_names_the_file_that_is_missing_changed_or_a_link(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"abc")
    good = FileEntry(sha256=sha256_of(tmp_path / "model.onnx"), bytes=3)
    manifest = replace(MANIFEST, files={"model.onnx": good, "training/a.json": good})
    verify(tmp_path, manifest, names=["model.onnx"])
    with pytest.raises(ReleaseError, match=r"training/a\.json is missing"):
        verify(tmp_path, manifest)
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "a.json").symlink_to(tmp_path / "model.onnx")
    with pytest.raises(ReleaseError, match=r"training/a\.json is missing"):
        verify(tmp_path, manifest)
    (tmp_path / "model.onnx").write_bytes(b"abd")
    with pytest.raises(ReleaseError, match=r"model\.onnx is not the file"):
        verify(tmp_path, manifest, names=["model.onnx"])
    with pytest.raises(ReleaseError, match=r"has no file golden\.npz"):
        verify(tmp_path, manifest, names=["golden.npz"])
