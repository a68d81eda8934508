from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from redistill.streams.store.database import connect
from redistill.workers.settings.settings import Settings
from redistill.workers.store import opening
from redistill.workers.store.tables import metadata

FIRST_RELEASE = "0002"
"""Revision of redistill 0.1."""


NEW = {
    "offsets": {"tries": 0},
    "leases": {"renewed_at": 0},
    "labels": {"bound": False},
    "audit": {"mac": ""},
    "intents": {"mac": ""},
}
"""What old rows are given in new columns, where it is not NULL."""


CHANGED: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "offsets": lambda row: {"fence": row["next_offset"]},
    "leases": lambda row: {"holder": "", "token": row["token"] + 1, "expires_at": 0},
}
"""What depends on what old rows have."""


def migrate(conn: sa.Connection, revision: str) -> None:
    config = Config()
    folder = Path(opening.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    config.attributes["connection"] = conn
    command.upgrade(config, revision)


def value_of(column: sa.Column[Any], i: int) -> Any:
    """Something for row ``i``; the same in every table, so that foreign keys lead somewhere."""
    match column.type:
        case sa.Boolean():
            return bool(i % 2)
        case sa.Integer():  # 64 bits, where the column has them
            return i if column.name in SMALL else i + 2**40
        case sa.Float():
            return i + 0.5
        case sa.LargeBinary():
            return bytes([i, 0, 255])
    return f"{column.name}-{i}"


SMALL = {"number", "attempt", "partition", "rows", "bytes", "tries", "gate_rows", "revision",
         "open_mark", "live_mark", "exponent", "join_exponent", "feature_exponent", "correct",
         "intake_revision"}  # fmt: skip
"""Columns of 32 bits, and some of 64."""


def fill(conn: sa.Connection) -> None:
    """Three rows in every table that the database has."""
    found = sa.MetaData()
    found.reflect(conn)
    for table in found.sorted_tables:
        if table.name == "alembic_version":
            continue
        for i in (1, 2, 3):
            conn.execute(sa.insert(table).values({c.name: value_of(c, i) for c in table.c}))


def contents(conn: sa.Connection) -> dict[str, list[dict[str, Any]]]:
    found = sa.MetaData()
    found.reflect(conn)
    return {
        t.name: [
            dict(row)
            for row in conn.execute(sa.select(t).order_by(*t.primary_key.columns)).mappings()
        ]
        for t in found.sorted_tables
        if t.name != "alembic_version"
    }


SINCE = (
    "alert_deliveries",
    "alert_holds",
    "deletion_budgets",
    "fresh_tests",
    "label_request_rows",
    "label_request_states",
    "label_requests",
    "operational_alerts",
    "processes",
    "storm_members",
)
"""Tables that the first release did not have; an upgrade leaves them empty."""


LEDGER = {
    "feature_blocks_stored",
    "jobs_ended:state-1",
    "jobs_ended:state-2",
    "jobs_ended:state-3",
    "join_rows_stored",
    "labels_expired",
    "outbox_expired:dlq",
    "outbox_expired:drift",
    "state_rows_expired",
    "unregistered_rows_expired",
    "windows_stored",
}
"""Counters with which the sums of old rows come out even."""


def test_database_of_the_first_release_keeps_all_that_is_read(
    database_url: str, tmp_path: Path
) -> None:
    old = connect(database_url)
    with old.begin() as conn:
        migrate(conn, FIRST_RELEASE)
        fill(conn)
    with old.read() as conn:
        before = contents(conn)
    old.dispose()
    settings = Settings.load({"database": database_url, "home": tmp_path})
    assert opening.upgrade(settings) == opening.Upgraded(FIRST_RELEASE, opening.HEAD)
    database = opening.open(settings)
    with database.read() as conn:
        after = contents(conn)
    database.dispose()
    columns = {t.name: {c.name for c in t.c} for t in metadata.tables.values()}
    new = {t: after.pop(t) for t in set(after) - set(before)}
    assert new == {table: [] for table in SINCE}
    counted = [row for row in before["counters"] if row not in after["counters"]]
    assert counted == [] or all("updated_at" not in row for row in counted)
    ledger = {row["name"] for row in after["counters"]} - {r["name"] for r in before["counters"]}
    assert ledger == LEDGER
    after["counters"] = [row for row in after["counters"] if row["name"] not in ledger]
    assert after == {
        table: [
            dict.fromkeys(columns[table])
            | NEW.get(table, {})
            | {k: v for k, v in row.items() if k in columns[table]}
            | CHANGED.get(table, lambda row: {})(row)
            for row in rows
        ]
        for table, rows in before.items()
    }
    assert all(len(rows) == 3 for rows in after.values())


def test_upgrade_that_fails_leaves_the_database_as_it_was(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = connect(database_url)
    with old.begin() as conn:
        migrate(conn, FIRST_RELEASE)
        fill(conn)
    with old.read() as conn:
        before = contents(conn)

    run = command.upgrade

    def upgrade_and_die(config: Config, revision: str) -> None:
        run(config, revision)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "upgrade", upgrade_and_die)
    with pytest.raises(KeyboardInterrupt):
        opening.upgrade(Settings.load({"database": database_url, "home": tmp_path}))
    with old.read() as conn:
        assert opening.revision(conn) == FIRST_RELEASE
        assert contents(conn) == before
    old.dispose()


INSERTED = (
    "INSERT INTO offsets (topic_id, partition, topic, first_offset, next_offset, counted, dead, skipped, rows,"
    " updated_at) VALUES ('t', 1, 'predictions', 0, 9, 9, 0, 0, 9, 1) ON CONFLICT DO NOTHING"
)
MOVED = (
    "UPDATE offsets SET next_offset = 9, counted = counted + 4, dead = dead + 0, skipped = skipped + 0,"
    " rows = rows + 4, updated_at = 2 WHERE topic_id = 't' AND partition = 0 AND next_offset = 5"
)
LEASED = "INSERT INTO leases (name, holder, token, expires_at) VALUES ('{}', '', 0, 0) ON CONFLICT DO NOTHING"
RENEWED = (
    "UPDATE leases SET expires_at = 99 WHERE name = 'scheduler' AND token = 4 AND holder <> ''"
)


def test_workers_of_the_first_release_that_still_run_store_nothing_more(
    database_url: str, tmp_path: Path
) -> None:
    """Their statements, as 0.1.0 sends them; what they stored would be in no sum for ever."""
    settings = Settings.load({"database": database_url, "home": tmp_path})
    old = connect(database_url)
    with old.begin() as conn:
        migrate(conn, FIRST_RELEASE)
        conn.execute(
            sa.text(
                INSERTED.replace("1, 'pred", "0, 'pred").replace("9, 9, 0, 0, 9", "5, 5, 0, 0, 5")
            )
        )
        conn.execute(sa.text("INSERT INTO leases VALUES ('scheduler', 'old', 4, 90)"))
    opening.upgrade(settings)
    for refused in (INSERTED, MOVED, LEASED.format("scheduler"), LEASED.format("job:1")):
        with pytest.raises(sa.exc.IntegrityError), old.begin() as conn:
            conn.execute(sa.text(refused))
    with old.begin() as conn:
        assert conn.execute(sa.text(RENEWED)).rowcount == 0, "nobody holds a lease after an upgrade"
        assert conn.execute(sa.text("SELECT next_offset FROM offsets")).scalars().all() == [5]
    old.dispose()
