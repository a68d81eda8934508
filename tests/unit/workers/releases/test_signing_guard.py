"""An audit chain that was cut, changed, forged or put back, and keys that are gone: nothing is signed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import sqlalchemy as sa
from forged_rows import (
    ENTRY,
    HOUR,
    LIVES,
    answer,
    ask,
    cut,
    files,
    refused,
    restarted,
    sql,
    tick,
)
from release_kit import Installation, copy_of, install

from redistill.streams.store import lease, properties
from redistill.workers.errors import SigningRefused
from redistill.workers.releases import repository_writer, signing_guard
from redistill.workers.releases.repository import LEASE
from redistill.workers.releases.signing_guard import SigningGuard
from redistill.workers.store import audit, audit_chain, audit_key


def test_audit_tail_cut_with_its_head_is_refused(shop: Installation) -> None:
    with shop.database.read() as conn:
        length, _ = audit.head(conn)
    cut(shop, length - 1)
    sql(
        shop,
        "DELETE FROM pointer_history WHERE epoch = 3",
        "UPDATE pointers SET epoch = 2, stable = 'v2',"
        " moved_at = (SELECT at FROM pointer_history WHERE epoch = 2)",
    )
    before = files(shop)
    tick(shop, 13 * HOUR)
    refused(shop, "the audit chain was cut, changed or put back")
    tick(restarted(shop))
    refused(shop, f"the audit chain is not the one of the signed anchor: it had entry {length}")
    assert files(shop) == before
    assert "accept-restore --reason" in str(shop.writer.problem)


def test_whole_audit_deleted_is_refused(shop: Installation) -> None:
    before = files(shop)
    sql(shop, "DELETE FROM audit", "DELETE FROM facts WHERE name LIKE 'audit%'")
    tick(shop, 13 * HOUR)
    refused(shop, "no audit key counts in this database")
    tick(restarted(shop))
    refused(shop, "is not the one of the signed anchor")
    assert files(shop) == before
    request_id = ask(shop, "v3")  # a chain begins anew under the key
    tick(shop)
    assert not answer(shop, request_id).ok
    assert files(shop) == before


def test_everything_deleted_is_refused_and_no_new_repository_begins(shop: Installation) -> None:
    before = files(shop)
    for table in ("audit", "facts", "pointers", "pointer_history", "versions", "repository_roles"):
        with shop.database.begin() as conn:
            conn.execute(sa.text(f"DELETE FROM {table}"))
    tick(restarted(shop))
    assert isinstance(shop.writer.problem, SigningRefused)
    assert files(shop) == before


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("UPDATE audit SET body = '{}' WHERE seq = 4", "was changed"),
        ("UPDATE audit SET mac = '' WHERE seq = 4", "has no MAC"),
        ("UPDATE audit SET mac = (SELECT mac FROM audit WHERE seq = 3) WHERE seq = 4", "did not make"),
        ("DELETE FROM audit WHERE seq = 4", "entry 4 is missing"),
        ("UPDATE facts SET value = '1 x' WHERE name = 'audit_head'", "the row audit_head says"),
    ],
)  # fmt: skip
def test_changed_entry_is_refused(shop: Installation, statement: str, why: str) -> None:
    sql(shop, statement)
    before = files(shop)
    tick(restarted(shop))
    refused(shop, why)
    assert files(shop) == before


def test_entry_added_without_the_key_is_refused(shop: Installation) -> None:
    """The chain's hashes are no secret: whoever can compute them still lacks the key."""
    with shop.database.read() as conn:
        length, previous = audit.head(conn)
        (vouched,) = [e for e in audit.of_subject(conn, "credit") if '"version":"v3"' in e.body]
    body = vouched.body.replace('"version":"v3"', '"version":"evil"')
    said = (length + 1, shop.now, "cli:ann", "release.candidate", "credit", body)
    sha256 = audit.digest(previous, *said)
    with shop.database.begin() as conn:
        conn.execute(
            sa.text("INSERT INTO audit VALUES (:a,:b,:c,:d,:e,:f,:p,:s,:m)"),
            dict(zip("abcdef", said, strict=True), p=previous, s=sha256, m="0" * 64),
        )
        properties.put(conn, audit.HEAD, f"{length + 1} {sha256}")
    sql(shop, ENTRY.format(sha256="sha256"))
    before = files(shop)
    request_id = ask(shop, "evil")
    tick(shop)
    refused(shop, "has a MAC that the audit key did not make")
    assert not answer(shop, request_id).ok
    assert files(shop) == before


def test_anchor_follows_a_growing_chain_within_the_hour_and_is_quiet_otherwise(
    shop: Installation,
) -> None:
    def stamp() -> tuple[int, dict[str, object]]:
        signed = json.loads((shop.layout.metadata / "timestamp.json").read_bytes())["signed"]
        return signed["version"], signed["redistill_audit"]

    version, _ = stamp()
    with shop.database.begin() as conn:
        audit.append(conn, "worker:w1", "incident.closed", "i1", None, shop.now)
        head = audit.head(conn)
    tick(shop, 1_800)
    assert stamp()[0] == version
    tick(shop, 1_801)
    assert stamp() == (version + 1, {"length": head[0], "head": head[1]})
    tick(shop, 2 * HOUR)
    assert stamp()[0] == version + 1


def test_what_a_person_did_is_anchored_within_a_minute(shop: Installation) -> None:
    tick(shop, 61)
    with shop.database.begin() as conn:
        audit.append(conn, "cli:ann", "release.unbar", "credit", {"sha256": "ab"}, shop.now)
        length, _ = audit.head(conn)
    tick(shop, 61)
    cut(shop, length - 1)
    tick(restarted(shop))
    refused(shop, f"is not the one of the signed anchor: it had entry {length}")


def test_installation_that_only_watches_is_anchored_too(tmp_path: Path) -> None:
    inst = install(tmp_path / "home", f"sqlite:///{tmp_path}/r.db", lifetimes=LIVES)
    with inst.database.begin() as conn:
        for n in range(5):
            audit.append(conn, "cli:ann", "incident.closed", f"i{n}", None, inst.now)
    tick(inst, 2 * HOUR)
    cut(inst, 3)
    tick(restarted(inst), 13 * HOUR)
    refused(inst, "is not the one of the signed anchor: it had entry 5")


def test_audit_key_that_is_gone_or_another_one_is_told(shop: Installation) -> None:
    key = shop.layout.keys / "audit.key"
    assert key.stat().st_mode & 0o777 == 0o600
    away = key.rename(shop.layout.home / "away")
    again = copy_of(
        shop, shop.layout.home.parent / "b", f"sqlite:///{shop.layout.home.parent}/b.db"
    )
    before = files(again)
    restarted(again)
    tick(again, 20)
    refused(again, "audit.key is not here")
    assert "accept-restore --new-audit-key" in str(again.writer.problem)
    with pytest.raises(Exception, match=r"audit\.key is not here"):
        ask(again)
    other = again.layout.keys / "audit.key"
    other.write_text("ab" * 32)
    os.chmod(other, 0o640)
    tick(again)
    refused(again, "chmod 600")
    other.chmod(0o600)
    tick(again)
    refused(again, "is not the one of this database")
    assert files(again) == before
    again.accept_restore(vouch=True, new_key=True)
    tick(again)
    assert again.writer.problem is None
    request_id = ask(again)
    tick(again)
    assert answer(again, request_id).ok
    with again.database.read() as conn:  # as check-history asks
        assert audit_chain.verify(conn, key=audit_key.known(conn)).problem is None
    away.rename(key)
    for text in (str(again.writer.problem), repr(audit_key.AuditKeyFile(other))):
        assert "abab" not in text


def test_writer_of_a_database_without_a_key_signs_nothing(shop: Installation) -> None:
    from redistill.streams.store.database import connect

    before = files(shop)
    shop.writer.close()
    shop.database = connect(str(shop.database.url))
    tick(restarted(shop))
    refused(shop, "without an audit key")
    assert files(shop) == before


def test_forged_entry_that_is_taken_away_again_was_no_cut(shop: Installation) -> None:
    with shop.database.read() as conn:
        length, _ = audit.head(conn)
    sql(
        shop,
        "INSERT INTO audit SELECT seq + 1, at, actor, action, subject, body, sha256, hex(seq), ''"
        f" FROM audit WHERE seq = {length}",
    )
    tick(restarted(shop), 13 * HOUR)
    assert isinstance(shop.writer.problem, SigningRefused)
    sql(shop, f"DELETE FROM audit WHERE seq = {length + 1}")
    tick(shop)
    assert shop.writer.problem is None


def test_lease_is_kept_while_a_long_audit_is_read(
    shop: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part of the audit takes longer than a third of the lease, all of it longer than the
    lease."""
    monkeypatch.setattr(signing_guard, "READ_AT_ONCE", 2)
    read, parts = SigningGuard.read_ahead, list[int]()

    def slowly(guard: SigningGuard, conn: sa.Connection) -> bool:
        shop.clock.advance(6.0)
        parts.append(1)
        return read(guard, conn)

    monkeypatch.setattr(SigningGuard, "read_ahead", slowly)
    request_id = ask(restarted(shop))
    tick(shop)
    assert len(parts) * 6.0 > repository_writer.LEASE_SECONDS
    assert shop.writer.problem is None
    assert answer(shop, request_id).ok
    with shop.database.read() as conn:
        assert lease.holder_of(conn, LEASE, shop.now) == shop.writer._holder


def test_root_that_is_said_to_last_longer_is_refused_until_it_is_put_right(
    shop: Installation,
) -> None:
    """Else nobody would renew it, and clients would refuse everything once it has ended."""
    sql(shop, "UPDATE repository_roles SET expires_at = expires_at * 2 WHERE role = 'root'")
    tick(shop, 13 * HOUR)
    refused(shop, "it ends otherwise than its document")
    sql(shop, "UPDATE repository_roles SET expires_at = expires_at / 2 WHERE role = 'root'")
    tick(shop)
    assert shop.writer.problem is None


def test_damaged_timestamp_is_refused_and_it_is_said_what_to_bring_back(
    shop: Installation,
) -> None:
    """It alone says, outside SQL, how long the audit chain was."""
    path = shop.layout.metadata / "timestamp.json"
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    tick(restarted(shop), 13 * HOUR)
    refused(shop, "timestamp.json is damaged")
    assert "timestamp.json back from a backup of the home" in str(shop.writer.problem)
    path.write_bytes(good)
    tick(shop)
    assert shop.writer.problem is None
