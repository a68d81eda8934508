"""From a pointer to something that answers, and what is done where that fails."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import pytest
from release_kit import SCHEMA, Installation
from waiting import PATIENCE_SECONDS, eventually

from redistill.streams.client import loader as module
from redistill.streams.client.fetch import Repository
from redistill.streams.client.loader import RETRY_SECONDS, Loader
from redistill.streams.client.release import FALLBACK, POINTER_FILE, PointerFile
from redistill.streams.errors import ReleaseError


class Rig:
    """A loader whose clock is moved by hand, and whose limited child is counted."""

    def __init__(self, shop: Installation, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.probed: list[Path] = []
        self.refuses: str | None = None
        self.repository = Repository(shop.layout.repository, shop.trust, cache=cache)
        self.loader = Loader(
            self.repository, "credit", threads=1, retry_s=10.0, clock=lambda: self.now
        )
        self.monkeypatch = monkeypatch
        monkeypatch.setattr(module, "probe", self._probe)

    def _probe(self, folder: Path) -> None:
        self.probed.append(folder)
        if self.refuses is not None:
            raise ReleaseError(self.refuses)

    def pointer(self) -> PointerFile:
        return self.repository.pointer("credit")


@pytest.fixture
def rig(shop: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(shop, tmp_path / "cache", monkeypatch)


def test_release_is_tried_in_a_child_once_and_loaded(rig: Rig) -> None:
    pointer = rig.pointer()
    serving = rig.loader.load(pointer)
    assert (serving.version, serving.epoch, serving.sha256) == ("v1", 1, pointer.sha256)
    assert serving.session.manifest.schema == SCHEMA
    again = rig.loader.load(pointer)
    assert again.session is not serving.session
    assert len(rig.probed) == 1, "once per cache and ONNX Runtime"


def test_processes_that_share_a_cache_try_a_release_once(
    shop: Installation, rig: Rig, tmp_path: Path
) -> None:
    pointer = rig.pointer()
    other = Loader(
        Repository(shop.layout.repository, shop.trust, cache=tmp_path / "cache"),
        "credit", threads=1, retry_s=10.0,
    )  # fmt: skip
    other._repository.pointer("credit")
    slow = threading.Event()
    trial = rig._probe

    def probe(folder: Path) -> None:
        trial(folder)
        slow.wait(PATIENCE_SECONDS)

    rig.monkeypatch.setattr(module, "probe", probe)
    threads = [threading.Thread(target=x.load, args=(pointer,)) for x in (rig.loader, other)]
    for thread in threads:
        thread.start()
    eventually(lambda: rig.probed)
    threading.Timer(0.1, slow.set).start()
    for thread in threads:
        thread.join()
    assert len(rig.probed) == 1


def test_release_that_failed_is_tried_again_after_doubling_waits(rig: Rig) -> None:
    pointer = rig.pointer()
    rig.refuses = "this machine cannot run it"
    tries = []
    for rig.now in range(200):
        with pytest.raises(ReleaseError, match="this machine cannot run it"):
            rig.loader.load(pointer)
        if len(rig.probed) > len(tries):
            tries.append(rig.now)
    assert tries == [0, 10, 30, 70, 150]
    rig.refuses = None
    rig.now = 1e6
    assert rig.loader.load(pointer).version == "v1"
    assert RETRY_SECONDS >= 600


def test_download_that_failed_is_tried_at_the_next_look(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    pointer = rig.pointer()
    with monkeypatch.context() as patch:

        def refuse(model: str, manifest_sha256: str) -> Path:
            raise ReleaseError("cut off")

        patch.setattr(rig.repository, "release", refuse)
        for _ in range(3):
            with pytest.raises(ReleaseError, match="cut off"):
                rig.loader.load(pointer)
    assert rig.loader.load(pointer).version == "v1"


def test_another_release_is_tried_at_once(shop: Installation, rig: Rig) -> None:
    rig.refuses = "no"
    with pytest.raises(ReleaseError):
        rig.loader.load(rig.pointer())
    shop.publish("credit", "v2")
    rig.refuses = None
    assert rig.loader.load(rig.pointer()).version == "v2"


def test_pointer_that_names_other_bytes_than_its_release_is_refused(rig: Rig) -> None:
    pointer = rig.pointer()
    lying = PointerFile.from_json(pointer.to_json().replace(pointer.sha256.encode(), b"a" * 64))
    with pytest.raises(ReleaseError, match="different bytes"):
        rig.loader.load(lying)


def test_what_served_before_a_restart_is_loaded_from_the_cache(rig: Rig) -> None:
    assert rig.loader.from_cache() is None
    pointer = rig.pointer()
    rig.loader.load(pointer)
    rig.loader.remember(pointer, {pointer.manifest_sha256})
    again = rig.loader.from_cache()
    assert again is not None
    assert (again.version, again.epoch) == ("v1", 1)


@pytest.mark.parametrize("damage", ["pointer", "model", "other"])
def test_cache_that_is_not_whole_serves_nothing(rig: Rig, damage: str) -> None:
    pointer = rig.pointer()
    rig.loader.load(pointer)
    rig.loader.remember(pointer, {pointer.manifest_sha256})
    folder = rig.repository.cache / "releases" / "credit"
    if damage == "pointer":
        (folder / POINTER_FILE).write_bytes(b"{")
    elif damage == "model":
        (folder / pointer.manifest_sha256 / "model.onnx").write_bytes(b"rotten")
    else:
        named = pointer.to_json().replace(b'"model":"credit"', b'"model":"other"')
        (folder / POINTER_FILE).write_bytes(named)
    assert rig.loader.from_cache() is None


def test_remembering_forgets_what_no_pointer_names(shop: Installation, rig: Rig) -> None:
    first = rig.pointer()
    rig.loader.load(first)
    folder = rig.repository.cache / "releases" / "credit"
    (folder / ("0" * 64)).mkdir()
    shop.publish("credit", "v2")
    second = rig.pointer()
    rig.loader.load(second)
    rig.loader.remember(second, {second.manifest_sha256})
    kept = {p.name for p in folder.iterdir() if p.is_dir()}
    assert kept == {first.manifest_sha256, second.manifest_sha256}, "v1 is known and may come back"
    assert PointerFile.from_json((folder / POINTER_FILE).read_bytes()) == second


def test_fallback_that_is_a_known_release_serves_under_its_version(
    shop: Installation, rig: Rig
) -> None:
    file = shop.layout.home / "candidates" / "credit-v1" / "model.onnx"
    known = rig.loader.fallback(file, rig.pointer())
    assert (known.version, known.epoch) == ("v1", 0)
    stranger = rig.loader.fallback(file, None)
    assert (stranger.version, stranger.manifest_sha256) == (FALLBACK, "")
    rig.loader.remember(rig.pointer(), set())
    assert rig.loader.fallback(file, None).version == "v1", "as the last pointer knew it"


def test_serving_is_replaced_and_never_changed(rig: Rig) -> None:
    pointer = rig.pointer()
    serving = rig.loader.load(pointer)
    moved = PointerFile.from_json(pointer.to_json().replace(b'"epoch":1', b'"epoch":7'))
    assert serving.pointed(moved).epoch == 7
    assert serving.pointed(moved).session is serving.session
    assert serving.here(1) is serving
    parents = dataclasses.replace(serving, process=object())
    again = parents.here(1)
    assert again.session is not serving.session
    assert again.here(1) is again
    assert (serving.epoch, again.epoch, again.sha256) == (1, 1, serving.sha256)
