"""Anchor of the audit chain: its length and head, in the signed timestamp that clients read.

The timestamp is signed anew with every release and at half of its life, and once an hour while the
chain grows: so an anchor is there whether anything is released or not. A chain that is shorter than
its anchor, or has another entry at that place, was cut or put back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Timestamp

from redistill.workers.releases.release_files import RepositoryLayout

__all__ = ["FIELD", "Anchor", "Stamp", "published"]

FIELD = "redistill_audit"
"""Of the timestamp: TUF keeps and signs fields that it does not know."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where the audit chain stood.

    Examples
    --------
    >>> Anchor.of({"length": 2, "head": "ab" * 32}) == Anchor(2, "ab" * 32)
    True
    >>> Anchor.of({"length": "2"}) is None
    True
    """

    length: int
    """Number of entries."""
    head: str
    """SHA-256 of the newest."""

    @classmethod
    def of(cls, value: Any) -> Anchor | None:
        """From JSON; ``None``: it is none."""
        if not isinstance(value, dict):
            return None
        length, head = value.get("length"), value.get("head")
        if type(length) is not int or length < 0 or not isinstance(head, str):
            return None
        return cls(length, head) if re.fullmatch("[0-9a-f]{64}", head) else None

    def to_json(self) -> dict[str, Any]:
        """As it is signed."""
        return {"length": self.length, "head": self.head}

    def __str__(self) -> str:
        return f"entry {self.length} ({self.head[:8]})"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What is known of the timestamp that clients read now."""

    there: bool
    """Whether there is a file."""
    authentic: bool = False
    """Whether one of our keys signed it."""
    anchor: Anchor | None = None


def published(layout: RepositoryLayout, roots: Sequence[bytes]) -> Stamp:
    """The timestamp in the repository, believed only if a key signed it that a root names.

    Parameters
    ----------
    roots
        Root documents, verified.
    """
    try:
        data = (layout.metadata / "timestamp.json").read_bytes()
    except OSError:
        return Stamp(there=False)
    try:
        metadata = Metadata[Timestamp].from_bytes(data)
    except (RepositoryError, ValueError):
        return Stamp(there=True)
    for root in reversed(roots):
        try:
            Metadata[Root].from_bytes(root).verify_delegate("timestamp", metadata)
        except (RepositoryError, ValueError):
            continue
        anchor = Anchor.of(metadata.signed.unrecognized_fields.get(FIELD))
        return Stamp(there=True, authentic=True, anchor=anchor)
    return Stamp(there=True)
