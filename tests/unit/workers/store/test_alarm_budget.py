"""Thresholds follow the fleet's traffic: slowly, and only once a week of it is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import loop
import pytest
import sqlalchemy as sa
from loop import NOW

from redistill.streams.monitor.config import WatchConfig
from redistill.streams.store.database import Database
from redistill.streams.store.tables import specs
from redistill.workers.store import alarm_budget, queries


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = loop.opened(f"sqlite:///{tmp_path / 'budget.db'}")
    with opened.begin() as conn:
        loop.register(conn, loop.spec())
        loop.register(conn, loop.spec("fraud"))
    yield opened
    opened.dispose()


def stored(database: Database) -> dict[str, tuple[float, int, int]]:
    """Rows per alarm, revision and time of change, by model."""
    with database.read() as conn:
        return {
            row.model: (
                WatchConfig.from_json(row.watch).rows_per_alarm,
                row.revision,
                row.updated_at,
            )
            for row in conn.execute(sa.select(specs))
        }


def wanted(monkeypatch: pytest.MonkeyPatch, **rows: float | None) -> None:
    """Let the traffic of each model be worth so many rows per alarm."""
    monkeypatch.setattr(queries, "rows_per_alarm", lambda conn, model, **_: rows[model])


def refresh(database: Database) -> list[str]:
    return alarm_budget.refresh(database, alarms_per_week=1.0, now=NOW)


def test_budget_of_unknown_traffic_stays(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stored(database)
    wanted(monkeypatch, credit=None, fraud=None)
    assert refresh(database) == []
    assert stored(database) == before


@pytest.mark.parametrize(
    ("factor", "changed"), [(1.9, False), (2.1, True), (0.51, False), (0.49, True)]
)
def test_budget_changes_when_it_is_off_by_a_factor_of_two(
    database: Database, monkeypatch: pytest.MonkeyPatch, factor: float, changed: bool
) -> None:
    before = stored(database)["credit"]
    wanted(monkeypatch, credit=before[0] * factor, fraud=None)
    assert refresh(database) == (["credit"] if changed else [])
    after = stored(database)["credit"]
    assert after == ((before[0] * factor, before[1] + 1, NOW) if changed else before)


def test_nothing_else_of_the_configuration_changes(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def config() -> WatchConfig:
        with database.read() as conn:
            text = conn.execute(
                sa.select(specs.c.watch).where(specs.c.model == "credit")
            ).scalar_one()
        return WatchConfig.from_json(text)

    before = config()
    wanted(monkeypatch, credit=7e6, fraud=None)
    refresh(database)
    assert config() == replace(before, rows_per_alarm=7e6)


def test_each_model_changes_alone(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    before = stored(database)["credit"]
    wanted(monkeypatch, credit=before[0], fraud=before[0] * 3)
    assert refresh(database) == ["fraud"]
    assert stored(database)["credit"] == before


def test_budget_of_the_fleet_is_the_mean_of_its_rates(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted(monkeypatch, credit=1e4, fraud=3e4)
    refresh(database)
    with database.read() as conn:
        assert alarm_budget.of_fleet(conn) == pytest.approx(1.5e4)


def test_fleet_without_a_model_has_no_budget(tmp_path: Path) -> None:
    database = loop.opened(f"sqlite:///{tmp_path / 'empty.db'}")
    with database.read() as conn:
        assert alarm_budget.of_fleet(conn) is None
    database.dispose()
