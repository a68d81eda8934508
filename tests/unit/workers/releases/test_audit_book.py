"""The audit as one process has read it: verified, folded into trails, and never unread."""

from __future__ import annotations

import json
from typing import Any

import pytest

from redistill.workers.releases.anchor import Anchor
from redistill.workers.releases.audit_book import AuditBook
from redistill.workers.store import audit
from redistill.workers.store.audit import GENESIS, Entry
from redistill.workers.store.audit_key import AuditKey

KEY = AuditKey(b"k" * 32)


class Chain:
    """Entries of a chain that is written by hand."""

    def __init__(self) -> None:
        self.book = AuditBook()

    def add(
        self, action: str, subject: str = "", *, key: AuditKey | None = KEY, **body: Any
    ) -> None:
        self.put(entry(self.book.seq + 1, self.book.sha256, action, subject, body, key))

    def put(self, given: Entry) -> None:
        self.book._take(given, KEY)


def entry(
    seq: int, previous: str, action: str, subject: str, body: Any, key: AuditKey | None
) -> Entry:
    text = json.dumps(body)
    sha256 = audit.digest(previous, seq, 7, "cli:ann", action, subject, text)
    mac = "" if key is None else key.mac("audit-entry", str(seq), sha256)
    return Entry(seq, 7, "cli:ann", action, subject, text, previous, sha256, mac)


MOVE = {"version": "v1", "sha256": "ab", "epoch": 1, "reason": "r", "request": "q1"}


def test_authentic_entries_become_trails() -> None:
    chain = Chain()
    chain.add("release.publish", "credit", **MOVE)
    assert chain.book.problem is None
    assert chain.book.trails["credit"].moves[0].version == "v1"
    assert chain.book.trails["credit"].requests == {"q1"}


@pytest.mark.parametrize("key", [None, AuditKey(b"another key")])
def test_first_entry_that_cannot_be_believed_ends_belief(key: AuditKey | None) -> None:
    chain = Chain()
    chain.add("release.publish", "credit", **MOVE)
    chain.add("release.publish", "credit", key=key, **MOVE | {"epoch": 2})
    chain.add("release.publish", "credit", **MOVE | {"epoch": 3})
    assert "audit entry 2 (release.publish of credit by cli:ann)" in str(chain.book.problem)
    assert [m.epoch for m in chain.book.trails["credit"].moves] == [1]


def test_entries_that_do_not_follow_are_told() -> None:
    chain = Chain()
    chain.put(entry(2, GENESIS, "x.y", "", {}, KEY))
    assert chain.book.problem == "audit entry 1 is missing"
    chain = Chain()
    chain.put(entry(1, "ab" * 32, "x.y", "", {}, KEY))
    assert "does not follow the one before" in str(chain.book.problem)


def test_person_who_vouches_begins_anew_and_nobody_else_does() -> None:
    chain = Chain()
    chain.add("release.publish", "credit", **MOVE)
    chain.add("incident.closed", key=None)
    chain.add("audit.restore_accepted", anchor=None, vouched=False)
    assert chain.book.problem is not None
    chain.add("audit.restore_accepted", key=None, anchor=None, vouched=True)
    assert chain.book.problem is not None, "somebody without the key"
    chain.add("audit.restore_accepted", anchor={"length": 2, "head": "ab" * 32}, vouched=True)
    assert chain.book.problem is None
    assert not chain.book.trails["credit"].moves
    assert list(chain.book.accepted.values()) == [None, Anchor(2, "ab" * 32)]
