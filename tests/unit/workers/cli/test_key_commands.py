"""``redistill keys``: rotation here and where the root key is, and a restore that is accepted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from redistill.workers.cli import main
from redistill.workers.errors import KeysError, UsageError
from redistill.workers.releases import keys as keyring
from redistill.workers.settings.settings import Settings
from redistill.workers.store import audit, opening


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DATABASE", "AUDIT_KEY", "KEY_PASSPHRASE"):
        monkeypatch.delenv(f"REDISTILL_{name}", raising=False)
    monkeypatch.setenv("REDISTILL_HOME", str(tmp_path / "home"))
    said("keys", "init")
    return tmp_path / "home"


def said(*args: str) -> str:
    result = CliRunner().invoke(main.app, list(args))
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_key_is_replaced_where_the_root_key_is(home: Path) -> None:
    before = keyring.load(home / "keys", passphrase=None)
    out = said("keys", "rotate", "targets")
    assert "targets has another key" in out
    assert "root.json is version 2: services follow by themselves" in out
    after = keyring.load(home / "keys", passphrase=None)
    assert after.targets.public_key.keyid != before.targets.public_key.keyid
    assert "root.json" not in said("keys", "rotate", "models")
    assert "move its root keys offline: root.pem" in said("keys", "rotate", "root")


def test_key_is_replaced_with_a_root_key_that_is_elsewhere(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = tmp_path / "vault" / "keys"
    vault.mkdir(parents=True)
    shutil.copy(home / "keys" / "root.json", vault)
    (home / "keys" / "root.pem").rename(vault / "root.pem")
    draft = home / "keys" / "next.root.json"
    out = said("keys", "rotate", "timestamp")
    assert "nothing is replaced yet" in out
    assert f"1. take {draft} there" in out.replace("\n", " ")
    assert "2. there: redistill keys sign next.root.json" in out
    carried = shutil.copy(draft, tmp_path / "next.root.json")

    monkeypatch.setenv("REDISTILL_HOME", str(vault.parent))
    out = said("keys", "sign", str(carried))
    assert "signed: version 2 gives another key to timestamp" in out
    assert "run `redistill keys rotate timestamp` there" in out

    monkeypatch.setenv("REDISTILL_HOME", str(home))
    with pytest.raises(KeysError, match="no root key is in"):
        said("keys", "sign", str(draft))
    shutil.copy(carried, draft)
    assert "timestamp has another key" in said("keys", "rotate", "timestamp")
    assert "there is none to take back" in said("keys", "rotate", "timestamp", "--abandon")


def test_wrong_roles_and_numbers_are_named(home: Path) -> None:
    with pytest.raises(UsageError, match="there is no role 'm-credit': root, targets"):
        said("keys", "rotate", "m-credit")
    with pytest.raises(UsageError, match="3 of 2 root keys"):
        said("keys", "rotate", "root", "--root-keys", "2", "--threshold", "3")


def test_restore_is_accepted_with_a_reason_and_stands_in_the_audit(home: Path) -> None:
    with pytest.raises(UsageError, match="say why"):
        said("keys", "accept-restore", "--reason", " ")
    with pytest.raises(KeysError, match="no audit key counts"):
        said("keys", "accept-restore", "--reason", "a backup")
    database = opening.open(Settings.load({"home": home}))
    out = said("keys", "accept-restore", "--new-audit-key", "--reason", "the disk died")
    assert "the audit chain with 0 entries counts (signed was: none)" in out
    assert "0 versions of 0 models count as they are" in out
    assert "the disk died" not in out
    with database.read() as conn:
        (entry,) = audit.after(conn, 1)
    database.dispose()
    assert (entry.action, entry.actor[:4]) == ("audit.restore_accepted", "cli:")
    assert '"reason":"the disk died"' in entry.body
    assert (home / "keys" / "audit.key").stat().st_mode & 0o777 == 0o600
