"""The audit key: read when it is needed, made once, and never taken for another one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import loop
import pytest

from redistill.streams.store import properties
from redistill.streams.store.database import Database
from redistill.workers.errors import KeysError
from redistill.workers.store import audit, audit_chain, audit_key


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Database]:
    opened = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    yield opened
    opened.dispose()


def append(database: Database) -> None:
    with database.begin() as conn:
        audit.append(conn, "cli:ann", "model.registered", "credit", None, 7)


def macs(database: Database) -> list[str]:
    with database.read() as conn:
        return [e.mac for e in audit.after(conn, 1)]


def test_key_is_made_by_the_first_who_writes_and_counts_from_then_on(
    plain: Database, tmp_path: Path
) -> None:
    path = tmp_path / "keys" / "audit.key"
    database = audit_key.with_key(plain, path)
    with database.read() as conn:
        assert audit_key.known(conn) is None
    assert not path.exists(), "who reads needs none"
    append(database)
    assert path.stat().st_mode & 0o777 == 0o600
    again = audit_key.with_key(plain, path)
    append(again)
    with again.read() as conn:
        key = audit_key.known(conn)
        assert key is not None
        assert all(e.is_authentic(key) for e in audit.after(conn, 1))
        assert audit_chain.verify(conn, key=key).problem is None
        assert properties.get(conn, audit_key.AUDIT_KEY) == key.fingerprint
        assert path.read_text() not in repr(key)


def test_database_without_a_key_writes_entries_that_nobody_obeys(plain: Database) -> None:
    append(plain)
    assert macs(plain) == [""]


def test_entries_of_an_older_redistill_are_taken_in_first(plain: Database, tmp_path: Path) -> None:
    append(plain)
    with pytest.raises(KeysError, match="run `redistill db upgrade`"):
        append(audit_key.with_key(plain, tmp_path / "audit.key"))
    assert macs(plain) == [""]


def test_missing_wrong_open_and_broken_keys_are_told(plain: Database, tmp_path: Path) -> None:
    path = tmp_path / "audit.key"
    append(audit_key.with_key(plain, path))
    good = path.read_text()

    def refused(match: str) -> None:
        with pytest.raises(KeysError, match=match) as caught:
            audit_key.check(audit_key.with_key(plain, path))
        assert good not in str(caught.value)

    path.write_text("ab" * 32)
    refused("is not the one of this database")
    path.write_text("secret words")
    refused("hexadecimal")
    path.write_text("")
    refused("0 bytes")
    path.write_text(good)
    path.chmod(0o644)
    refused("chmod 600")
    path.unlink()
    refused("is not here: bring it")
    assert not path.exists(), "another one would be taken for the forger's"
    assert len(macs(plain)) == 1
