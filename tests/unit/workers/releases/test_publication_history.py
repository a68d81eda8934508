"""Where a roll back goes: down the stack of what served, past what cannot serve any more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import loop
import pytest
import release_rows
import sqlalchemy as sa
from loop import NOW

from redistill.streams.store.database import Database
from redistill.workers.releases import publication_history, registry
from redistill.workers.store.tables import versions

PUBLISH, BACK, AUTOMATIC = "publish", "rollback", "automatic_rollback"


@pytest.mark.parametrize(
    ("moves", "stack"),
    [
        ([], []),
        ([("a", PUBLISH)], ["a"]),
        ([("a", PUBLISH), ("b", PUBLISH), ("c", PUBLISH)], ["a", "b", "c"]),
        ([("a", PUBLISH), ("b", PUBLISH), ("c", PUBLISH), ("b", BACK)], ["a", "b"]),
        ([("a", PUBLISH), ("b", PUBLISH), ("c", PUBLISH), ("a", AUTOMATIC)], ["a"]),
        ([("a", PUBLISH), ("b", PUBLISH), ("a", BACK), ("b", PUBLISH)], ["a", "b"]),
        # the same bytes twice: a roll back goes to the nearest time that they served
        ([("a", PUBLISH), ("b", PUBLISH), ("a", PUBLISH), ("c", PUBLISH), ("a", BACK)], ["a", "b", "a"]),
        # a version that is not below goes on top of what is left
        ([("a", PUBLISH), ("b", PUBLISH), ("x", BACK)], ["a", "x"]),
    ],
)  # fmt: skip
def test_roll_backs_only_go_down(moves: list[tuple[str, str]], stack: list[str]) -> None:
    assert publication_history.stack(moves) == stack


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """v1, v2 and v3, published one after the other; v4 is a candidate."""
    opened = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    release_rows.prepared(opened)
    with opened.begin() as conn:
        for i, version in enumerate(("v1", "v2", "v3", "v4")):
            kind = "baseline" if version == "v1" else "repaired"
            release_rows.add(conn, version, now=NOW + i, kind=kind)
            if version != "v4":
                release_rows.publish(conn, version, now=NOW + i)
    yield opened
    opened.dispose()


def test_moves_are_in_the_order_of_the_epochs(database: Database) -> None:
    with database.begin() as conn:
        release_rows.rollback(conn)
        assert publication_history.moves(conn, "credit") == [
            ("v1", PUBLISH), ("v2", PUBLISH), ("v3", PUBLISH), ("v2", BACK),
        ]  # fmt: skip
        assert publication_history.published(conn, "credit") == {"v1", "v2", "v3"}
        assert publication_history.moves(conn, "other") == []


def test_predecessor_is_the_version_below(database: Database) -> None:
    with database.read() as conn:
        assert publication_history.predecessor(conn, "credit") == "v2"
        assert publication_history.predecessor(conn, "other") is None


def test_predecessor_that_is_barred_or_gone_is_passed_over(database: Database) -> None:
    with database.begin() as conn:
        registry.bar(conn, "credit", registry.get(conn, "credit", "v2").sha256, reason="x", now=1)
        assert publication_history.predecessor(conn, "credit") == "v1"
        conn.execute(sa.update(versions).where(versions.c.version == "v1").values(files="{}"))
        assert publication_history.predecessor(conn, "credit") is None


def test_version_that_served_twice_is_not_its_own_predecessor(database: Database) -> None:
    with database.begin() as conn:
        release_rows.rollback(conn)
        release_rows.publish(conn, "v3")
        release_rows.publish(conn, "v2")
        assert publication_history.predecessor(conn, "credit") == "v3"
        release_rows.publish(conn, "v3")
        conn.execute(sa.update(versions).where(versions.c.version == "v2").values(files="{}"))
        assert publication_history.predecessor(conn, "credit") == "v1"


def test_servable_is_what_served_and_can_serve_again(database: Database) -> None:
    with database.begin() as conn:
        found = publication_history.servable(conn, "credit")
        assert [v.version for v in found] == ["v1", "v2", "v3"]
        v1 = registry.get(conn, "credit", "v1")
        assert (found[0].sha256, found[0].manifest_sha256) == (v1.sha256, v1.manifest_sha256)
        assert found[0].files == v1.files
        registry.bar(conn, "credit", v1.sha256, reason="x", now=1)
        conn.execute(sa.update(versions).where(versions.c.version == "v2").values(files="{}"))
        assert [v.version for v in publication_history.servable(conn, "credit")] == ["v3"]
