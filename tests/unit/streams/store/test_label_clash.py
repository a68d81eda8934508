"""Labels that bring another prediction than was logged: told, and nothing is held up by them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from stream_rows import new_database

from redistill.streams.store.counters import add_counters
from redistill.streams.store.database import Database
from redistill.streams.store.findings import store_findings
from redistill.streams.store.label_clash import clash_findings
from redistill.streams.store.label_join import Clash
from redistill.streams.store.tables import findings, outbox
from redistill.streams.wire.events import DriftFound
from redistill.times import DAY, SECOND
from redistill.workers.incidents.finding_class import incident_class_of

NOW = 1_000 * DAY
ONE = Clash(
    version="7", id="row-1", source="ledger", served_at=NOW - SECOND, logged="repay",
    brought="default",
)  # fmt: skip


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    made = new_database(f"sqlite:///{tmp_path / 'clash.db'}")
    yield made
    made.dispose()


def step(db: Database, *clashes: Clash, now: int = NOW) -> None:
    """What a join step does about them."""
    with db.begin() as conn:
        changes = clash_findings(conn, "credit", clashes, now=now)
        store_findings(conn, changes, now=now)
        add_counters(conn, {("credit", "labels_clash"): len(clashes)}, now=now)


def told(db: Database) -> list[Any]:
    with db.read() as conn:
        rows = conn.execute(sa.select(findings).order_by(findings.c.opened_at)).all()
    return [msgspec.json.decode(r.body, type=DriftFound) for r in rows]


def test_first_clash_informs_and_is_no_data_bug(db: Database) -> None:
    step(db, ONE)
    (found,) = told(db)
    assert (found.status, found.severity, found.version) == ("open", "info", "7")
    assert (found.impact.n, found.impact.harmful) == (1, None)
    assert "source ledger for id row-1: default, logged was repay" in found.reason
    assert incident_class_of(found)[0] is None


def test_they_are_told_again_when_they_doubled(db: Database) -> None:
    seen = []
    for i in range(8):
        step(db, ONE, now=NOW + i * SECOND)
        seen.append(told(db)[0].impact.n)
    assert seen == [1, 2, 2, 4, 4, 4, 4, 8]
    with db.read() as conn:
        announced = conn.execute(sa.select(outbox.c.value)).scalars().all()
    assert [json.loads(value)["revision"] for value in announced] == [0, 1, 2, 3]


def test_they_are_over_after_a_day_and_open_again_under_another_id(db: Database) -> None:
    step(db, ONE)
    step(db, now=NOW + DAY)
    assert [f.status for f in told(db)] == ["open"]
    step(db, now=NOW + DAY + SECOND)
    assert [f.status for f in told(db)] == ["resolved"]
    step(db, ONE, now=NOW + DAY + 2 * SECOND)
    assert [(f.status, f.impact.n) for f in told(db)] == [("resolved", 1), ("open", 2)]


def test_each_version_has_its_own(db: Database) -> None:
    step(db, ONE, replace(ONE, version="8", id="row-2", logged="version 8", brought="version 7"))
    assert {f.version for f in told(db)} == {"7", "8"}
    assert "version 7, logged was version 8" in next(f for f in told(db) if f.version == "8").reason
