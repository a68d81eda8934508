"""The ledger of the fault runs sees what is lost, doubled or broken: one that sees nothing would
prove nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import ledger
import numpy as np
import pytest
import repairable
import sqlalchemy as sa
from load import Acknowledged
from topic_log import Inputs

from redistill.streams.store.database import Database, connect
from redistill.workers.store import tables as t

ROWS = [f"r{i}" for i in range(6)]
LABELS = ROWS[:2]
LETTERS = {"e1": [b"letter"], "e2": [b"release"]}


def stored(path: Path) -> Database:
    """What workers leave of six rows in two records, two labels, a dead letter and a release."""
    database = connect(f"sqlite:///{path}")
    t.metadata.create_all(database.engine)
    place = {"topic_id": "t", "first_offset": 0, "skipped": 0, "updated_at": 0, "partition": 0}
    row = {"model": "credit", "version": "7", "prediction": "repay", "served_at": 0}
    with database.begin() as conn:

        def put(table: str, *rows: dict[str, object]) -> None:
            conn.execute(sa.insert(t.metadata.tables[table]), list(rows))

        put(
            "offsets",
            place | {"topic": "x.predictions", "next_offset": 3, "counted": 2, "dead": 1, "rows": 6},
            place | {"topic": "x.labels", "next_offset": 2, "counted": 2, "dead": 0, "rows": 2,
                     "topic_id": "l"},
        )  # fmt: skip
        put(
            "input_states",
            {"model": "credit", "version": "7", "topic_id": "t", "partition": 0, "state": b"",
             "rows": 6},
        )  # fmt: skip
        put("join_rows", *(
            row | {"id_hash": i, "topic_id": "t", "partition": 0, "window": 0} for i in range(6)
        ))  # fmt: skip
        hashes, x = np.arange(6), np.zeros((6, 7), np.float32)
        put(
            "feature_rows",
            {"model": "credit", "version": "7", "first_served_at": 0, "last_served_at": 0, "rows": 6,
             "bytes": 1, "data": repairable.blob(ROWS, hashes, hashes, ["repay"] * 6, x)},
        )  # fmt: skip
        label = {"model": "credit", "source": "s", "observed_at": 0, "label": "repay"}
        put("labels", *(
            label | {"id": r, "id_hash": i, "op": "upsert", "received_at": 0, "state": "joined"}
            for i, r in enumerate(LABELS)
        ))  # fmt: skip
        put("outcomes", *(
            row | label | {"id": r, "id_hash": i, "seq": i + 1, "correct": 1, "made_at": 0}
            for i, r in enumerate(LABELS)
        ))  # fmt: skip
        moved = {"model": "credit", "reason": "", "stable": "7"}
        trigger = '{"kind":"incident"}'
        put("pointer_history", moved | {"epoch": 1, "sha256": "", "change": "publish", "at": 0,
                                        "trigger": trigger})  # fmt: skip
        put("pointers", moved | {"epoch": 1, "moved_at": 0, "announced_at": 0})
        sent = {"key": "", "headers": "{}", "value": b"", "created_at": 0, "sent_at": 1}
        put("outbox", sent | {"event_id": "e1", "topic": "dlq"},
            sent | {"event_id": "e2", "topic": "releases"})  # fmt: skip
    return database


def found() -> Inputs:
    """What stands in the topics."""
    predictions, labels = ("predictions", 0), ("labels", 0)
    return Inputs(
        predictions=Counter(ROWS), labels=Counter(LABELS),
        records=Counter({predictions: 3, labels: 2}), rows=Counter({predictions: 6, labels: 2}),
        dead=Counter({predictions: 1}), ends={predictions: 3, labels: 2},
    )  # fmt: skip


def said() -> Acknowledged:
    return Acknowledged(predictions=set(ROWS), labels=set(LABELS), unreadable=1)


def test_account_is_even_when_everything_is_there_once(tmp_path: Path) -> None:
    account = ledger.compare(stored(tmp_path / "x.db"), found(), said(), LETTERS)
    assert (account.lost, account.doubled, account.broken, account.reasons) == (0, 0, [], [])
    assert account.acknowledged == 8


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ("UPDATE offsets SET rows = rows - 1 WHERE topic_id = 't'", "lost"),
        ("UPDATE offsets SET rows = rows + 1 WHERE topic_id = 't'", "doubled"),
        ("UPDATE offsets SET dead = 0, counted = 3 WHERE topic_id = 't'", "lost"),
        ("UPDATE offsets SET next_offset = 2, fence = 2 WHERE topic_id = 't'", "broken"),
        ("DELETE FROM offsets WHERE topic_id = 'l'", "lost"),
        ("UPDATE input_states SET rows = rows + 2", "doubled"),
        ("DELETE FROM join_rows WHERE id_hash = 3", "lost"),
        ("INSERT INTO feature_rows (model, version, first_served_at, last_served_at, rows, bytes,"
         " data) SELECT model, version, 0, 0, rows, bytes, data FROM feature_rows", "doubled"),
        ("DELETE FROM feature_rows", "lost"),
        ("DELETE FROM labels WHERE id = 'r1'", "lost"),
        ("UPDATE labels SET state = 'waiting' WHERE id = 'r1'", "lost"),
        ("DELETE FROM outcomes WHERE id = 'r0'", "lost"),
        ("UPDATE outcomes SET id = 'r0'", "doubled"),
        ("INSERT INTO pointer_history SELECT model, 2, stable, sha256, change, reason, \"trigger\","
         " at FROM pointer_history", "doubled"),
        ("UPDATE pointer_history SET epoch = 2", "broken"),
        ("UPDATE pointers SET stable = '6'", "broken"),
        ("UPDATE outbox SET sent_at = NULL WHERE event_id = 'e2'", "lost"),
        ("UPDATE outbox SET event_id = 'e3' WHERE event_id = 'e2'", "broken"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_sql_is_seen(change: str, kind: str, tmp_path: Path) -> None:
    database = stored(tmp_path / "x.db")
    with database.begin() as conn:
        conn.execute(sa.text(change))
    account = ledger.compare(database, found(), said(), LETTERS)
    assert getattr(account, kind), account


def test_what_was_acknowledged_and_stands_in_no_topic_is_lost(tmp_path: Path) -> None:
    more = said()
    more.predictions.add("r99")
    account = ledger.compare(stored(tmp_path / "x.db"), found(), more, LETTERS)
    assert account.lost == 1


def test_row_that_nobody_sent_is_broken_unless_its_answer_was_lost(tmp_path: Path) -> None:
    less = said()
    less.predictions.discard("r5")
    database = stored(tmp_path / "x.db")
    assert ledger.compare(database, found(), less, LETTERS).broken
    less.maybe.add("r5")
    assert not ledger.compare(database, found(), less, LETTERS).broken


def test_announcement_may_come_twice_and_must_say_the_same(tmp_path: Path) -> None:
    database = stored(tmp_path / "x.db")
    again = LETTERS | {"e2": [b"release", b"release"]}
    assert not ledger.compare(database, found(), said(), again).broken
    other = LETTERS | {"e2": [b"release", b"another"]}
    assert ledger.compare(database, found(), said(), other).broken
