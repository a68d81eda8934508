"""Clients that hold an old trust file follow each rotation of a key, and refuse the old key."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from release_kit import FakeClock, Installation, install
from tuf.api.metadata import Metadata, Targets, Timestamp

from redistill.streams.client.fetch import Repository
from redistill.streams.client.model import ModelClient
from redistill.streams.errors import ReleaseError
from redistill.workers.releases import key_rotation
from redistill.workers.releases import keys as keyring
from redistill.workers.store import audit

NEVER = 3_600.0
"""A poll that does not come in a test."""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Installation]:
    clock = FakeClock(time.time())
    inst = install(tmp_path / "home", f"sqlite:///{tmp_path}/r.db", clock=clock)
    inst.register("credit")
    inst.add("credit", "v1", 1, "baseline")
    inst.add("credit", "v2", 2)
    inst.publish("credit", "v1")
    yield inst
    inst.database.dispose()


def rotate(folder: Path, role: str, **more: int) -> key_rotation.Signatures:
    return key_rotation.rotate(folder, role, passphrase=None, now=datetime.now(UTC), **more)


def test_clients_follow_every_rotation_with_the_trust_file_that_they_had(
    shop: Installation, tmp_path: Path
) -> None:
    old_trust = shop.trust
    known = Repository(shop.layout.repository, old_trust, cache=tmp_path / "known")
    assert known.pointer("credit").epoch == 1
    for n, role in enumerate((*key_rotation.ROLES, "root")):
        rotate(shop.layout.keys, role)
        shop.tick()
        moved = shop.rollback("credit") if n % 2 else shop.publish("credit", "v2")
        new = Repository(shop.layout.repository, old_trust, cache=tmp_path / f"new-{n}")
        newest = Repository(shop.layout.repository, shop.trust, cache=tmp_path / f"newest-{n}")
        for client in (known, new, newest):
            assert client.pointer("credit").epoch == moved.epoch, role
    with shop.database.read() as conn:
        said = [e.body for e in audit.after(conn, 1) if e.action == "keys.replaced"]
    assert len(said) == 6
    assert '{"roles":["models"]}' in said


def test_model_client_goes_on_over_a_rotation_of_root_and_targets(
    shop: Installation, tmp_path: Path
) -> None:
    with ModelClient(
        "credit",
        repository=shop.layout.repository,
        trust=shop.trust,
        cache=tmp_path / "cache",
        poll_s=NEVER,
    ) as model:
        assert model.version == "v1"
        for role in ("root", "targets", "models"):
            rotate(shop.layout.keys, role)
        shop.tick()
        shop.publish("credit", "v2")
        model.refresh()
        assert model.version == "v2"


def test_what_a_replaced_key_signs_is_refused(shop: Installation, tmp_path: Path) -> None:
    old = keyring.load(shop.layout.keys, passphrase=None)
    rotate(shop.layout.keys, "timestamp")
    rotate(shop.layout.keys, "models")
    shop.tick()
    seen = Repository(shop.layout.repository, shop.trust, cache=tmp_path / "seen")
    assert seen.pointer("credit").epoch == 1
    path = shop.layout.metadata / "timestamp.json"
    good = path.read_bytes()
    stamp = Metadata[Timestamp].from_bytes(good)
    stamp.signed.version += 5
    stamp.sign(old.timestamp)
    stamp.to_file(str(path))
    with pytest.raises(ReleaseError):
        seen.pointer("credit")
    path.write_bytes(good)
    newest = max(
        shop.layout.metadata.glob("*.m-credit.json"), key=lambda p: int(p.name.split(".")[0])
    )
    role = Metadata[Targets].from_bytes(newest.read_bytes())
    role.sign(old.models)
    role.to_file(str(newest))
    with pytest.raises(ReleaseError):
        Repository(shop.layout.repository, shop.trust, cache=tmp_path / "other").pointer("credit")


def test_offline_root_is_renewed_by_nobody_and_targets_rotate_with_its_signature(
    shop: Installation, tmp_path: Path
) -> None:
    known = Repository(shop.layout.repository, shop.trust, cache=tmp_path / "known")
    assert known.pointer("credit").epoch == 1
    vault = tmp_path / "vault" / "keys"
    vault.mkdir(parents=True)
    shutil.copy(shop.layout.keys / "root.json", vault)
    (shop.layout.keys / "root.pem").rename(vault / "root.pem")
    waiting = rotate(shop.layout.keys, "targets")
    assert waiting.draft is not None
    shop.tick()
    assert known.pointer("credit").epoch == 1
    key_rotation.sign(waiting.draft, vault, passphrase=None)
    assert rotate(shop.layout.keys, "targets").draft is None
    shop.tick()
    shop.publish("credit", "v2")
    assert known.pointer("credit").epoch == 2
