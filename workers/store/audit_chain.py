"""Audit chain, read entry by entry: which entries are believed, and where belief ends.

One rule for all who ask: the repository writer before it signs (``releases.audit_book``), a person
who lets rows count (``releases.adoption``), and ``check-history``.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass

import sqlalchemy as sa

from redistill.workers.store import audit
from redistill.workers.store.audit import GENESIS, Entry
from redistill.workers.store.audit_key import AuditKey

__all__ = ["ACCEPTED", "TAKEN_IN", "AuditChain", "Verified", "verify"]

TAKEN_IN = "audit.taken_in"
"""Action by which the entries and rows of an older redistill, which have no MAC, were taken in."""
ACCEPTED = "audit.restore_accepted"
"""Action by which a person let a chain count that is not the one of the anchor."""


class AuditChain:
    """What is believed of the chain, as far as it was read: it follows without a hole, every entry
    is whole and has its MAC. A person's word (``TAKEN_IN``, ``ACCEPTED`` with ``vouched``) lets
    count what came before it.

    Attributes
    ----------
    seq, sha256
        The newest entry that is believed.
    problem
        Why the entry after it is not; ``None``: there is none.
    vouchers
        Entries by which a person let something count, oldest first.
    """

    def __init__(self) -> None:
        self.seq, self.sha256 = 0, GENESIS
        self.problem: str | None = None
        self.vouchers: list[Entry] = []

    def read(self, conn: sa.Connection, key: AuditKey | None, *, most: int | None = None) -> bool:
        """Read on, from where belief ended.

        Parameters
        ----------
        key
            Which the MACs have to fit; ``None``: it is not here. Then only hashes are looked at,
            and nobody's word counts.
        most
            Entries that are read at most.

        Returns
        -------
        bool
            Whether there may be more.
        """
        left = most
        while True:
            self.problem, count = None, 0
            with closing(audit.after(conn, self.seq + 1, most=left)) as entries:
                for entry in entries:
                    count += 1
                    self.problem = self._fault(entry, key)
                    if self.problem is not None:
                        break
                    self._take(entry)
            if self.problem is None:
                return count == left
            voucher = None if key is None else self._voucher(conn, key)
            if voucher is None:
                return False
            self._take(voucher)
            if left is not None:
                left = max(1, left - count)

    def knows(self, conn: sa.Connection) -> bool:
        """Whether the newest entry that is believed is still there."""
        return audit.hash_of(conn, self.seq) == self.sha256

    def believe(self, entry: Entry) -> None:
        """An entry that is believed, in its turn: for who wants to know what it says."""

    def begin_anew(self) -> None:
        """What was believed so far is given up: an entry follows that says what counts now."""

    def _take(self, entry: Entry) -> None:
        self.seq, self.sha256 = entry.seq, entry.sha256
        if entry.action in (TAKEN_IN, ACCEPTED):
            self.vouchers.append(entry)
            if _vouches(entry):
                self.begin_anew()
        else:
            self.believe(entry)

    def _voucher(self, conn: sa.Connection, key: AuditKey) -> Entry | None:
        """The next entry by which a person let everything before it count."""
        passed: list[Entry] = []
        for entry in audit.by_action(conn, (TAKEN_IN, ACCEPTED), after=self.seq):
            if not entry.is_authentic(key):
                continue
            if _vouches(entry) and audit.hash_of(conn, entry.seq - 1) == entry.previous_sha256:
                self.vouchers += passed
                return entry
            passed.append(entry)
        return None

    def _fault(self, entry: Entry, key: AuditKey | None) -> str | None:
        if entry.seq != self.seq + 1:
            return f"audit entry {self.seq + 1} is missing"
        if entry.previous_sha256 != self.sha256:
            return f"{entry} does not follow the one before"
        if not entry.is_whole():
            return f"{entry} was changed"
        if key is None:
            return None
        if not entry.mac:
            return (
                f"{entry} has no MAC: an older redistill wrote it, which still runs, or somebody by"
                " SQL"
            )
        if not entry.is_authentic(key):
            return f"{entry} has a MAC that the audit key did not make"
        return None


def _vouches(entry: Entry) -> bool:
    return bool(json.loads(entry.body)["vouched"])


@dataclass(frozen=True, slots=True)
class Verified:
    """What a walk along the chain found."""

    entries: int
    """That are believed."""
    head: str
    """Hash of the newest of them."""
    problem: str | None
    """Where belief ends; ``None``: the chain is whole."""


def verify(conn: sa.Connection, *, key: AuditKey | None = None) -> Verified:
    """Walk along the whole chain, with bounded memory.

    Parameters
    ----------
    key
        Without it only hashes are looked at.
    """
    chain = AuditChain()
    chain.read(conn, key)
    problem, (last, newest) = chain.problem, audit.head(conn)
    if problem is None and (chain.seq, chain.sha256) != (last, newest):
        problem = f"the chain ends at entry {chain.seq}, its head says {last}"
    return Verified(chain.seq, chain.sha256, problem)
