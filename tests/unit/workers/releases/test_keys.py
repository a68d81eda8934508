"""Signing keys: made once, private, and never usable by mistake."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root

from redistill.workers.errors import KeysError, UsageError
from redistill.workers.releases import keys

NOW = datetime(2026, 11, 25, 12, 30, 15, 999, tzinfo=UTC)


def test_keys_are_private_and_root_is_signed_by_itself(tmp_path: Path) -> None:
    os.umask(0o022)
    trust = keys.init(tmp_path / "keys", passphrase=None, now=NOW)
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "keys").iterdir()}
    assert modes.pop("root.json") == 0o644
    assert set(modes) == {
        f"{r}.pem" for r in ("root", "targets", "snapshot", "timestamp", "models")
    }
    assert set(modes.values()) == {0o600}
    metadata = Metadata[Root].from_bytes(trust.read_bytes())
    metadata.verify_delegate("root", metadata)
    assert metadata.signed.expires == NOW.replace(microsecond=0) + timedelta(days=365)
    assert metadata.signed.consistent_snapshot


def test_loaded_keys_show_nothing_private(tmp_path: Path) -> None:
    keys.init(tmp_path, passphrase=None, now=NOW)
    loaded = keys.load(tmp_path, passphrase=None)
    assert repr(loaded) == "Keys()"
    assert loaded.signer("m-credit") is loaded.models
    assert loaded.signer("snapshot") is loaded.snapshot


def test_keys_are_never_made_twice(tmp_path: Path) -> None:
    keys.init(tmp_path, passphrase=None, now=NOW)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(UsageError, match="keys already"):
        keys.init(tmp_path, passphrase=None, now=NOW)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_init_that_was_interrupted_can_be_done_again(tmp_path: Path) -> None:
    keys.init(tmp_path, passphrase=None, now=NOW)
    (tmp_path / "root.json").unlink()  # it is written last
    keys.init(tmp_path, passphrase=None, now=NOW)
    keys.load(tmp_path, passphrase=None)


def test_passphrase_encrypts_and_is_needed(tmp_path: Path) -> None:
    keys.init(tmp_path, passphrase="correct horse", now=NOW)
    for path in tmp_path.glob("*.pem"):
        assert b"ENCRYPTED" in path.read_bytes()
    keys.load(tmp_path, passphrase="correct horse")
    with pytest.raises(KeysError, match="REDISTILL_KEY_PASSPHRASE"):
        keys.load(tmp_path, passphrase=None)
    with pytest.raises(KeysError, match="passphrase is wrong") as caught:
        keys.load(tmp_path, passphrase="battery staple")
    assert "battery" not in str(caught.value)


def test_root_may_be_offline_and_then_signs_nothing(tmp_path: Path) -> None:
    keys.init(tmp_path, passphrase=None, now=NOW)
    (tmp_path / "root.pem").unlink()
    loaded = keys.load(tmp_path, passphrase=None)
    assert loaded.root is None
    with pytest.raises(KeysError, match="offline"):
        loaded.signer("root")


def test_what_is_wrong_with_keys_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match="keys init"):
        keys.load(tmp_path, passphrase=None)
    with pytest.raises(KeysError, match="keys init"):
        keys.export(tmp_path, tmp_path / "out.json")
    keys.init(tmp_path, passphrase=None, now=NOW)
    (tmp_path / "models.pem").chmod(0o640)
    with pytest.raises(KeysError, match=r"models\.pem: chmod 600"):
        keys.load(tmp_path, passphrase=None)
    (tmp_path / "models.pem").chmod(0o600)
    (tmp_path / "snapshot.pem").write_bytes((tmp_path / "models.pem").read_bytes())
    with pytest.raises(KeysError, match=r"snapshot\.pem is not the key"):
        keys.load(tmp_path, passphrase=None)
    (tmp_path / "snapshot.pem").write_bytes(b"junk")
    with pytest.raises(KeysError, match="no PEM key"):
        keys.load(tmp_path, passphrase=None)
    (tmp_path / "snapshot.pem").unlink()
    with pytest.raises(KeysError, match=r"snapshot\.pem cannot be read"):
        keys.load(tmp_path, passphrase=None)
    (tmp_path / "root.json").write_bytes(b"{}")
    with pytest.raises(KeysError, match="no root metadata"):
        keys.load(tmp_path, passphrase=None)


def test_export_copies_public_bytes_only(tmp_path: Path) -> None:
    keys.init(tmp_path / "keys", passphrase=None, now=NOW)
    keys.export(tmp_path / "keys", tmp_path / "somewhere" / "root.json")
    data = (tmp_path / "somewhere" / "root.json").read_bytes()
    assert data == (tmp_path / "keys" / "root.json").read_bytes()
    assert b"PRIVATE" not in data


def test_renewed_root_is_the_next_version_and_trusted_by_the_old_one(tmp_path: Path) -> None:
    old = keys.init(tmp_path, passphrase=None, now=NOW).read_bytes()
    loaded = keys.load(tmp_path, passphrase=None)
    assert loaded.root is not None
    fresh = keys.renewed_root(old, loaded.root, expires=NOW + timedelta(days=500))
    before, after = Metadata[Root].from_bytes(old), Metadata[Root].from_bytes(fresh)
    assert after.signed.version == 2
    before.verify_delegate("root", after)
    with pytest.raises(KeysError, match=r"root\.pem did not sign"):
        keys.renewed_root(old, loaded.models, expires=NOW + timedelta(days=500))
