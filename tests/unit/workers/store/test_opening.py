from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from redistill.streams.store.database import Database
from redistill.workers.errors import DatabaseError
from redistill.workers.settings.settings import Settings
from redistill.workers.store import opening
from redistill.workers.store.tables import metadata


def settings_of(url: str, home: Path) -> Settings:
    return Settings.load({"database": url, "home": home})


Open = Callable[[Settings], Database]


@pytest.fixture
def open_() -> Iterator[Open]:
    """``engine.open`` that closes what it opened at the test's end."""
    opened: list[Database] = []

    def call(settings: Settings) -> Database:
        opened.append(opening.open(settings))
        return opened[-1]

    yield call
    for database in opened:
        database.dispose()


def test_migrations_make_exactly_the_metadata(
    database_url: str, tmp_path: Path, open_: Open
) -> None:
    settings = settings_of(database_url, tmp_path)
    assert opening.upgrade(settings) == opening.Upgraded(None, opening.HEAD)
    database = open_(settings)
    with database.read() as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_migrated_sqlite_has_the_same_statements_as_the_metadata(
    tmp_path: Path, open_: Open
) -> None:
    migrated = open_(settings_of(f"sqlite:///{tmp_path / 'a.db'}", tmp_path))
    made = sa.create_engine(f"sqlite:///{tmp_path / 'b.db'}")
    metadata.create_all(made)
    query = sa.text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")

    def statements(conn: sa.Connection) -> dict[str, set[str]]:
        return {
            # a table that was made anew has its name in quotes
            # and SQLite puts a column that was added on the line of the last one
            name: {
                part.strip().rstrip(",").replace('"', "")
                for line in sql.splitlines()
                for part in line.strip().split(", ")
            }
            for name, sql in conn.execute(query)
            if name != "alembic_version"
        }

    with migrated.read() as left, made.connect() as right:
        assert statements(left) == statements(right)
    made.dispose()


def test_revisions_are_those_of_the_scripts() -> None:
    config = Config()
    folder = Path(opening.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    script = ScriptDirectory.from_config(config)
    newest_first = [s.revision for s in script.walk_revisions()]
    assert tuple(reversed(newest_first)) == opening.REVISIONS


def test_upgrade_changes_nothing_the_second_time(database_url: str, tmp_path: Path) -> None:
    settings = settings_of(database_url, tmp_path)
    opening.upgrade(settings)
    assert not opening.upgrade(settings).changed


def test_concurrent_upgrades_all_succeed_and_one_does_it(
    database_url: str, tmp_path: Path, open_: Open
) -> None:
    environment = {**os.environ, "REDISTILL_DATABASE": database_url}
    commands = [
        subprocess.Popen(
            [sys.executable, "-m", "redistill", "db", "upgrade"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    said = sorted(command.communicate(timeout=60)[0].strip() for command in commands)
    assert (
        said
        == [f"created, revision {opening.HEAD}"] + [f"revision {opening.HEAD}: nothing to do"] * 2
    )
    open_(settings_of(database_url, tmp_path))


def test_open_makes_a_sqlite_file_that_is_not_there(tmp_path: Path, open_: Open) -> None:
    settings = Settings.load({"home": tmp_path / "new" / "home"})
    database = open_(settings)
    assert (tmp_path / "new" / "home" / "redistill.db").exists()
    with database.read() as conn:
        assert opening.revision(conn) == opening.HEAD


def test_a_missing_file_is_told_and_not_made(tmp_path: Path, open_: Open) -> None:
    settings = Settings.load({"home": tmp_path / "new"})
    assert opening.missing(settings) == tmp_path / "new" / "redistill.db"
    assert not (tmp_path / "new").exists()
    open_(settings)
    assert opening.missing(settings) is None
    server = Settings.load({"home": tmp_path, "database": "postgresql://nobody@127.0.0.1:1/x"})
    assert opening.missing(server) is None


def test_open_refuses_an_empty_postgres(postgres_url: str, tmp_path: Path, open_: Open) -> None:
    with pytest.raises(DatabaseError, match="redistill db upgrade"):
        open_(settings_of(postgres_url, tmp_path))


@pytest.mark.parametrize(
    ("stored", "expected"), [("9999", "newer than this program"), ("0001", f"needs {opening.HEAD}")]
)
def test_open_refuses_another_revision(
    database_url: str, tmp_path: Path, stored: str, expected: str, open_: Open
) -> None:
    settings = settings_of(database_url, tmp_path)
    opening.upgrade(settings)
    database = open_(settings)
    with database.begin() as conn:
        conn.execute(sa.text("UPDATE alembic_version SET version_num = :v"), {"v": stored})
    with pytest.raises(DatabaseError, match=expected):
        open_(settings)


def test_upgrade_refuses_a_newer_database(database_url: str, tmp_path: Path, open_: Open) -> None:
    settings = settings_of(database_url, tmp_path)
    opening.upgrade(settings)
    with open_(settings).begin() as conn:
        conn.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseError, match="newer than this program"):
        opening.upgrade(settings)


def test_open_refuses_tables_without_a_revision(tmp_path: Path, open_: Open) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    made = sa.create_engine(url)
    metadata.create_all(made)
    made.dispose()
    with pytest.raises(DatabaseError, match="no revision"):
        open_(settings_of(url, tmp_path))


def test_open_says_that_a_file_is_no_database(tmp_path: Path, open_: Open) -> None:
    (tmp_path / "x.db").write_bytes(b"this is not a database" * 100)
    with pytest.raises(DatabaseError, match="not an intact SQLite database"):
        open_(settings_of(f"sqlite:///{tmp_path / 'x.db'}", tmp_path))


def test_open_says_that_postgres_is_away_and_hides_the_password(
    tmp_path: Path, open_: Open
) -> None:
    settings = settings_of("postgresql://me:secret@127.0.0.1:1/none", tmp_path)
    with pytest.raises(DatabaseError, match="cannot be reached") as caught:
        open_(settings)
    assert caught.value.retriable
    assert "secret" not in str(caught.value)
