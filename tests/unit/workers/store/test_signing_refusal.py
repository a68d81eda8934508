"""The refusal to sign, in a row that all processes read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import loop
import pytest
from loop import NOW

from redistill.streams.store.database import Database
from redistill.times import DAY
from redistill.workers.errors import KeysError
from redistill.workers.store import audit, audit_key, signing_refusal
from redistill.workers.store.signing_refusal import SigningRefusal


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    yield opened
    opened.dispose()


def test_refusal_is_kept_until_it_is_cleared(database: Database) -> None:
    told = SigningRefusal(why="w", remedy="r", since=NOW, until=NOW + 5, holder="h")
    with database.begin() as conn:
        assert signing_refusal.get(conn) is None
        signing_refusal.put(conn, told)
        assert signing_refusal.get(conn) == told
        signing_refusal.clear(conn)
        assert signing_refusal.get(conn) is None
    assert (told.lasts(NOW + 4), told.lasts(NOW + 5)) == (True, False)


def test_what_was_refused_once_hides_nothing_that_goes_on() -> None:
    once = SigningRefusal.once("w", now=NOW, holder="h", before=None)
    assert (once.since, once.until) == (NOW, NOW + DAY)
    goes_on = SigningRefusal(why="all", remedy="r", since=1, until=None, holder="g")
    assert SigningRefusal.once("w", now=NOW, holder="h", before=goes_on) == goes_on
    assert SigningRefusal.once("x", now=NOW, holder="h", before=once).why == "x"


def test_host_with_another_audit_key_does_not_start_and_all_are_told(
    database: Database, tmp_path: Path
) -> None:
    first, second = (audit_key.with_key(database, tmp_path / n / "audit.key") for n in "ab")
    with first.begin() as conn:
        audit.append(conn, "cli:ann", "x.y", "", None, NOW)
    signing_refusal.want_key(first, holder="a")
    with pytest.raises(KeysError, match="is not here"):
        signing_refusal.want_key(second, holder="b")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "audit.key").write_text("cd" * 32)
    (tmp_path / "b" / "audit.key").chmod(0o600)
    second = audit_key.with_key(database, tmp_path / "b" / "audit.key")
    with pytest.raises(KeysError, match="copy that of the machine"):
        signing_refusal.want_key(second, holder="b")
    with second.begin() as conn, pytest.raises(KeysError):
        audit.append(conn, "cli:bob", "x.y", "", None, NOW)
    with first.read() as conn:
        told, (length, _) = signing_refusal.get(conn), audit.head(conn)
    assert told is not None
    assert "the repair worker b did not start" in told.why
    assert (told.until is not None, length) == (True, 1)
    signing_refusal.want_key(first, holder="a")
    with first.read() as conn:
        assert signing_refusal.get(conn) == told, "of another host"
    (tmp_path / "b" / "audit.key").write_bytes((tmp_path / "a" / "audit.key").read_bytes())
    signing_refusal.want_key(audit_key.with_key(database, tmp_path / "b/audit.key"), holder="b")
    with first.read() as conn:
        assert signing_refusal.get(conn) is None, "it has started"
