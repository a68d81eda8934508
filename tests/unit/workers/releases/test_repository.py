"""Metadata made from rows: the same bytes from the same rows, whatever a crash left."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import loop
import pytest
import release_rows
from loop import HOUR, NOW, SECOND, Clock
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from redistill.streams.errors import LeaseError
from redistill.streams.store import lease, properties
from redistill.streams.store.database import Database
from redistill.workers.errors import RegistryError
from redistill.workers.releases import anchor, repository, roles
from redistill.workers.releases import keys as keyring
from redistill.workers.releases.anchor import Anchor
from redistill.workers.releases.keys import Keys
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.releases.repository import make_documents
from redistill.workers.releases.roles import Role


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    keyring.init(folder, passphrase=None, now=datetime.fromtimestamp(NOW / 1e6, UTC))
    return keyring.load(folder, passphrase=None)


@dataclass
class World:
    """A database with the lease of the repository in our hands, and an empty folder."""

    database: Database
    layout: RepositoryLayout
    keys: Keys
    clock: Clock = field(default_factory=Clock)
    token: int = 0

    def __post_init__(self) -> None:
        release_rows.prepared(self.database, trust=self.keys.trust)
        self.token = self.hold("w1")

    def hold(self, holder: str) -> int:
        """Take the lease."""
        with self.database.begin() as conn:
            token = lease.acquire(conn, repository.LEASE, holder, now=self.clock(), seconds=60)
        assert token is not None
        return token

    def publish(self, version: str) -> None:
        """Move the pointer of ``credit``, in rows."""
        with self.database.begin() as conn:
            release_rows.add(conn, version)
            release_rows.publish(conn, version)

    def write(self) -> int | None:
        """Write what the rows ask for, as the writer does."""
        with self.database.read() as conn:
            if not repository.outstanding(conn, self.layout):
                return None
        return repository.publish_metadata(
            self.database, self.layout, self.roles, self.keys, token=self.token, clock=self.clock
        )

    @property
    def roles(self) -> dict[str, Role]:
        """The rows."""
        with self.database.read() as conn:
            return roles.read_roles(conn)

    @property
    def published(self) -> int:
        """The snapshot that clients are said to see."""
        with self.database.read() as conn:
            return properties.published_snapshot(conn)

    @property
    def files(self) -> dict[str, bytes]:
        """Every file that clients can read."""
        folder = self.layout.repository
        return {
            str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()
        }


@pytest.fixture
def world(tmp_path: Path, keys: Keys) -> Iterator[World]:
    database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    yield World(database, RepositoryLayout(tmp_path / "home"), keys)
    database.dispose()


# --- documents --------------------------------------------------------------------------------


def test_documents_say_what_the_rows_say(world: World) -> None:
    world.publish("v1")
    documents = make_documents(world.roles, world.keys)
    assert list(documents.metadata) == [
        "1.root.json",
        "1.m-credit.json",
        "2.targets.json",
        "2.snapshot.json",
        "timestamp.json",
    ]
    assert documents.snapshot == 2
    root = Metadata[Root].from_bytes(documents.metadata["1.root.json"])
    for role, kind in (("targets", Targets), ("snapshot", Snapshot), ("timestamp", Timestamp)):
        name = "timestamp.json" if role == "timestamp" else f"2.{role}.json"
        signed = Metadata[kind].from_bytes(documents.metadata[name])  # type: ignore[valid-type]
        root.verify_delegate(role, signed)
    snapshot = Metadata[Snapshot].from_bytes(documents.metadata["2.snapshot.json"]).signed
    assert {n: m.version for n, m in snapshot.meta.items()} == {
        "m-credit.json": 1,
        "targets.json": 2,
    }
    stamp = Metadata[Timestamp].from_bytes(documents.metadata["timestamp.json"]).signed
    assert (stamp.version, stamp.snapshot_meta.version) == (2, 2)
    assert stamp.expires == datetime.fromtimestamp(world.roles["timestamp"].expires_at / 1e6, UTC)


def test_model_signs_its_pointer_and_its_files(world: World) -> None:
    world.publish("v1")
    documents = make_documents(world.roles, world.keys)
    ((path, data),) = documents.pointers.items()
    assert json.loads(data)["stable"] == "v1"
    assert path.startswith("credit/")
    assert path.endswith(".pointer.json")
    top = Metadata[Targets].from_bytes(documents.metadata["2.targets.json"])
    own = Metadata[Targets].from_bytes(documents.metadata["1.m-credit.json"])
    top.verify_delegate("m-credit", own)
    assert "credit/pointer.json" in own.signed.targets
    assert len(own.signed.targets) == 4  # the pointer, the graph, its golden rows, the manifest


def test_repository_without_a_model_delegates_nothing(world: World) -> None:
    documents = make_documents(world.roles, world.keys)
    top = Metadata[Targets].from_bytes(documents.metadata["1.targets.json"]).signed
    assert top.delegations is None
    assert documents.pointers == {}


def test_same_rows_and_keys_give_the_same_bytes(world: World) -> None:
    world.publish("v1")
    assert make_documents(world.roles, world.keys) == make_documents(world.roles, world.keys)


def test_what_is_there_is_not_made_again_but_the_timestamp(world: World) -> None:
    world.publish("v1")
    whole = make_documents(world.roles, world.keys)
    rest = make_documents(world.roles, world.keys, present=set(whole.metadata))
    assert set(rest.metadata) == {"1.root.json", "2.snapshot.json", "timestamp.json"}
    assert rest.pointers == whole.pointers


# --- writing ----------------------------------------------------------------------------------


def test_changes_are_written_once(world: World) -> None:
    world.publish("v1")
    assert world.write() == 2
    assert world.published == 2
    assert set(world.files) >= {"metadata/timestamp.json", "metadata/2.snapshot.json"}
    assert world.write() is None


def test_empty_database_asks_for_nothing(tmp_path: Path) -> None:
    database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    with database.read() as conn:
        assert not repository.outstanding(conn, RepositoryLayout(tmp_path / "home"))
    database.dispose()


def test_timestamp_carries_the_anchor_of_the_audit_chain(world: World) -> None:
    at = Anchor(7, "ab" * 32)
    with world.database.begin() as conn:
        assert roles.anchor(conn, world.roles["timestamp"], at)
        roles.touch(conn, now=NOW, lifetimes=release_rows.LIFETIMES)
        assert not roles.anchor(conn, world.roles["timestamp"], at), "it is another one by now"
    world.write()
    found = anchor.published(world.layout, world.keys.documents)
    assert (found.authentic, found.anchor) == (True, at)
    other = world.layout.metadata / "timestamp.json"
    other.write_bytes(other.read_bytes().replace(b'"length":7', b'"length":6'))
    assert anchor.published(world.layout, world.keys.documents) == anchor.Stamp(there=True)


def test_lost_timestamp_is_written_again(world: World) -> None:
    world.publish("v1")
    world.write()
    before = world.files
    (world.layout.metadata / "timestamp.json").unlink()
    assert world.write() == 2
    assert world.files == before


def test_timestamp_comes_last(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = repository.write_whole

    def failing(path: Path, data: bytes) -> None:
        if path.name == "2.snapshot.json" and "2.snapshot.json" not in written:
            written.append(path.name)
            raise RegistryError("no room")
        written.append(path.name)
        write(path, data)

    monkeypatch.setattr(repository, "write_whole", failing)
    world.publish("v1")
    with pytest.raises(RegistryError):
        world.write()
    assert "timestamp.json" not in written
    assert world.published == 0
    assert world.write() == 2
    assert written[-1] == "timestamp.json"


def test_zombie_puts_no_old_timestamp_over_a_new_one(world: World) -> None:
    world.publish("v1")
    world.write()
    before = world.files["metadata/timestamp.json"]
    world.publish("v2")
    world.clock.forward(61 * SECOND)
    world.hold("w2")
    with pytest.raises(LeaseError):
        world.write()
    assert world.files["metadata/timestamp.json"] == before
    assert world.published == 2


def test_old_documents_go_and_roots_stay(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "OLD_VERSIONS", 2)
    for i in range(6):
        world.publish(f"v{i}")
        world.write()
    names = sorted(p.name for p in world.layout.metadata.iterdir())
    assert [n for n in names if n.endswith(".snapshot.json")] == [
        "5.snapshot.json",
        "6.snapshot.json",
        "7.snapshot.json",
    ]
    assert "1.root.json" in names
    assert [n for n in names if n.endswith("m-credit.json")] == [
        "4.m-credit.json",
        "5.m-credit.json",
        "6.m-credit.json",
    ]


def test_published_versions_are_read_from_the_folder(world: World) -> None:
    world.publish("v1")
    world.write()
    (world.layout.metadata / "odd.name.json").write_text("{}")
    found = repository.published_versions(world.layout)
    assert found == {"timestamp": 2, "root": 1, "targets": 2, "snapshot": 2, "m-credit": 1}
    shutil.rmtree(world.layout.metadata)
    assert repository.published_versions(world.layout) == {"timestamp": 0}


# --- mending ----------------------------------------------------------------------------------


def mend(world: World) -> list[str]:
    return repository.mend(world.layout, world.roles, world.keys)


def test_damaged_documents_are_made_again(world: World) -> None:
    world.publish("v1")
    world.write()
    before = world.files
    (world.layout.metadata / "1.m-credit.json").write_bytes(b"{}")
    (pointer,) = world.layout.targets.rglob("*.pointer.json")
    pointer.write_bytes(b"rotten")
    (world.layout.metadata / ".x.new").write_bytes(b"half a file")
    assert mend(world) == ["1.m-credit.json", str(pointer.relative_to(world.layout.targets))]
    assert world.files == before


def test_wrong_timestamp_is_told_and_left(world: World) -> None:
    world.publish("v1")
    world.write()
    stamp = world.layout.metadata / "timestamp.json"
    stamp.write_bytes(stamp.read_bytes() + b" ")
    assert mend(world) == ["timestamp.json"]
    assert stamp.exists(), "it holds the anchor"


def test_older_timestamp_is_left_for_publishing_to_replace(world: World) -> None:
    world.publish("v1")
    world.write()
    world.publish("v2")
    assert mend(world) == []
    assert (world.layout.metadata / "timestamp.json").exists()


def test_missing_documents_are_publishings_to_write(world: World) -> None:
    world.publish("v1")
    world.write()
    (world.layout.metadata / "1.m-credit.json").unlink()
    assert mend(world) == []


def test_repository_that_was_never_made_has_nothing_to_mend(world: World) -> None:
    assert repository.mend(world.layout, {}, world.keys) == []


def test_expiry_is_in_whole_seconds(world: World) -> None:
    documents = make_documents(world.roles, world.keys)
    stamp = Metadata[Timestamp].from_bytes(documents.metadata["timestamp.json"]).signed
    assert stamp.expires == datetime.fromtimestamp((NOW + 168 * HOUR) // 1_000_000, UTC)
