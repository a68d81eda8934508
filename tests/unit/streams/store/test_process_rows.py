"""Who is alive, as each process says of itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from stream_rows import new_database

from redistill.streams.store import process_rows, properties
from redistill.streams.store.database import Database
from redistill.streams.store.process_rows import LAG, Presence, ProcessRow, TopicLag
from redistill.streams.store.tables import processes

LAGS = {
    "labels": TopicLag(behind=3, oldest_at=7),
    "predictions": TopicLag(behind=0, oldest_at=None),
}


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    db = new_database(database_url)
    yield db
    db.dispose()


def seen(db: Database) -> list[ProcessRow]:
    with db.read() as conn:
        return process_rows.seen(conn)


def test_process_is_there_from_its_first_word_to_its_end_in_order(db: Database) -> None:
    one = Presence(db, "repair", "host:1")
    one.leave()
    assert seen(db) == [], "it never said anything"
    one.say("the broker")
    [first] = seen(db)
    assert (first.kind, first.ready, first.said) == ("repair", False, "the broker")
    one.say()
    [second] = seen(db)
    assert (second.ready, second.said, second.started_at) == (True, "", first.started_at)
    assert second.seen_at >= first.seen_at
    one.leave()
    assert seen(db) == []


def test_lag_is_known_while_its_worker_knows_it_and_goes_with_it(db: Database) -> None:
    stream, repair = Presence(db, "stream", "a"), Presence(db, "repair", "b")
    repair.say()

    def told() -> list[dict[str, TopicLag]]:
        with db.read() as conn:
            return process_rows.lags(conn, [row.process_id for row in process_rows.seen(conn)])

    stream.say(lag=LAGS)
    assert told() == [LAGS]
    stream.say(lag=None)
    assert told() == []
    stream.say(lag=LAGS)
    stream.leave()
    assert told() == []
    with db.read() as conn:
        assert properties.get(conn, LAG + "a") is None


def test_processes_that_are_silent_for_long_are_retired_but_the_last_of_a_kind(
    db: Database,
) -> None:
    Presence(db, "stream", "a").say(lag=LAGS)
    [row] = seen(db)
    with db.begin() as conn:
        assert process_rows.retire(conn, row.seen_at + 1) == 0, "nothing else sees"
        later = {"kind": "stream", "started_at": 0, "seen_at": row.seen_at + 1, "said": ""}
        conn.execute(sa.insert(processes).values(process_id="b", ready=True, **later))
        assert process_rows.retire(conn, row.seen_at) == 0
        assert process_rows.retire(conn, row.seen_at + 9) == 1
    assert [row.process_id for row in seen(db)] == ["b"]
    with db.read() as conn:
        assert properties.get(conn, LAG + "a") is None


def test_a_program_of_the_first_release_says_nothing_of_what_it_knows(db: Database) -> None:
    Presence(db, "stream", "new").say()
    with db.begin() as conn:
        row = {"process_id": "old", "kind": "stream", "started_at": 0, "seen_at": 0, "ready": True}
        names = ", ".join([*row, "said"])
        values = ", ".join(f":{name}" for name in [*row, "said"])
        conn.execute(
            sa.text(f"INSERT INTO processes ({names}) VALUES ({values})"), row | {"said": ""}
        )
    generations = {row.process_id: row.generation for row in seen(db)}
    assert generations == {"new": process_rows.GENERATION, "old": 1}


def test_lag_of_a_topic_is_that_of_all_its_workers() -> None:
    one = {
        "labels": process_rows.TopicLag(behind=3, oldest_at=7),
        "drift": process_rows.TopicLag(behind=0, oldest_at=None),
    }
    other = {"labels": process_rows.TopicLag(behind=4, oldest_at=5)}
    assert process_rows.lag_by_topic([one, other]) == {
        "drift": process_rows.TopicLag(behind=0, oldest_at=None),
        "labels": process_rows.TopicLag(behind=7, oldest_at=5),
    }
