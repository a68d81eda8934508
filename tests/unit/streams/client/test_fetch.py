"""A signed repository as a client reads it: what is not signed, not new or not whole is refused."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from release_kit import FakeClock, Installation, install

from redistill.streams.client import fetch
from redistill.streams.client.fetch import Repository
from redistill.streams.client.release import CLIENT_FILES, MANIFEST_FILE
from redistill.streams.errors import ReleaseError
from redistill.workers.releases.roles import Lifetimes

Connect = Callable[..., Repository]


@pytest.fixture
def connect(shop: Installation, tmp_path: Path) -> Iterator[Connect]:
    """Opens the shop's repository as a service does."""
    made: list[Repository] = []

    def make(address: Any = None, trust: Any = None, **more: Any) -> Repository:
        options = {"cache": tmp_path / "cache"} | more
        made.append(Repository(address or shop.layout.repository, trust or shop.trust, **options))
        return made[-1]

    yield make
    for repository in made:
        repository.close()


def metadata_files(shop: Installation) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in shop.layout.metadata.iterdir()}


def test_pointer_and_release_are_read_and_kept(shop: Installation, connect: Connect) -> None:
    seen = connect()
    pointer = seen.pointer("credit")
    assert (pointer.model, pointer.stable, pointer.epoch) == ("credit", "v1", 1)
    folder = seen.release("credit", pointer.manifest_sha256)
    assert {p.name for p in folder.iterdir()} == {MANIFEST_FILE, *CLIENT_FILES}
    shutil.rmtree(shop.layout.targets)
    assert seen.release("credit", pointer.manifest_sha256) == folder, "it is in the cache"
    shop_again = connect()
    assert shop_again.cached("credit", pointer.manifest_sha256) == folder


def test_release_before_any_pointer_is_refused(connect: Connect) -> None:
    with pytest.raises(ReleaseError, match="not read yet"):
        connect().release("credit", "0" * 64)
    seen = connect()
    seen.pointer("credit")
    with pytest.raises(ReleaseError, match="not among the signed files"):
        seen.release("credit", "0" * 64)


def test_model_without_a_release_is_told(connect: Connect) -> None:
    with pytest.raises(ReleaseError, match="no release of a model named 'other'"):
        connect().pointer("other")


# --- what is refused ----------------------------------------------------------------------------


def test_replayed_metadata_are_refused(shop: Installation, connect: Connect) -> None:
    old = metadata_files(shop)
    shop.publish("credit", "v2")
    seen = connect()
    assert seen.pointer("credit").stable == "v2"
    for name, data in old.items():
        (shop.layout.metadata / name).write_bytes(data)
    with pytest.raises(ReleaseError, match="BadVersionNumberError"):
        seen.pointer("credit")


def test_changed_pointer_is_refused(shop: Installation, connect: Connect) -> None:
    shop.publish("credit", "v2")
    for path in (shop.layout.targets / "credit").glob("*.pointer.json"):
        path.write_bytes(path.read_bytes().replace(b'"epoch":2', b'"epoch":9'))
    with pytest.raises(ReleaseError, match="LengthOrHashMismatchError"):
        connect().pointer("credit")


def test_changed_model_is_refused(shop: Installation, connect: Connect) -> None:
    sealed = shop.add("credit", "v3", 3)
    shop.publish("credit", "v3")
    path = shop.layout.path("credit", "model.onnx", sealed.manifest.sha256)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    seen = connect()
    manifest = seen.pointer("credit").manifest_sha256
    with pytest.raises(ReleaseError, match="was refused"):
        seen.release("credit", manifest)
    assert seen.cached("credit", manifest) is None
    left = [p for p in (seen.cache / "releases" / "credit").iterdir() if p.name.startswith(".new")]
    assert left == []


def test_metadata_signed_by_a_stranger_are_refused(
    shop: Installation, connect: Connect, tmp_path: Path
) -> None:
    seen = connect()
    seen.pointer("credit")
    other = install(tmp_path / "other", f"sqlite:///{tmp_path}/other.db", clock=time.time)
    other.register("credit")
    other.add("credit", "v9", 9, "baseline")
    other.publish("credit", "v9")
    for k in range(3):  # newer versions than ours
        other.add("credit", f"v{k}", k)
        other.publish("credit", f"v{k}")
    shutil.rmtree(shop.layout.repository)
    shutil.copytree(other.layout.repository, shop.layout.repository)
    with pytest.raises(ReleaseError, match="was refused"):
        seen.pointer("credit")


def test_expired_metadata_are_refused_until_they_are_signed_again(tmp_path: Path) -> None:
    clock = FakeClock(time.time() - 10 * 86_400)
    inst = install(
        tmp_path / "home", f"sqlite:///{tmp_path}/r.db", clock=clock,
        lifetimes=Lifetimes(timestamp=24, snapshot=24),
    )  # fmt: skip
    inst.register("credit")
    inst.add("credit", "v1", 1, "baseline")
    inst.publish("credit", "v1")
    seen = Repository(inst.layout.repository, inst.trust, cache=tmp_path / "cache")
    with pytest.raises(ReleaseError, match=r"expired.*is a repair worker running"):
        seen.pointer("credit")
    clock.now = time.time()
    assert set(inst.tick().renewed) >= {"timestamp", "snapshot"}
    assert seen.pointer("credit").stable == "v1"


def test_repository_that_is_away_is_told(shop: Installation, connect: Connect) -> None:
    seen = connect()
    shop.layout.repository.rename(shop.layout.home / "away")
    with pytest.raises(ReleaseError, match="cannot be read"):
        seen.pointer("credit")


# --- the cache ----------------------------------------------------------------------------------


def test_damaged_release_is_no_longer_cached_and_downloaded_anew(connect: Connect) -> None:
    seen = connect()
    manifest = seen.pointer("credit").manifest_sha256
    folder = seen.release("credit", manifest)
    (folder / "model.onnx").write_bytes(b"rotten")
    assert seen.cached("credit", manifest) is None
    assert seen.release("credit", manifest) == folder
    assert seen.cached("credit", manifest) == folder
    (folder / MANIFEST_FILE).write_bytes(b"{}")
    assert seen.cached("credit", manifest) is None


def test_repositories_and_trusts_have_caches_of_their_own(
    shop: Installation, connect: Connect, tmp_path: Path
) -> None:
    here = connect().cache
    assert connect().cache == here
    assert connect(address=tmp_path / "elsewhere").cache != here
    assert connect(trust=b"another").cache != here


# --- arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"trust": "/does/not/exist.json"}, "keys export"),
        ({"address": "ftp://host/x"}, "http://"),
        ({"address": "http://registry.example", "token": "t"}, "without TLS"),
        ({"address": "https://ann:secret@registry.example"}, r"^the repository's address takes no"),
        ({"token": "a\nb"}, "the token holds signs that no header takes; is it the right file"),
        ({"address": "https://registry.example/?a=b"}, "https://host:8443 was expected"),
        ({"address": "https://"}, "https://host:8443 was expected"),
        ({"cache": "/proc/nowhere"}, "cache"),
        ({"address": "https://[registry"}, "https://host:8443 was expected"),
        ({"ca": "/does/not/exist.pem"}, r"CA certificates /does/not/exist\.pem do not exist"),
    ],
)
def test_wrong_arguments_are_told(connect: Connect, change: dict[str, Any], why: str) -> None:
    with pytest.raises(ReleaseError, match=why):
        connect(**change)


def test_trust_that_is_no_root_is_refused_when_it_is_used(connect: Connect) -> None:
    for junk in (b"{}", b"\0", b"junk"):
        with pytest.raises(ReleaseError, match=r"trust given for .* is no root .*keys export"):
            connect(trust=junk).pointer("credit")


@pytest.mark.parametrize(
    ("address", "base", "web"),
    [
        ("https://registry.example/", "https://registry.example", True),
        ("http://127.0.0.1:8443", "http://127.0.0.1:8443", True),
        ("file:///srv/a%20b", "file:///srv/a%20b", False),
        ("/srv/a b", "file:///srv/a%20b", False),
    ],
)
def test_address_is_a_folder_or_a_web_address(address: str, base: str, web: bool) -> None:
    assert fetch._base(address, "t" if web else None) == (base, web)


def test_folder_is_taken_from_where_we_stand() -> None:
    assert fetch._base("repository", None) == (Path("repository").absolute().as_uri(), False)
