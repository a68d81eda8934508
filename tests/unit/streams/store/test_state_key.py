"""State key of a database: the first worker's, and nobody else's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from stream_rows import new_database

from redistill.streams.errors import StoreUnusable
from redistill.streams.monitor.seal import fingerprint
from redistill.streams.store import properties
from redistill.streams.store.database import Database
from redistill.streams.store.state_key import STATE_KEY, any_states, claim
from redistill.streams.store.tables import accuracy_states

KEY, OTHER = b"k" * 32, b"o" * 32


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    db = new_database(database_url)
    yield db
    db.dispose()


def with_a_state(db: Database) -> None:
    with db.begin() as conn:
        conn.execute(
            sa.insert(accuracy_states).values(model="m", version="1", state=b"", last_seq=1, n=1)
        )
        assert any_states(conn)


def test_first_worker_gives_the_key_and_one_with_another_is_refused(db: Database) -> None:
    for key in (KEY, KEY):
        with db.begin() as conn:
            claim(conn, key)
    with_a_state(db)
    with db.begin() as conn:
        claim(conn, KEY)
    with pytest.raises(StoreUnusable, match="REDISTILL_STATE_KEY") as said, db.begin() as conn:
        claim(conn, OTHER)
    assert "--new-state-key" in str(said.value)
    with db.read() as conn:
        assert properties.get(conn, STATE_KEY) == fingerprint(KEY)


def test_states_that_nobody_sealed_wait_for_the_upgrade(db: Database) -> None:
    with_a_state(db)
    with pytest.raises(StoreUnusable, match="redistill db upgrade"), db.begin() as conn:
        claim(conn, KEY)
    with db.read() as conn:
        assert properties.get(conn, STATE_KEY) is None
