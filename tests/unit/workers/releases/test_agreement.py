"""Rows of the registry, pointers and signed roles that somebody changed by SQL: with the real
repository writer, nothing new is signed."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from forged_rows import (
    CHANGES,
    ENTRY,
    HOUR,
    REPORT,
    answer,
    ask,
    files,
    forge,
    make,
    refused,
    restarted,
    sql,
    tick,
    told,
)
from release_kit import Installation
from structlog.testing import capture_logs

from redistill.workers.errors import SigningRefused


@pytest.mark.parametrize("name", CHANGES)
def test_changed_row_is_refused_when_something_is_to_be_signed(
    shop: Installation, name: str
) -> None:
    statement, why = CHANGES[name]
    sql(shop, statement)
    before = files(shop)
    with capture_logs() as lines:
        tick(shop, 13 * HOUR)  # the timestamp is to be signed anew
        request_id = ask(shop)
        tick(shop)
        tick(shop)
    refused(shop, why)
    assert files(shop) == before
    assert not answer(shop, request_id).ok
    assert [x["action"] for x in lines if x["log_level"] == "error"] == ["signing_refused"], "once"
    with shop.database.read() as conn:
        assert conn.execute(sa.text("SELECT count(*) FROM pointer_history")).scalar_one() <= 3
    tick(restarted(shop))
    assert files(shop) == before, "nor by another process, which looks at everything"
    assert isinstance(shop.writer.problem, SigningRefused)


def test_expiry_that_was_put_off_is_not_signed(shop: Installation) -> None:
    sql(shop, f"UPDATE repository_roles SET expires_at = {shop.now * 2}, version = version + 1")
    before = files(shop)
    tick(shop)
    refused(shop, "too long")
    assert files(shop) == before


def test_rows_put_right_are_signed_again(shop: Installation) -> None:
    sql(shop, "UPDATE pointers SET stable = 'v2'")
    tick(shop, 13 * HOUR)
    refused(shop, "in pointers")
    sql(shop, "UPDATE pointers SET stable = 'v1'")
    tick(shop)
    assert shop.writer.problem is None
    assert told(shop) is None
    request_id = ask(shop)
    tick(shop)
    assert answer(shop, request_id).ok


@pytest.mark.parametrize("sha256", ["sha256", f"'{'e' * 64}'"])
def test_version_inserted_by_sql_is_not_published(shop: Installation, sha256: str) -> None:
    sql(shop, ENTRY.format(sha256=sha256))
    before = files(shop)
    request_id = ask(shop, "evil")
    tick(shop)
    assert "no audit entry says that it was entered" in answer(shop, request_id).message
    assert files(shop) == before
    said = told(shop)
    assert said is not None
    assert "credit evil" in said.why


def test_version_that_failed_its_gates_is_not_published_by_a_changed_row(
    shop: Installation,
) -> None:
    sql(
        shop,
        "UPDATE versions SET gate_passed = NOT gate_passed,"
        f" status = 'candidate', report = {REPORT} WHERE version = 'bad'",
    )
    before = files(shop)
    request_id = ask(shop, "bad")
    tick(shop)
    assert "gate_passed, report_sha256 changed" in answer(shop, request_id).message
    assert files(shop) == before


def test_changed_version_stops_whoever_moves_the_pointer_without_the_writer(
    shop: Installation,
) -> None:
    """A job that publishes and the post-release monitor move it in transactions of their own."""
    sql(shop, f"UPDATE versions SET report = {REPORT} WHERE version = 'v3'")
    with pytest.raises(Exception, match="report_sha256 changed"):
        shop.publish("credit", "v3")
    with shop.database.read() as conn:
        assert conn.execute(sa.text("SELECT stable FROM pointers")).scalar_one() == "v1"


def test_bytes_that_were_barred_stay_so_without_their_row(shop: Installation) -> None:
    shop.publish("credit", "v3")
    shop.rollback("credit", change="automatic_rollback")
    sql(shop, "DELETE FROM barred")
    before = files(shop)
    request_id = ask(shop, "v3")
    tick(shop)
    assert "was barred" in answer(shop, request_id).message
    assert files(shop) == before


@pytest.mark.parametrize(
    "name",
    [
        "pointer",
        "report of what serves",
        "history cut",
        "signed pointer",
        "policy hash",
        "decision",
    ],
)
def test_attacks_on_postgresql(tmp_path: Path, postgres_url: str, name: str) -> None:
    inst = make(tmp_path, postgres_url)
    statement, why = CHANGES[name]
    sql(inst, statement)
    before = files(inst)
    tick(inst, 13 * HOUR)
    refused(inst, why)
    assert files(inst) == before
    forge(inst)
    tick(inst)
    assert not answer(inst, "forged").ok
    assert files(inst) == before
    inst.database.dispose()
