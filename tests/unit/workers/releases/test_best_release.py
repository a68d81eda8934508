"""Which releases are handed to a job as the best so far: by what was measured, on which rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import loop
import pytest
import release_rows
import sqlalchemy as sa
from loop import NOW

from redistill.streams.store.database import Database
from redistill.streams.store.tables import specs
from redistill.workers.releases import best_release
from redistill.workers.store.tables import barred, versions

TODAY, BEFORE = "a" * 64, "b" * 64
"""Trusted rows that the model is registered with, and those of an earlier registration."""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    release_rows.prepared(opened)
    with opened.begin() as conn:
        text = conn.execute(sa.select(specs.c.spec)).scalar_one()
        spec = json.dumps(json.loads(text) | {"objects": {"trusted": TODAY}})
        conn.execute(sa.update(specs).values(spec=spec))
    yield opened
    opened.dispose()


def measured(
    accuracy: float, *, rows: str | None = TODAY, ranking: float | None = None
) -> dict[str, Any]:
    """What a gate report says of accuracies."""
    chosen: dict[str, Any] = {"name": "fp32", "trusted_accuracy": {"value": accuracy}}
    if ranking is not None:
        chosen["ranking_accuracy"] = {"value": ranking}
    beside = {"name": "static_int8", "trusted_accuracy": {"value": 1.0}}
    return {"chosen": "fp32", "variants": [beside, chosen], "trusted_sha256": rows}


def published(database: Database, reports: dict[str, dict[str, Any]]) -> None:
    """Publish versions one after the other; the last one serves."""
    with database.begin() as conn:
        for i, (version, report) in enumerate(reports.items()):
            kind = "baseline" if i == 0 else "repaired"
            release_rows.add(conn, version, now=NOW + i, kind=kind, report=report)
            release_rows.publish(conn, version, now=NOW + i)


def found(database: Database) -> list[str]:
    with database.read() as conn:
        return [v.version for v in best_release.contenders(conn, "credit")]


def test_one_of_todays_rows_then_those_of_others_then_the_rest(database: Database) -> None:
    reports = {
        "v0": measured(0.80, rows=None),
        "v1": measured(0.91),
        "v2": measured(0.99, rows=BEFORE),
        "v3": measured(0.95),
        "v4": measured(0.93),
        "v5": measured(0.70),
    }
    published(database, reports)
    assert found(database) == ["v3", "v2", "v0"]


def test_all_of_one_kind_are_taken_by_their_accuracy(database: Database) -> None:
    published(database, {f"v{k}": measured(0.9 - k / 100) for k in range(6)})
    assert found(database) == ["v0", "v1", "v2"]


def test_what_serves_is_no_contender_under_any_name(database: Database) -> None:
    published(database, {"v0": measured(0.9), "v1": measured(0.8)})
    assert found(database) == ["v0"]
    with database.begin() as conn:
        sha256 = conn.execute(
            sa.select(versions.c.sha256).where(versions.c.version == "v1")
        ).scalar_one()
        conn.execute(sa.update(versions).values(sha256=sha256))
    assert found(database) == []


def test_rows_that_rank_are_believed_before_those_that_judge(database: Database) -> None:
    published(
        database,
        {"v0": measured(0.99, ranking=0.8), "v1": measured(0.9, ranking=0.85), "v2": measured(0.5)},
    )
    assert found(database) == ["v1", "v0"]


@pytest.mark.parametrize("gone", ["barred", "pruned", "never published", "not measured"])
def test_what_cannot_serve_again_or_was_not_measured_is_left_out(
    database: Database, gone: str
) -> None:
    first = {} if gone == "not measured" else measured(0.9)
    published(database, {"v0": first, "v1": measured(0.8), "v2": measured(0.7)})
    with database.begin() as conn:
        if gone == "barred":
            sha256 = conn.execute(
                sa.select(versions.c.sha256).where(versions.c.version == "v0")
            ).scalar_one()
            conn.execute(sa.insert(barred).values(model="credit", sha256=sha256, reason="", at=NOW))
        elif gone == "pruned":
            conn.execute(sa.update(versions).where(versions.c.version == "v0").values(files="{}"))
        elif gone == "never published":
            release_rows.add(conn, "v3", now=NOW + 9, report=measured(1.0))
            conn.execute(sa.delete(versions).where(versions.c.version == "v0"))
    assert found(database) == ["v1"]


def test_one_that_a_person_rolled_back_is_a_contender(database: Database) -> None:
    published(database, {"v0": measured(0.9), "v1": measured(0.95)})
    with database.begin() as conn:
        release_rows.rollback(conn, now=NOW + 5)
    assert found(database) == ["v1"]


def test_model_that_is_not_registered_has_none(database: Database) -> None:
    with database.read() as conn:
        assert best_release.contenders(conn, "nobody") == []
