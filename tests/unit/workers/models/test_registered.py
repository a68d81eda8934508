"""Registered models: their specifications as SQL has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import loop
import pytest
import sqlalchemy as sa

from redistill.streams.monitor.config import WatchConfig
from redistill.streams.store.tables import offsets, specs
from redistill.workers.models import registered


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sa.Connection]:
    database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    with database.begin() as open_conn:
        yield open_conn
    database.dispose()


def test_a_specification_is_read_as_it_was_registered(conn: sa.Connection) -> None:
    credit = loop.spec("credit").with_objects({"model": "aa"})
    loop.register(conn, credit, version=None)
    loop.register(conn, loop.spec("fraud", level="watch"), version=None)
    assert registered.spec_of(conn, "credit") == credit
    fraud = registered.spec_of(conn, "fraud")
    assert fraud is not None
    assert fraud.level == "watch"


def test_a_model_that_nobody_registered_has_none(conn: sa.Connection) -> None:
    assert registered.spec_of(conn, "credit") is None
    assert registered.used_objects(conn) == set()


def test_objects_of_all_registered_models_are_used(conn: sa.Connection) -> None:
    for name, objects in (
        ("credit", {"model": "aa", "teacher": "bb"}),
        ("fraud", {"model": "cc", "teacher": "bb"}),
        ("bare", {}),
    ):
        loop.register(conn, loop.spec(name).with_objects(objects), version=None)
    assert registered.used_objects(conn) == {"aa", "bb", "cc"}


def test_files_of_a_model_are_known_by_its_specification_and_its_versions(
    conn: sa.Connection,
) -> None:
    assert registered.known_files(conn, "credit") == frozenset()
    loop.register(conn, loop.spec("credit").with_objects({"model": "aa", "teacher": "bb"}))
    versions = set(conn.execute(sa.text("select sha256 from versions")).scalars())
    assert registered.known_files(conn, "credit") == {"aa", "bb"} | versions
    assert registered.known_files(conn, "fraud") == frozenset()


def test_topics_that_are_read_are_those_of_sources_that_are_bound_or_were(
    conn: sa.Connection,
) -> None:
    loop.register(conn, loop.spec("credit"), version=None)
    config = WatchConfig(
        model="credit", schema=loop.spec().schema, bound_sources=("ledger", "bank")
    )
    conn.execute(sa.update(specs).values(watch=config.to_json().decode()))
    counts = dict.fromkeys(("first_offset", "next_offset", "counted", "dead", "skipped", "rows"), 0)
    row = {"topic_id": "t", "partition": 0, "topic": "x.labels.old", "updated_at": 0}
    conn.execute(sa.insert(offsets).values(row | counts))
    assert registered.input_topics(conn, "x") == [
        "predictions", "labels", "labels.bank", "labels.ledger", "labels.old",
    ]  # fmt: skip
