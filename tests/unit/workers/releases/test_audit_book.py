"""The audit as one process has read it: verified, folded into trails, and never unread."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from redistill.workers.releases.anchor import Anchor
from redistill.workers.releases.audit_book import AuditBook
from redistill.workers.store import audit
from redistill.workers.store.audit import GENESIS
from redistill.workers.store.audit_key import AuditKey
from redistill.workers.store.tables import audit as table

KEY = AuditKey(b"k" * 32)


def put(conn: sa.Connection, action: str, *, key: AuditKey | None = KEY, **body: Any) -> None:
    """Add an entry about a model, with any key or none."""
    last = conn.execute(sa.select(table).order_by(table.c.seq.desc()).limit(1)).first()
    seq, previous = (1, GENESIS) if last is None else (last.seq + 1, last.sha256)
    text = json.dumps(body)
    sha256 = audit.digest(previous, seq, 7, "cli:ann", action, "credit", text)
    mac = "" if key is None else key.mac("audit-entry", str(seq), sha256)
    row = (seq, 7, "cli:ann", action, "credit", text, previous, sha256, mac)
    conn.execute(sa.insert(table).values(row))


@pytest.fixture
def conn() -> Iterator[sa.Connection]:
    engine = sa.create_engine("sqlite://")
    table.create(engine)
    with engine.connect() as open_conn:
        yield open_conn
    engine.dispose()


MOVE = {"version": "v1", "sha256": "ab", "epoch": 1, "reason": "r", "request": "q1"}


def test_authentic_entries_become_trails(conn: sa.Connection) -> None:
    put(conn, "release.publish", **MOVE)
    book = AuditBook()
    book.read(conn, KEY)
    assert book.problem is None
    assert book.trails["credit"].moves[0].version == "v1"
    assert book.trails["credit"].requests == {"q1"}


@pytest.mark.parametrize("key", [None, AuditKey(b"another key")])
def test_trail_ends_where_belief_ends(conn: sa.Connection, key: AuditKey | None) -> None:
    put(conn, "release.publish", **MOVE)
    put(conn, "release.publish", key=key, **MOVE | {"epoch": 2})
    put(conn, "release.publish", **MOVE | {"epoch": 3})
    book = AuditBook()
    book.read(conn, KEY)
    assert "audit entry 2 (release.publish of credit by cli:ann)" in str(book.problem)
    assert [m.epoch for m in book.trails["credit"].moves] == [1]


def test_person_who_vouches_begins_trails_anew_and_gives_an_anchor_up(
    conn: sa.Connection,
) -> None:
    book = AuditBook()
    put(conn, "release.publish", **MOVE)
    put(conn, "incident.closed", key=None)
    put(conn, "audit.taken_in", vouched=False)
    anchor = {"length": 2, "head": "ab" * 32}
    book.read(conn, KEY)
    assert book.problem is not None
    put(conn, "audit.restore_accepted", anchor=anchor, vouched=True)
    book.read(conn, KEY)
    assert book.problem is None
    assert not book.trails["credit"].moves
    assert list(book.accepted.values()) == [Anchor(2, "ab" * 32)]
    assert book.taken_in == [3]
    assert not book.was_given_up(conn, KEY)
    put(conn, "audit.restore_accepted", key=None, anchor=anchor, vouched=True)
    assert not book.was_given_up(conn, KEY), "somebody without the key"
    put(conn, "audit.restore_accepted", anchor=None, vouched=True)
    assert book.was_given_up(conn, KEY)


def test_chain_has_the_head_of_an_anchor_or_not(conn: sa.Connection) -> None:
    put(conn, "x.y")
    head = audit.hash_of(conn, 1) or ""
    book = AuditBook()
    assert book.holds(conn, Anchor(1, head))
    assert not book.holds(conn, Anchor(2, head))
    assert not book.holds(conn, Anchor(1, "ab" * 32))
