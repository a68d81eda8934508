"""Figures of a model: what labels say, what drifted, who serves; and how much of it at most."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import loop
import pytest
import sqlalchemy as sa
from metric_scrapes import activate, add_outcomes, served

from redistill.streams.store.database import Database
from redistill.streams.store.tables import outcomes
from redistill.times import HOUR, SECOND
from redistill.workers.store.model_figures import (
    FEATURE_CHARACTERS,
    FEATURES_SHOWN,
    READ_AGAIN_US,
    REST,
    VERSIONS_SHOWN,
    FigureMemory,
    ModelFigures,
    figures_of,
)
from redistill.workers.store.queries import overview


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    with opened.begin() as conn:
        loop.register(conn, loop.spec())
    yield opened
    opened.dispose()


def of_credit(database: Database) -> ModelFigures:
    with database.read() as conn:
        (found,) = figures_of(conn, ["credit"], FigureMemory(), now=loop.NOW)
        return found


def test_a_model_that_nobody_asked_has_its_base_error_only(database: Database) -> None:
    figures = of_credit(database)
    assert (figures.version, figures.correct, figures.labelled) == ("v1", 0, 0)
    assert figures.base_error is not None
    assert figures.base_error.rate == 0.05
    assert (figures.label_lag_us, figures.psi, figures.instances, figures.served_at) == (None, {}, {}, {})  # fmt: skip


def test_labels_of_the_serving_version_count_and_are_those_of_the_overview(
    database: Database,
) -> None:
    with database.begin() as conn:
        add_outcomes(conn, "credit", "v1", [1, 1, 0, 1], lag=30 * SECOND)
    figures = of_credit(database)
    assert (figures.correct, figures.labelled, figures.label_lag_us) == (3, 4, 30 * SECOND)
    with database.read() as conn:
        shown = overview(conn, "credit", loop.NOW)
    assert (shown.version, shown.correct, shown.labelled, shown.label_lag_us) == (
        figures.version, figures.correct, figures.labelled, figures.label_lag_us
    )  # fmt: skip


def test_level_watch_is_judged_by_the_version_that_served_last(database: Database) -> None:
    with database.begin() as conn:
        loop.register(conn, loop.spec("seen", level="watch"), version=None)
        for version, at in (("old", loop.NOW - HOUR), ("new", loop.NOW)):
            served(conn, "seen", version, at=at)
        add_outcomes(conn, "seen", "new", [1])
        (figures,) = figures_of(conn, ["seen"], FigureMemory(), now=loop.NOW)
    assert (figures.version, figures.labelled, figures.base_error) == ("new", 1, None)


def test_features_are_those_of_open_findings_that_drifted_most(database: Database) -> None:
    columns = tuple(f"f{n}" for n in range(40))
    with database.begin() as conn:
        loop.store(conn, loop.finding(kind="input", contributors=columns))
        loop.store(conn, loop.finding(kind="input", contributors=("gone",), status="resolved", resolution="recovered"))  # fmt: skip
        loop.store(conn, loop.finding(model="stranger", kind="input", contributors=("secret",)))
    assert of_credit(database).psi == dict.fromkeys(sorted(columns)[:FEATURES_SHOWN], 1.0)


def test_names_of_features_are_told_in_short(database: Database) -> None:
    long = "x" * 10_000
    with database.begin() as conn:
        loop.store(conn, loop.finding(kind="input", contributors=(long + "1", long + "2")))
    assert of_credit(database).psi == {"x" * FEATURE_CHARACTERS: 1.0}


def test_an_instance_counts_for_what_it_activated_last(database: Database) -> None:
    with database.begin() as conn:
        for n in range(3):
            activate(conn, "credit", f"i{n}", "v1", at=loop.NOW)
        activate(conn, "credit", "i0", "v2", at=loop.NOW + SECOND)
        activate(conn, "stranger", "i0", "v9", at=loop.NOW)
    assert of_credit(database).instances == {"v1": 2, "v2": 1}


def test_activations_are_read_again_once_reading_them_has_paid_off(database: Database) -> None:
    passed = [0.0]

    def clock() -> float:
        passed[0] += 3.0  # so long does each reading take
        return passed[0]

    memory = FigureMemory(monotonic=clock)

    def instances(*models: str) -> dict[str, int]:
        with database.read() as conn:
            (found, *_) = figures_of(conn, models or ["credit"], memory, now=loop.NOW)
        return dict(found.instances)

    assert instances() == {}
    with database.begin() as conn:
        activate(conn, "credit", "i0", "v1", at=loop.NOW)
    assert instances() == {}
    passed[0] += 3.0 * REST
    assert instances() == {"v1": 1}
    with database.begin() as conn:
        activate(conn, "credit", "i1", "v1", at=loop.NOW)
        loop.register(conn, loop.spec("fraud"))
    assert instances() == {"v1": 1}
    assert instances("credit", "fraud") == {"v1": 2}


def test_versions_are_few_however_many_activate_or_serve(database: Database) -> None:
    with database.begin() as conn:
        for n in range(20):
            activate(conn, "credit", f"i{n}", f"v{n:02}", at=loop.NOW)
            served(conn, "credit", f"v{n:02}", at=loop.NOW + n)
    figures = of_credit(database)
    assert len(figures.instances) == VERSIONS_SHOWN
    assert list(figures.served_at) == ["v19", "v18", "v17"]


def test_labels_are_read_again_where_there_is_a_new_one_or_time_has_passed(
    database: Database,
) -> None:
    memory = FigureMemory()

    def labelled(now: int = loop.NOW) -> tuple[int, int]:
        with database.read() as conn:
            (figures,) = figures_of(conn, ["credit"], memory, now=now)
        return figures.correct, figures.labelled

    assert labelled() == (0, 0)
    with database.begin() as conn:
        add_outcomes(conn, "credit", "v1", [1, 1, 0])
    assert labelled() == (2, 3)
    with database.begin() as conn:  # a label is taken back
        conn.execute(sa.update(outcomes).where(outcomes.c.seq == 0).values(label=None))
    assert labelled(loop.NOW + READ_AGAIN_US - 1) == (2, 3)
    assert labelled(loop.NOW + READ_AGAIN_US) == (1, 2)
    with database.begin() as conn:
        add_outcomes(conn, "credit", "v2", [1])
        loop.point(conn, "credit", "v2")
    assert labelled(loop.NOW + READ_AGAIN_US) == (1, 1)
