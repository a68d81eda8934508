"""Audit book: the whole audit chain as one process has read and verified it, folded into trails.

What was read stays known: whoever changes an older entry afterwards changes nothing here, and
whoever takes the newest away is seen.
"""

from __future__ import annotations

import json
from collections import defaultdict

import sqlalchemy as sa

from redistill.workers.releases.anchor import Anchor
from redistill.workers.releases.trail import Trail
from redistill.workers.store import audit
from redistill.workers.store.audit import GENESIS, Entry
from redistill.workers.store.audit_key import AuditKey

__all__ = ["ACCEPTED", "TAKEN_IN", "AuditBook"]

TAKEN_IN = "audit.taken_in"
"""Action by which the entries and rows of an older redistill, which have no MAC, were taken in."""
ACCEPTED = "audit.restore_accepted"
"""Action by which a person let a chain count that is not the one of the anchor."""


class AuditBook:
    """What the chain says, as far as it was read.

    Attributes
    ----------
    seq, sha256
        The newest entry that was read.
    problem
        The first entry that cannot be believed and for which nobody has vouched since.
    trails
        By model.
    accepted
        Anchors that a person gave up, with the hash of the entry that says so.
    taken_in
        Numbers of entries by which older ones were taken in.
    """

    def __init__(self) -> None:
        self.seq, self.sha256 = 0, GENESIS
        self.problem: str | None = None
        self.trails: defaultdict[str, Trail] = defaultdict(Trail)
        self.accepted: dict[str, Anchor | None] = {}
        self.taken_in: list[int] = []

    def read(self, conn: sa.Connection, key: AuditKey) -> None:
        """Read on, to the newest entry."""
        for entry in audit.after(conn, self.seq + 1):
            self._take(entry, key)

    def knows(self, conn: sa.Connection) -> bool:
        """Whether the newest entry that was read is still there."""
        return self.holds(conn, Anchor(self.seq, self.sha256))

    def holds(self, conn: sa.Connection, anchor: Anchor) -> bool:
        """Whether the chain had this head when it was this long."""
        return audit.hash_of(conn, anchor.length) == anchor.head

    def _take(self, entry: Entry, key: AuditKey) -> None:
        if (fault := self._fault(entry, key)) is not None:
            self.problem = self.problem or fault
        self.seq, self.sha256 = entry.seq, entry.sha256
        if not entry.is_authentic(key):
            return
        if entry.action in (TAKEN_IN, ACCEPTED):
            body = json.loads(entry.body)
            if entry.action == TAKEN_IN:
                self.taken_in.append(entry.seq)
            else:
                self.accepted[entry.sha256] = Anchor.of(body.get("anchor"))
            if body["vouched"] and self._follows:
                self.problem = None
                self.trails.clear()
        elif self.problem is None:
            self.trails[entry.subject].take(entry)

    def _fault(self, entry: Entry, key: AuditKey) -> str | None:
        self._follows = (entry.seq, entry.previous_sha256) == (self.seq + 1, self.sha256)
        if entry.seq != self.seq + 1:
            return f"audit entry {self.seq + 1} is missing"
        if entry.previous_sha256 != self.sha256:
            return f"{entry} does not follow the one before"
        if not entry.is_whole():
            return f"{entry} was changed"
        if not entry.mac:
            return (
                f"{entry} has no MAC: an older redistill wrote it, which still runs, or somebody by"
                " SQL"
            )
        if not entry.is_authentic(key):
            return f"{entry} has a MAC that the audit key did not make"
        return None
