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
from redistill.workers.store.audit import Entry
from redistill.workers.store.audit_chain import ACCEPTED, TAKEN_IN, AuditChain
from redistill.workers.store.audit_key import AuditKey

__all__ = ["AuditBook"]


class AuditBook(AuditChain):
    """What the chain says, as far as it is believed.

    Attributes
    ----------
    trails
        By model.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trails: defaultdict[str, Trail] = defaultdict(Trail)

    @property
    def accepted(self) -> dict[str, Anchor | None]:
        """Anchors that a person gave up, by the hash of the entry that says so."""
        given_up = [e for e in self.vouchers if e.action == ACCEPTED]
        return {e.sha256: Anchor.of(json.loads(e.body).get("anchor")) for e in given_up}

    @property
    def taken_in(self) -> list[int]:
        """Numbers of entries by which older ones were taken in."""
        return [e.seq for e in self.vouchers if e.action == TAKEN_IN]

    def holds(self, conn: sa.Connection, anchor: Anchor) -> bool:
        """Whether the chain had this head when it was this long."""
        return audit.hash_of(conn, anchor.length) == anchor.head

    def was_given_up(self, conn: sa.Connection, key: AuditKey) -> bool:
        """Whether a person has let another chain count since this one was read."""
        known = self.accepted
        return any(
            e.is_authentic(key) and e.sha256 not in known
            for e in audit.by_action(conn, (ACCEPTED,), after=0)
        )

    def believe(self, entry: Entry) -> None:
        """Add what it says to the trail of its subject."""
        self.trails[entry.subject].take(entry)

    def begin_anew(self) -> None:
        """Trails begin with what was vouched for."""
        self.trails.clear()
