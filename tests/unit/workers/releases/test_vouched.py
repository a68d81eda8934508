"""Rows that the audit vouches for, asked before anything follows from them."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from forged_rows import make, sql
from release_kit import Installation

from redistill.streams.store.database import connect
from redistill.streams.store.tables import specs
from redistill.times import DAY
from redistill.workers.errors import Disagreement
from redistill.workers.releases import trail
from redistill.workers.releases.vouched import want_vouched
from redistill.workers.store import audit, future_times, signing_refusal
from redistill.workers.store.tables import pointer_history


@pytest.fixture
def shop(tmp_path: Path) -> Installation:
    return make(tmp_path, f"sqlite:///{tmp_path / 'redistill.db'}")


def want(inst: Installation) -> None:
    """As a job asks, of what it has read."""
    with inst.database.read() as conn:
        spec = conn.execute(sa.select(specs.c.spec)).scalar_one()
        want_vouched(conn, "credit", named=["v1", "v2"], spec_sha256=trail.text_sha256(spec))


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("UPDATE specs SET spec = spec || ' '", "in specs: it is not what was registered"),
        (
            "UPDATE versions SET report = report || ' ' WHERE version = 'v2'",
            "report_sha256 changed",
        ),
        ("UPDATE versions SET gate_passed = 0 WHERE version = 'v1'", "gate_passed changed"),
        ("DELETE FROM versions WHERE version = 'v2'", "v2 in versions is gone"),
        ("UPDATE pointers SET epoch = 7", "in pointers: it is at epoch 7"),
        ("DELETE FROM pointers", "it is at none"),
        ("DELETE FROM facts WHERE name = 'audit_key'", "names the audit key is gone"),
        (
            "DELETE FROM audit WHERE action = 'release.adopted' OR action LIKE 'model.%'",
            "in specs: it is",
        ),
    ],
)
def test_changed_row_is_refused(shop: Installation, statement: str, why: str) -> None:
    with shop.database.begin() as conn:
        entry = trail.as_it_stands(conn, "credit")  # the kit registers by halves
        audit.append(conn, "cli:ann", trail.ADOPTED, "credit", entry, shop.now)
    want(shop)
    sql(shop, statement)
    with pytest.raises(Disagreement, match=why):
        want(shop)


def test_clock_that_was_ahead_and_was_mended_stops_no_release(shop: Installation) -> None:
    mended = shop.now - 30 * DAY
    assert future_times.bring_back(shop.database, now=mended, longest_pause=DAY)
    with shop.database.begin() as conn:
        want_vouched(conn, "credit", named=["v1"])
        at = conn.execute(sa.select(pointer_history.c.at)).scalars().all()
        assert set(at) == {mended}
        entry = trail.as_it_stands(conn, "credit")
        audit.append(conn, "cli:ann", trail.ADOPTED, "credit", entry, mended)
        want_vouched(conn, "credit", named=["v1"])
    shop.publish("credit", "v3")
    with shop.database.read() as conn:
        assert signing_refusal.get(conn) is None


def test_version_that_was_not_named_is_nobodys_business(shop: Installation) -> None:
    sql(shop, "UPDATE versions SET gate_passed = 0 WHERE version = 'v3'")
    with shop.database.read() as conn:
        want_vouched(conn, "credit", named=["v1"])


def test_database_without_an_audit_key_asks_nothing(shop: Installation) -> None:
    sql(shop, "UPDATE pointers SET epoch = 7")
    plain = connect(str(shop.database.url))
    with plain.read() as conn:
        want_vouched(conn, "credit", named=["v1"])
    plain.dispose()
