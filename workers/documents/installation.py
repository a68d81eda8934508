"""Installation as documents: its database, and its topics."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DatabaseDocument", "TopicLine"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DatabaseDocument:
    """The database."""

    url: str
    """Without its password."""
    revision: str
    rows: dict[str, int]
    """How many each table has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicLine:
    """A topic against what redistill needs."""

    topic: str
    state: str
    """`created`, `fine`, `differs`, or `missing` (a dry run)."""
    partitions: int
    notes: list[str]
    """What differs, and what to do."""
    writers: str
    """Who may write there, and nobody else: what the broker's ACLs should say."""
    readers: str
    """Who reads it."""
