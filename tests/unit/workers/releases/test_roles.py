"""Versions of the signed roles: raised with every change, in one order, never behind what was seen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import loop
import pytest
import sqlalchemy as sa
from loop import HOUR, NOW
from release_rows import TRUST, digest

from redistill.streams.client.release import FileEntry, PointerFile
from redistill.streams.store.database import Database
from redistill.workers.errors import RegistryError
from redistill.workers.releases import keys as keyring
from redistill.workers.releases import roles
from redistill.workers.releases.keys import Keys
from redistill.workers.releases.roles import Lifetimes

LIVES = Lifetimes(root=1_000, targets=100, snapshot=50, timestamp=10)
OFFLINE = cast(Keys, SimpleNamespace(root=None))
"""Keys of a worker without the root's."""


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sa.Connection]:
    """A transaction in a repository without a model."""
    database: Database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    with database.begin() as open_conn:
        roles.ensure(open_conn, TRUST, now=NOW, lifetimes=LIVES)
        yield open_conn
    database.dispose()


def point(conn: sa.Connection, model: str = "credit", *, epoch: int = 1, now: int = NOW) -> int:
    pointer = PointerFile(
        model=model,
        stable="v1",
        manifest_sha256=digest("manifest"),
        sha256=digest("model"),
        epoch=epoch,
        reason="test",
        moved_at=datetime.fromtimestamp(NOW / 1e6, UTC),
        known={},
    )
    files = [
        ("model.onnx", FileEntry(sha256=digest("model"), bytes=5)),
        ("reference_rows.parquet", FileEntry(sha256=digest("rows"), bytes=9)),
    ]
    return roles.point(conn, pointer, files, now=now, lifetimes=LIVES)


def numbers(conn: sa.Connection) -> dict[str, int]:
    return {name: role.version for name, role in roles.read_roles(conn).items()}


def test_new_repository_has_every_top_role(conn: sa.Connection) -> None:
    found = roles.read_roles(conn)
    assert numbers(conn) == {"root": 1, "snapshot": 1, "targets": 1, "timestamp": 1}
    assert found["root"].body == {"documents": [TRUST.decode()]}
    assert found["timestamp"].expires_at == NOW + 10 * HOUR
    assert found["targets"].body == {"models": []}


def test_repository_is_made_once(conn: sa.Connection) -> None:
    point(conn)
    before = roles.read_roles(conn)
    roles.ensure(conn, TRUST, now=NOW + HOUR, lifetimes=LIVES)
    assert roles.read_roles(conn) == before
    other = json.dumps({"signed": {"version": 1}, "other": "keys"}).encode()
    with pytest.raises(RegistryError, match="made with other keys"):
        roles.ensure(conn, other, now=NOW, lifetimes=LIVES)


def test_first_pointer_of_a_model_delegates_its_role(conn: sa.Connection) -> None:
    assert point(conn) == 2
    assert numbers(conn) == {
        "m-credit": 1, "root": 1, "snapshot": 2, "targets": 2, "timestamp": 2,
    }  # fmt: skip
    assert point(conn, "loans") == 3
    found = roles.read_roles(conn)
    assert found["targets"].body == {"models": ["credit", "loans"]}


def test_next_pointer_raises_the_models_own_role(conn: sa.Connection) -> None:
    point(conn)
    assert point(conn, epoch=2, now=NOW + HOUR) == 3
    assert numbers(conn) == {
        "m-credit": 2, "root": 1, "snapshot": 3, "targets": 2, "timestamp": 3,
    }  # fmt: skip
    text = roles.pointer_text(conn, "credit")
    assert text is not None
    assert json.loads(text)["epoch"] == 2
    assert roles.read_roles(conn)["m-credit"].expires_at == NOW + 101 * HOUR


def test_private_files_are_not_listed(conn: sa.Connection) -> None:
    point(conn)
    listed = roles.read_roles(conn)["m-credit"].body["files"]
    assert listed == {f"credit/{digest('model')}.onnx": [digest("model"), 5]}


def test_pointer_without_keys_is_refused(tmp_path: Path) -> None:
    database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    with pytest.raises(RegistryError, match="redistill keys init"), database.begin() as conn:
        point(conn)
    with database.read() as conn:
        assert roles.valid_until(conn) is None
        assert roles.pointer_text(conn, "credit") is None
    database.dispose()


def test_roles_are_renewed_at_half_of_their_life(conn: sa.Connection) -> None:
    point(conn)
    half = NOW + 5 * HOUR
    assert roles.renew(conn, OFFLINE, now=half, lifetimes=LIVES) == []
    assert roles.renew(conn, OFFLINE, now=half + 1_000_000, lifetimes=LIVES) == ["timestamp"]
    assert numbers(conn)["timestamp"] == 3
    assert roles.read_roles(conn)["timestamp"].expires_at == half + 10 * HOUR + 1_000_000


def test_role_that_a_clock_signed_for_too_long_is_signed_again(conn: sa.Connection) -> None:
    point(conn)
    earlier = NOW - 40 * 24 * HOUR  # the clock was ahead when it was signed
    due = {"m-credit", "snapshot", "targets", "timestamp"}
    assert set(roles.renew(conn, OFFLINE, now=earlier, lifetimes=LIVES)) == due
    assert roles.read_roles(conn)["timestamp"].expires_at == earlier + 10 * HOUR
    assert roles.renew(conn, OFFLINE, now=earlier, lifetimes=LIVES) == []


def test_what_is_renewed_is_listed_in_a_new_snapshot(conn: sa.Connection) -> None:
    point(conn)
    before = numbers(conn)
    renewed = roles.renew(conn, OFFLINE, now=NOW + 51 * HOUR, lifetimes=LIVES)
    assert set(renewed) == {"m-credit", "snapshot", "targets", "timestamp"}
    after = numbers(conn)
    assert {n for n in after if after[n] == before[n] + 1} == set(renewed)


def test_root_is_renewed_by_its_key_and_keeps_its_history(
    conn: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    def renewed(document: bytes, signer: object, *, expires: datetime) -> bytes:
        made.append((document, signer, expires))
        return b'{"signed":{"version":2}}'

    monkeypatch.setattr(roles.keyring, "renewed_root", renewed)
    now = NOW + 501 * HOUR
    with_root = cast(Keys, SimpleNamespace(root="it", roots=("the root's key",)))
    assert "root" in roles.renew(conn, with_root, now=now, lifetimes=LIVES)
    ((document, signer, expires),) = made
    assert (document, signer) == (TRUST, "the root's key")
    assert expires == datetime.fromtimestamp(now / 1e6, UTC) + timedelta(hours=1_000)
    root = roles.read_roles(conn)["root"]
    assert (root.version, len(root.body["documents"])) == (2, 2)


def test_root_without_its_key_is_left(conn: sa.Connection) -> None:
    renewed = roles.renew(conn, OFFLINE, now=NOW + 501 * HOUR, lifetimes=LIVES)
    assert "root" not in renewed
    assert numbers(conn)["root"] == 1


def test_empty_repository_has_nothing_to_renew(tmp_path: Path) -> None:
    database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    with database.begin() as conn:
        assert roles.renew(conn, OFFLINE, now=NOW, lifetimes=LIVES) == []
        assert roles.read_roles(conn) == {}
    database.dispose()


def test_clients_believe_it_until_the_first_role_expires(conn: sa.Connection) -> None:
    point(conn)
    assert roles.valid_until(conn) == NOW + 10 * HOUR


def test_restored_roles_are_lifted_above_what_was_seen(conn: sa.Connection) -> None:
    point(conn)
    seen = {"m-credit": 7, "snapshot": 2, "timestamp": 9, "root": 5, "m-gone": 3}
    assert sorted(roles.lift(conn, seen, now=NOW, lifetimes=LIVES)) == ["m-credit", "timestamp"]
    assert numbers(conn) == {
        "m-credit": 8, "root": 1, "snapshot": 3, "targets": 2, "timestamp": 10,
    }  # fmt: skip


def test_roles_that_are_not_behind_stay(conn: sa.Connection) -> None:
    before = numbers(conn)
    assert roles.lift(conn, before, now=NOW, lifetimes=LIVES) == []
    assert numbers(conn) == before


def test_versions_are_told_of_the_roles_that_were_asked_for(conn: sa.Connection) -> None:
    point(conn)
    assert roles.versions_of(conn, ("snapshot", "nobody")) == {"snapshot": 2}


@pytest.mark.parametrize(("hours", "targets"), [(24.0, 720.0), (720.0, 1_440.0)])
def test_pointers_life_decides_the_others(hours: float, targets: float) -> None:
    lives = Lifetimes.of_pointer(hours)
    assert (lives.snapshot, lives.timestamp, lives.targets) == (hours, hours, targets)
    assert lives.of("m-credit") == lives.of("targets") == timedelta(hours=targets)
    assert lives.of("root") == timedelta(days=365)


def test_trust_of_real_keys_is_read(tmp_path: Path) -> None:
    keyring.init(tmp_path / "keys", passphrase=None, now=datetime.now(UTC))
    database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    with database.begin() as conn:
        roles.ensure(conn, keyring.trust(tmp_path / "keys"), now=NOW, lifetimes=LIVES)
        assert numbers(conn)["root"] == 1
    database.dispose()
