"""Rotation of signing keys: files only, with root keys at hand and on other machines."""

from __future__ import annotations

import itertools
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root

from redistill.workers.errors import KeysError, UsageError
from redistill.workers.releases import key_rotation
from redistill.workers.releases import keys as keyring
from redistill.workers.releases.keys import Keys

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    keyring.init(tmp_path / "keys", passphrase=None, now=NOW - timedelta(days=100))
    return tmp_path / "keys"


def rotate(folder: Path, role: str, **more: int) -> key_rotation.Signatures:
    return key_rotation.rotate(folder, role, passphrase=None, now=NOW, **more)


def load(folder: Path) -> Keys:
    return keyring.load(folder, passphrase=None)


def ids(keys: Keys) -> dict[str, str]:
    signers = {"targets": keys.targets, "snapshot": keys.snapshot, "timestamp": keys.timestamp}
    more = {"models": keys.models} | ({"root": keys.root} if keys.root else {})
    return {role: s.public_key.keyid for role, s in (signers | more).items()}


@pytest.mark.parametrize("role", key_rotation.ROLES)
def test_role_gets_another_key_and_the_others_keep_theirs(folder: Path, role: str) -> None:
    before = load(folder)
    done = rotate(folder, role)
    assert (done.missing, done.draft, done.replaced) == ((), None, (role,))
    after = load(folder)
    assert [r for r, keyid in ids(after).items() if keyid != ids(before)[r]] == [role]
    assert len(after.documents) == (1 if role == "models" else 2)
    root = keyring.read_root(after.trust).signed
    assert root.expires == (NOW if role != "models" else NOW - timedelta(days=100)) + timedelta(
        days=keyring.ROOT_DAYS
    )
    assert all(p.stat().st_mode & 0o777 == 0o600 for p in folder.glob("*.pem*"))
    assert sorted(p.name for p in folder.glob("*.pem*")) == sorted(
        f"{r}.pem" for r in key_rotation.ROLES
    )


def test_documents_lead_from_each_root_to_the_next(folder: Path) -> None:
    for role in ("root", "targets", "root"):
        rotate(folder, role)
    chain = [Metadata[Root].from_bytes(d) for d in load(folder).documents]
    assert [m.signed.version for m in chain] == [1, 2, 3, 4]
    for old, new in itertools.pairwise(chain):
        old.verify_delegate("root", new)


def test_root_key_offline_signs_a_draft_and_no_private_key_travels(
    folder: Path, tmp_path: Path
) -> None:
    vault = tmp_path / "vault"
    vault.mkdir()
    (folder / "root.pem").rename(vault / "root.pem")
    shutil.copy(folder / "root.json", vault)
    before = ids(load(folder))
    waiting = rotate(folder, "targets")
    assert waiting.draft == folder / key_rotation.DRAFT
    assert waiting.missing == ("1 of the old root keys", "1 of the new root keys")
    assert ids(load(folder)) == before, "the old key signs until the root says otherwise"
    assert rotate(folder, "targets").missing == waiting.missing, "the same draft, not another one"

    carried = shutil.copy(waiting.draft, vault / "carried.json")
    signed = key_rotation.sign(Path(carried), vault, passphrase=None)
    assert (signed.missing, signed.replaced, signed.version) == ((), ("targets",), 2)
    assert sorted(p.name for p in vault.iterdir()) == ["carried.json", "root.json", "root.pem"]

    shutil.copy(carried, waiting.draft)
    assert rotate(folder, "targets").draft is None
    after = ids(load(folder))
    assert {r for r in after if after[r] != before[r]} == {"targets"}
    assert not (folder / key_rotation.DRAFT).exists()


def test_root_itself_is_replaced_where_it_lies_and_only_its_document_comes_back(
    folder: Path, tmp_path: Path
) -> None:
    vault = tmp_path / "vault"
    vault.mkdir()
    (folder / "root.pem").rename(vault / "root.pem")
    shutil.copy(folder / "root.json", vault)
    old = (vault / "root.pem").read_bytes()
    assert rotate(vault, "root").draft is None
    assert (vault / "root.pem").read_bytes() != old
    shutil.copy(vault / "root.json", folder / "2.root.json")
    (folder / "root.json").rename(folder / "1.root.json")
    shutil.copy(vault / "root.json", folder)
    assert len(load(folder).documents) == 2
    assert load(folder).root is None


def test_threshold_of_root_keys_on_several_machines(folder: Path, tmp_path: Path) -> None:
    assert rotate(folder, "root", root_keys=3, threshold=2).missing == ()
    assert sorted(p.name for p in folder.glob("root*.pem")) == [
        "root-2.pem", "root-3.pem", "root.pem",
    ]  # fmt: skip
    for name in ("root.pem", "root-2.pem", "root-3.pem"):
        vault = tmp_path / name
        vault.mkdir()
        (folder / name).rename(vault / name)
        shutil.copy(folder / "root.json", vault)
    first = rotate(folder, "timestamp")
    assert first.missing == ("2 of the old root keys", "2 of the new root keys")
    draft = folder / key_rotation.DRAFT
    one = key_rotation.sign(draft, tmp_path / "root-2.pem", passphrase=None)
    assert one.missing == ("1 of the old root keys", "1 of the new root keys")
    assert rotate(folder, "timestamp").missing == one.missing
    assert key_rotation.sign(draft, tmp_path / "root-3.pem", passphrase=None).missing == ()
    assert rotate(folder, "timestamp").missing == ()
    assert load(folder).root is None


def test_one_root_key_of_two_is_not_enough_to_be_at_hand(folder: Path) -> None:
    rotate(folder, "root", root_keys=2, threshold=2)
    assert load(folder).root is not None
    (folder / "root-2.pem").unlink()
    assert load(folder).root is None
    assert len(load(folder).roots) == 1


def test_killed_between_the_document_and_the_name_of_the_key(folder: Path) -> None:
    rotate(folder, "targets")
    (folder / "targets.pem").rename(folder / "targets.pem.next")
    shutil.copy(folder / "models.pem", folder / "targets.pem")  # any old one
    keyid = ids(load(folder))["targets"]
    rotate(folder, "snapshot")
    assert ids(load(folder))["targets"] == keyid
    assert not (folder / "targets.pem.next").exists()


def test_rotation_under_way_is_finished_or_taken_back(folder: Path) -> None:
    root = folder / "root.pem"
    away = root.rename(folder.parent / "root.pem")
    rotate(folder, "targets")
    with pytest.raises(UsageError, match="a rotation of targets is under way"):
        rotate(folder, "snapshot")
    assert key_rotation.abandon(folder)
    assert not key_rotation.abandon(folder)
    assert not list(folder.glob("*.next"))
    away.rename(root)
    assert rotate(folder, "snapshot").draft is None


def test_what_cannot_be_signed_is_told(folder: Path, tmp_path: Path) -> None:
    (folder / "root.pem").rename(tmp_path / "root.pem")
    draft = rotate(folder, "targets").draft
    assert draft is not None
    with pytest.raises(KeysError, match="no root key is in"):
        key_rotation.sign(draft, folder, passphrase=None)
    keyring.init(tmp_path / "strange", passphrase=None, now=NOW)
    with pytest.raises(KeysError, match="it is of other keys"):
        key_rotation.sign(draft, tmp_path / "strange", passphrase=None)
    (tmp_path / "root.pem").rename(folder / "root.pem")
    rotate(folder, "targets")
    with pytest.raises(KeysError, match="cannot be read"):
        key_rotation.sign(draft, folder, passphrase=None)
    with pytest.raises(KeysError, match="here is version 2"):
        key_rotation.sign(folder / "2.root.json", folder, passphrase=None)
    for role, more in (("m-credit", {}), ("root", {"threshold": 2}), ("targets", {"root_keys": 2})):
        with pytest.raises(UsageError):
            rotate(folder, role, **more)


def test_encrypted_keys_stay_encrypted(tmp_path: Path) -> None:
    keyring.init(tmp_path, passphrase="horse", now=NOW)
    key_rotation.rotate(tmp_path, "targets", passphrase="horse", now=NOW)
    assert b"ENCRYPTED" in (tmp_path / "targets.pem").read_bytes()
    keyring.load(tmp_path, passphrase="horse")
