from __future__ import annotations

import hashlib
import os
import resource
import time
from pathlib import Path

import pytest

from redistill.workers.errors import WorkersError
from redistill.workers.models import objects


def test_objects_are_named_by_their_bytes(tmp_path: Path) -> None:
    sha256 = objects.put_bytes(tmp_path, b"abc")
    assert sha256 == hashlib.sha256(b"abc").hexdigest()
    assert objects.put_bytes(tmp_path, b"abc") == sha256
    assert objects.read(tmp_path, sha256) == b"abc"
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [sha256]


def test_a_missing_or_changed_object_is_said(tmp_path: Path) -> None:
    with pytest.raises(objects.ObjectMissing, match="restore it from a backup"):
        objects.path_of(tmp_path, "0" * 64)
    sha256 = objects.put_bytes(tmp_path, b"abc")
    objects.path_of(tmp_path, sha256).write_bytes(b"abd")
    with pytest.raises(objects.ObjectMissing, match="other bytes"):
        objects.read(tmp_path, sha256)


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 64])
def test_only_a_hash_becomes_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(objects.ObjectMissing, match="is no SHA-256"):
        objects.path_of(tmp_path, name)


def test_a_half_written_object_is_replaced(tmp_path: Path) -> None:
    sha256 = objects.put_bytes(tmp_path, b"abc")
    objects.path_of(tmp_path, sha256).write_bytes(b"a")
    objects.put_bytes(tmp_path, b"abc")
    assert objects.read(tmp_path, sha256) == b"abc"


def test_unused_objects_are_removed(tmp_path: Path) -> None:
    kept, gone = objects.put_bytes(tmp_path, b"a"), objects.put_bytes(tmp_path, b"b")
    now = time.time()
    assert (
        objects.remove_unused(tmp_path, {kept}, before=now - 60) == 0
    )  # it may be of a registration
    for sha256 in (kept, gone):
        os.utime(objects.path_of(tmp_path, sha256), (now - 3_600, now - 3_600))
    objects.put_bytes(tmp_path, b"c")
    assert objects.remove_unused(tmp_path, {kept}, before=now - 60) == 1
    assert objects.read(tmp_path, kept) == b"a"
    with pytest.raises(objects.ObjectMissing):
        objects.path_of(tmp_path, gone)


def test_an_object_that_is_put_again_counts_as_new(tmp_path: Path) -> None:
    sha256 = objects.put_bytes(tmp_path, b"a")
    os.utime(objects.path_of(tmp_path, sha256), (1_000, 1_000))
    objects.put_bytes(tmp_path, b"a")
    assert objects.remove_unused(tmp_path, set(), before=2_000) == 0


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    try:
        with pytest.raises(WorkersError, match="cannot be written"):
            objects.put_bytes(tmp_path, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
