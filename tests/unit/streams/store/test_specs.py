from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from stream_rows import CONFIG, new_database, watch
from structlog.testing import capture_logs

from redistill.streams.store import specs
from redistill.streams.store.database import Database
from redistill.streams.store.tables import profiles
from redistill.streams.store.tables import specs as table

OTHER = dataclasses.replace(CONFIG, model="fraud", level="watch")


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = new_database(f"sqlite:///{tmp_path / 'specs.db'}")
    watch(db)
    watch(db, OTHER, versions=("1", "2"))
    yield db
    db.dispose()


Watched = dict[str, specs.WatchedModel]


def load(db: Database, known: Watched | None = None) -> Watched:
    with db.read() as conn:
        return specs.load(conn, known)


def change(db: Database, model: str, **values: object) -> None:
    with db.begin() as conn:
        conn.execute(sa.update(table).where(table.c.model == model).values(**values))


def test_everything_that_is_watched_is_loaded_with_its_versions(db: Database) -> None:
    watched = load(db)
    assert watched["credit"].config == CONFIG
    assert watched["credit"].revision == 1
    (profile, base) = watched["credit"].profiles["7"]
    assert profile is None
    assert base is not None
    assert base.rate == pytest.approx(0.1)
    assert set(watched["fraud"].profiles) == {"1", "2"}


def test_version_is_known_if_registered_or_if_the_model_learns_from_traffic(db: Database) -> None:
    watched = load(db)
    assert watched["credit"].knows("7")
    assert not watched["credit"].knows("8")
    assert watched["fraud"].knows("never heard of")


def test_only_what_has_another_revision_is_loaded_again(db: Database) -> None:
    before = load(db)
    change(db, "fraud", revision=2)
    with db.read() as conn:
        assert specs.revisions(conn) == {"credit": 1, "fraud": 2}
    after = load(db, before)
    assert after["credit"] is before["credit"]
    assert after["fraud"] is not before["fraud"]
    assert after["fraud"].revision == 2


def test_model_that_was_removed_is_not_watched_any_more(db: Database) -> None:
    before = load(db)
    with db.begin() as conn:
        conn.execute(sa.delete(table).where(table.c.model == "fraud"))
    assert set(load(db, before)) == {"credit"}


@pytest.mark.parametrize("broken", ["watch", "profile"])
def test_unreadable_model_is_left_as_it_was_known_and_stops_no_other(
    db: Database, broken: str
) -> None:
    before = load(db)
    change(db, "fraud", revision=2)
    change(db, "credit", revision=2)
    with db.begin() as conn:
        if broken == "watch":
            conn.execute(sa.update(table).where(table.c.model == "fraud").values(watch="{"))
        else:
            conn.execute(
                sa.update(profiles).where(profiles.c.model == "fraud").values(profile=b"?")
            )
    with capture_logs() as lines:
        after = load(db, before)
        assert set(load(db)) == {
            "credit"
        }  # a worker that starts now counts its rows as unregistered
    assert after["fraud"] is before["fraud"]
    assert after["credit"].revision == 2
    assert {(x["action"], x["model"]) for x in lines} == {("spec_unreadable", "fraud")}
