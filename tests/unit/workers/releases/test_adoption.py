"""What a person lets count: a restored backup, changed rows, and once what an older redistill left."""

from __future__ import annotations

from pathlib import Path

import pytest
from forged_rows import (
    HOUR,
    REPORT,
    answer,
    ask,
    cut,
    files,
    refused,
    restarted,
    serves,
    sql,
    take_in,
    tick,
    told,
    unanchored,
)
from release_kit import Installation

from redistill.workers.releases import adoption
from redistill.workers.store import audit


def test_restored_database_waits_for_a_person_and_goes_on(
    shop: Installation, tmp_path: Path
) -> None:
    file = tmp_path / "r.db"
    shop.database.checkpoint()
    backup = file.read_bytes()
    request_id = ask(shop)
    tick(shop)
    assert answer(shop, request_id).ok
    shop.writer.close()
    shop.database.checkpoint()
    file.write_bytes(backup)
    before = files(shop)
    tick(restarted(shop), 20)  # with the lease of then
    refused(shop, "is not the one of the signed anchor")
    assert files(shop) == before
    assert serves(shop) == "v3"
    shop.accept_restore()
    tick(shop)
    assert shop.writer.problem is None
    assert told(shop) is None
    assert serves(shop) == "v1"
    with shop.database.read() as conn:
        entries = [e.action for e in audit.after(conn, 1)]
    assert entries[-1] == "audit.restore_accepted"
    # the same backup once more is another restore
    shop.writer.close()
    shop.database.checkpoint()
    file.write_bytes(backup)
    tick(restarted(shop), 13 * HOUR)
    refused(shop, "is not the one of the signed anchor")


def test_accepted_restore_of_another_anchor_counts_for_that_one_only(
    shop: Installation, tmp_path: Path
) -> None:
    tick(shop)
    shop.accept_restore()  # of what is there, to no purpose
    tick(shop, 2 * HOUR)
    with shop.database.read() as conn:
        length, _ = audit.head(conn)
    shop.publish("credit", "v3")
    cut(shop, length)
    tick(restarted(shop))
    refused(shop, "is not the one of the signed anchor")


def test_person_vouches_for_rows_that_do_not_agree(shop: Installation) -> None:
    sql(shop, "DELETE FROM audit WHERE seq = 4", f"UPDATE versions SET report = {REPORT}")
    tick(restarted(shop))
    refused(shop, "entry 4 is missing")
    with pytest.raises(Exception, match="with --vouch, all rows count as they are"):
        shop.accept_restore()
    shop.accept_restore(vouch=True)
    tick(shop)
    assert shop.writer.problem is None
    tick(restarted(shop))
    assert shop.writer.problem is None
    request_id = ask(shop)
    tick(shop)
    assert answer(shop, request_id).ok
    sql(shop, f"UPDATE versions SET manifest_sha256 = '{'e' * 64}'")
    tick(shop, 400 * HOUR)
    refused(shop, "manifest changed")


def test_older_installation_is_taken_in_once_and_goes_on(older: Installation) -> None:
    before = files(older)
    tick(older)
    refused(older, "run `redistill db upgrade`")
    with pytest.raises(Exception, match="run `redistill db upgrade`"):
        ask(older)
    with older.database.read() as conn:
        assert adoption.is_due(conn)
        length, _ = audit.head(conn)
    assert files(older) == before
    done = take_in(older)
    assert (done.entries, done.models, done.versions) == (length, 1, 4)
    tick(older)
    assert older.writer.problem is None
    request_id = ask(older)
    tick(older)
    assert answer(older, request_id).ok
    tick(restarted(older), 13 * HOUR)
    assert older.writer.problem is None
    with older.database.read() as conn:
        assert not adoption.is_due(conn)
        said = [(e.action, e.actor) for e in audit.after(conn, length + 1)]
    assert said[:2] == [("audit.taken_in", "cli:ann"), ("release.adopted", "cli:ann")]


def test_nothing_is_taken_in_a_second_time(older: Installation) -> None:
    take_in(older)
    tick(older)
    sql(
        older,
        "UPDATE audit SET mac = ''",
        "DELETE FROM facts WHERE name = 'audit_key'",
        "UPDATE versions SET policy_sha256 = 'x'",
    )
    with pytest.raises(Exception, match="has been taken in before, as the signed anchor says"):
        take_in(older)
    away = older.layout.keys.rename(older.layout.home / "away")  # where no repository is
    with pytest.raises(Exception, match="the signed repository is not here"):
        take_in(older)
    away.rename(older.layout.keys)


def test_older_worker_that_still_runs_cannot_write_and_is_seen_when_it_signs(
    older: Installation,
) -> None:
    take_in(older)
    tick(older)
    with pytest.raises(Exception, match="mac"):
        sql(
            older,
            "INSERT INTO audit (seq, at, actor, action, subject, body, previous_sha256, sha256)"
            " VALUES (99, 1, 'worker:old', 'release.publish', 'credit', '{}', 'x', 'y')",
        )
    unanchored(older)
    tick(older, 13 * HOUR)
    refused(older, "an older redistill that still runs has signed it; stop it")
    before = files(older)
    tick(older)
    assert files(older) == before
    older.accept_restore()
    tick(older)
    assert older.writer.problem is None
