"""The web process says that it lives, and serves where it may not say so."""

from __future__ import annotations

from pathlib import Path

import loop
import sqlalchemy as sa
from structlog.testing import capture_logs
from waiting import PATIENCE_SECONDS, eventually

from redistill.streams.store import process_rows
from redistill.streams.store.process_rows import ProcessRow
from redistill.streams.store.tables import processes
from redistill.workers.web.presence import WebPresence


def test_row_follows_the_problems_and_goes_in_the_end(tmp_path: Path) -> None:
    database = loop.opened(f"sqlite:///{tmp_path / 'r.db'}")
    problems = ["no timestamp.json", "late"]
    presence = WebPresence(database, "web:1", lambda: problems, every=0.01)

    def seen() -> list[ProcessRow]:
        with database.read() as conn:
            return process_rows.seen(conn)

    presence.start()
    try:
        eventually(lambda: [r.said for r in seen()] == ["no timestamp.json; late"], "its problems")
        problems.clear()
        eventually(lambda: [r.ready for r in seen()] == [True], "ready")
    finally:
        presence.stop()
    presence.join(PATIENCE_SECONDS)
    assert seen() == []
    database.dispose()


def test_a_table_that_it_may_not_write_is_said_once_and_held_against_nobody(tmp_path: Path) -> None:
    database = loop.opened(f"sqlite:///{tmp_path / 'r.db'}")
    with database.begin() as conn:
        processes.drop(conn)
    asked: list[int] = []

    def problems() -> list[str]:
        asked.append(1)
        return []

    with capture_logs() as lines:
        presence = WebPresence(database, "web:1", problems, every=0.001)
        presence.start()
        eventually(lambda: len(asked) > 5, "several tries", every=0.01)
        presence.stop()
        presence.join(PATIENCE_SECONDS)
    assert [line["action"] for line in lines].count("presence_untold") == 1
    with database.read() as conn:
        assert conn.execute(sa.select(sa.literal(1))).scalar() == 1
    assert not database.availability.away
    database.dispose()
