"""The audit chain as it is believed: where belief ends, and whose word lets it begin anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import astuple
from typing import Any

import pytest
import sqlalchemy as sa

from redistill.workers.store import audit, audit_chain
from redistill.workers.store.audit import GENESIS, Entry
from redistill.workers.store.audit_chain import ACCEPTED, TAKEN_IN, AuditChain
from redistill.workers.store.audit_key import AuditKey
from redistill.workers.store.tables import audit as table

KEY, OTHER = AuditKey(b"k" * 32), AuditKey(b"o" * 32)


@pytest.fixture
def conn() -> Iterator[sa.Connection]:
    engine = sa.create_engine("sqlite://")
    table.create(engine)
    with engine.connect() as open_conn:
        yield open_conn
    engine.dispose()


class Writer:
    """Writes entries by hand, with any key or none."""

    def __init__(self, conn: sa.Connection) -> None:
        self.conn, self.seq, self.sha256 = conn, 0, GENESIS

    def add(self, action: str = "x.y", *, key: AuditKey | None = KEY, **body: Any) -> None:
        self.seq += 1
        text = json.dumps(body)
        sha256 = audit.digest(self.sha256, self.seq, 7, "cli:ann", action, "credit", text)
        mac = "" if key is None else key.mac("audit-entry", str(self.seq), sha256)
        made = Entry(self.seq, 7, "cli:ann", action, "credit", text, self.sha256, sha256, mac)
        self.conn.execute(sa.insert(table).values(astuple(made)))
        self.sha256 = sha256


class Kept(AuditChain):
    """Keeps the numbers of what it believes."""

    def __init__(self) -> None:
        super().__init__()
        self.believed: list[int] = []

    def believe(self, entry: Entry) -> None:
        self.believed.append(entry.seq)

    def begin_anew(self) -> None:
        self.believed.clear()


def test_entry_without_a_mac_ends_belief_only_for_who_has_the_key(conn: sa.Connection) -> None:
    writer = Writer(conn)
    writer.add()
    writer.add(key=None)
    writer.add()
    chain = Kept()
    assert not chain.read(conn, KEY)
    assert "audit entry 2 (x.y of credit by cli:ann) has no MAC" in str(chain.problem)
    assert (chain.seq, chain.believed) == (1, [1])
    hashes_only = Kept()
    assert not hashes_only.read(conn, None)
    assert (hashes_only.problem, hashes_only.seq) == (None, 3)


def test_what_was_put_right_is_believed_without_reading_all_anew(conn: sa.Connection) -> None:
    writer = Writer(conn)
    for _ in range(3):
        writer.add()
    writer.add(key=OTHER)
    chain = Kept()
    chain.read(conn, KEY)
    assert "did not make" in str(chain.problem)
    assert chain.knows(conn), "a forged entry that is taken away again is no cut"
    conn.execute(sa.delete(table).where(table.c.seq == 4))
    chain.read(conn, KEY)
    assert (chain.problem, chain.believed) == (None, [1, 2, 3])


def test_parts_are_the_whole(conn: sa.Connection) -> None:
    writer = Writer(conn)
    for _ in range(5):
        writer.add()
    chain, parts = Kept(), 1
    while chain.read(conn, KEY, most=2):
        parts += 1
    assert (parts, chain.believed) == (3, [1, 2, 3, 4, 5])


@pytest.mark.parametrize("key", [KEY, None])
def test_person_vouches_for_what_came_before_if_the_key_shows_it(
    conn: sa.Connection, key: AuditKey | None
) -> None:
    writer = Writer(conn)
    writer.add()
    writer.add()
    conn.execute(sa.update(table).where(table.c.seq == 2).values(body='{"a":1}'))
    writer.add(ACCEPTED, vouched=False, anchor=None)
    writer.add(ACCEPTED, vouched=True, anchor=None, key=OTHER)  # of somebody without the key
    chain = Kept()
    chain.read(conn, KEY)
    assert "was changed" in str(chain.problem)
    assert chain.vouchers == []
    writer.add(ACCEPTED, vouched=True, anchor=None)
    writer.add()
    chain.read(conn, KEY)
    assert (chain.problem, chain.believed) == (None, [6])
    assert [e.seq for e in chain.vouchers] == [3, 5]
    fresh = Kept()
    fresh.read(conn, key)
    assert (fresh.problem is None) == (key is not None)


def test_new_key_counts_from_the_entry_on_that_says_so(conn: sa.Connection) -> None:
    writer = Writer(conn)
    writer.add(key=OTHER)
    writer.add(ACCEPTED, vouched=True, anchor=None)
    writer.add()
    chain = Kept()
    chain.read(conn, KEY)
    assert (chain.problem, chain.believed) == (None, [3])


def test_old_entries_are_taken_in_once_and_no_entry_without_a_mac_after_that(
    conn: sa.Connection,
) -> None:
    writer = Writer(conn)
    writer.add(key=None)
    writer.add(TAKEN_IN, vouched=True)
    writer.add()
    chain = Kept()
    chain.read(conn, KEY)
    assert (chain.problem, chain.believed) == (None, [3])
    writer.add(key=None)
    chain.read(conn, KEY)
    assert "an older redistill wrote it, which still runs" in str(chain.problem)


def test_word_that_follows_nothing_is_none(conn: sa.Connection) -> None:
    """An authentic entry of another chain, put at the end of this one."""
    writer = Writer(conn)
    writer.add(key=None)
    writer.sha256 = "ab" * 32
    writer.add(ACCEPTED, vouched=True, anchor=None)
    chain = Kept()
    chain.read(conn, KEY)
    assert "has no MAC" in str(chain.problem)
    assert audit_chain.AuditChain().knows(conn)
