"""Signing guard: looks whether what is about to be signed may be, at one moment of the database.

It compares three things that one intruder cannot change together: rows, which SQL can; audit
entries, which need the audit key; and the anchor in the signed timestamp, which needs the signing
keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from redistill.streams.store import properties
from redistill.workers.errors import KeysError
from redistill.workers.releases import agreement, anchor, repository, roles
from redistill.workers.releases import keys as keyring
from redistill.workers.releases.anchor import Anchor, Stamp
from redistill.workers.releases.audit_book import AuditBook
from redistill.workers.releases.keys import Keys
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.releases.roles import Lifetimes, Role
from redistill.workers.store import audit, audit_key
from redistill.workers.store.audit_key import AuditKey
from redistill.workers.store.signing_refusal import MEND

__all__ = ["Seen", "SigningGuard"]

ACCEPT = (
    "if somebody restored a backup, `redistill keys accept-restore --reason TEXT` lets what is"
    " there count"
)
BRING_BACK = (
    "put home/repository/metadata/timestamp.json back from a backup of the home. If there is none:"
    " nothing outside SQL says any more how long the audit chain was, so look at `redistill"
    " check-history` and `redistill models`; `redistill keys accept-restore --reason TEXT` lets the"
    " audit count as it is, and signs again"
)
READ_AT_ONCE = 10_000
"""Entries of the audit between two renewals of the lease: some tenths of a second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What was seen."""

    by_name: Mapping[str, Role] = field(default_factory=dict)
    """The roles' rows: what may be signed if nothing was found."""
    head: Anchor
    """Of the audit chain."""
    stamp: Stamp
    problems: tuple[str, ...]
    """What does not agree, a sentence each; empty: sign."""
    remedy: str
    behind: bool
    """Whether clients have seen newer versions than the rows have: a backup was restored."""


class SigningGuard:
    """Keeps what it has read of the audit: each look costs what is new in it.

    Parameters
    ----------
    layout
        Where the repository lies.
    lifetimes
        Of the metadata.
    """

    def __init__(self, layout: RepositoryLayout, *, lifetimes: Lifetimes) -> None:
        self._layout = layout
        self._lifetimes = lifetimes
        self._book = AuditBook()

    def did(self, model: str, request_id: str) -> bool:
        """Whether a release request was done before, as far as was read."""
        return model in self._book.trails and request_id in self._book.trails[model].requests

    def read_ahead(self, conn: sa.Connection) -> bool:
        """Read on in the audit before a look, so that the look itself is short; whether there is
        more."""
        try:
            key = audit_key.known(conn)
        except KeysError:  # the look tells
            return False
        if key is None or not self._stands(conn, key):
            return False
        return self._book.read(conn, key, most=READ_AT_ONCE)

    def look(self, conn: sa.Connection, keys: Keys, *, now: int) -> Seen:
        """Compare rows, audit and anchor.

        Parameters
        ----------
        conn
            One moment (``Database.view``).
        keys
            That sign.
        """
        by_name = roles.read_roles(conn)
        seen_versions = repository.published_versions(self._layout)
        stamp = anchor.published(self._layout, keys.documents)
        head = Anchor(*audit.head(conn))
        problems, remedy = self._chain(conn, head), ACCEPT
        if not problems:
            problems = self._anchored(conn, stamp, by_name)
            remedy = ACCEPT if stamp.anchor is not None else BRING_BACK
        if not problems and by_name:
            remedy = MEND
            problems = _documents(by_name["root"], keys) if "root" in by_name else []
            problems += agreement.disagreements(
                conn,
                by_name,
                self._book.trails,
                seen=seen_versions,
                now=now,
                lifetimes=self._lifetimes,
            )
        behind = any(
            seen_versions.get(r.name, 0) > r.version for r in by_name.values() if r.name != "root"
        )
        return Seen(
            by_name=by_name, head=head, stamp=stamp, problems=tuple(problems), remedy=remedy,
            behind=behind,
        )  # fmt: skip

    def _chain(self, conn: sa.Connection, head: Anchor) -> list[str]:
        """Read on in the audit; what is wrong with it."""
        try:
            key = audit_key.known(conn)
        except KeysError as error:
            return [str(error)]
        if key is None:
            if audit_key.of_file(conn) is None:
                return ["this process opened the database without an audit key"]
            if head.length or audit.hash_of(conn, 1) is not None or self._book.seq:
                return [
                    "no audit key counts in this database (the row audit_key of facts): after an"
                    " upgrade of redistill run `redistill db upgrade`"
                ]
            return []
        if not self._stands(conn, key):
            return [
                f"the audit chain was cut, changed or put back: entry {self._book.seq}, which was"
                " there before, is not"
            ]
        book = self._book
        book.read(conn, key)
        if book.problem is not None:
            return [book.problem]
        if (book.seq, book.sha256) != (head.length, head.head):
            return [f"the audit chain ends at entry {book.seq}, the row audit_head says {head}"]
        return []

    def _stands(self, conn: sa.Connection, key: AuditKey) -> bool:
        """Whether what was read is still there, or a person has given it up: then all is read
        anew."""
        if self._book.knows(conn):
            return True
        if not self._book.was_given_up(conn, key):
            return False
        self._book = AuditBook()
        return True

    def _anchored(
        self, conn: sa.Connection, stamp: Stamp, by_name: Mapping[str, Role]
    ) -> list[str]:
        accepted = self._book.accepted.values()
        at = stamp.anchor
        if at is None:
            if stamp.there and not stamp.authentic:
                lost = "timestamp.json is damaged, or was signed with other keys than those here"
            elif stamp.there and roles.anchored(by_name) is not None:
                lost = (
                    "timestamp.json anchors no audit chain any more: an older redistill that still"
                    " runs has signed it; stop it"
                )
            elif not stamp.there and properties.published_snapshot(conn):
                lost = "the signed metadata are gone, and with them the anchor of the audit chain"
            else:
                return []
            return [] if None in accepted else [lost]
        if at in accepted:
            return []
        again = [seq for seq in self._book.taken_in if seq > at.length]
        if again:
            return [
                f"audit entry {again[-1]} takes in rows of an older redistill, and the"
                " repository was"
                f" signed after that was done: anchor at {at}"
            ]
        if self._book.holds(conn, at):
            return []
        return [
            f"the audit chain is not the one of the signed anchor: it had {at}, now it has"
            f" {self._book.seq} entries"
            + ("" if self._book.seq < at.length else " and another one at that place")
        ]


def _documents(root: Role, keys: Keys) -> list[str]:
    try:
        keyring.merged([text.encode() for text in root.body["documents"]], keys.documents)
    except KeysError as error:
        return [f"the row of root in repository_roles: {error}"]
    if root.expires_at != roles.root_end(root):
        return ["the row of root in repository_roles: it ends otherwise than its document"]
    return []
