from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import loop
import pytest
import sqlalchemy as sa
from loop import NOW
from structlog.testing import capture_logs

from redistill.streams.store.tables import specs
from redistill.times import HOUR
from redistill.workers.incidents.model_context import FleetLimits, SpecUnreadable, load, load_all
from redistill.workers.settings.settings import Settings


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sa.Connection]:
    database = loop.opened(f"sqlite:///{tmp_path / 'context.db'}")
    with database.begin() as conn:
        repair = {"wait_hours": 2.0, "schedule": "0 3 * * SUN", "approval": "on_request"}
        loop.register(conn, loop.spec(**repair))
        loop.register(conn, loop.spec("abalone", level="watch"), version=None)
        yield conn
    database.dispose()


def break_spec(conn: sa.Connection, column: str) -> None:
    conn.execute(sa.update(specs).where(specs.c.model == "credit").values({column: "{}"}))


def test_limits_of_the_fleet_are_settings(tmp_path: Path) -> None:
    settings = Settings.load({"home": tmp_path, "cool_down_minutes": 1.5, "max_jobs_per_day": 7})
    assert FleetLimits.of(settings) == FleetLimits(cool_down=90_000_000, fleet_jobs_per_day=7)


def test_context_is_what_was_registered(conn: sa.Connection) -> None:
    context = load(conn, "credit")
    assert context is not None
    assert (context.model, context.level, context.approval) == ("credit", "repair", "on_request")
    assert context.has_teacher
    assert (context.max_jobs_per_day, context.wait, context.schedule) == (
        5,
        2 * HOUR,
        "0 3 * * SUN",
    )
    assert context.watch.tolerance_points == context.spec.watch.tolerance_points == 2.0
    assert context.registered_at == context.updated_at == NOW - HOUR


def test_model_without_a_teacher_says_so(conn: sa.Connection) -> None:
    context = load(conn, "abalone", lock=True)
    assert context is not None
    assert (context.has_teacher, context.level) == (False, "watch")


def test_model_that_is_not_registered_has_no_context(conn: sa.Connection) -> None:
    assert load(conn, "nobody") is None


@pytest.mark.parametrize("column", ["spec", "watch"])
def test_unreadable_specification_names_its_model(conn: sa.Connection, column: str) -> None:
    break_spec(conn, column)
    with pytest.raises(SpecUnreadable, match="specification of credit cannot be read"):
        load(conn, "credit")


def test_unreadable_model_is_told_and_left_out(conn: sa.Connection) -> None:
    assert [c.model for c in load_all(conn)] == ["abalone", "credit"]
    break_spec(conn, "spec")
    with capture_logs() as lines:
        assert [c.model for c in load_all(conn)] == ["abalone"]
    (line,) = lines
    assert line["action"] == "spec_unreadable"
    assert "credit" in line["error"]
