"""Facts of the broker: where the logs of the inputs end, and what stands in the topics in which is
announced. They are asked once, and then are plain data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from redistill.streams.wire.events import COMPACTED

__all__ = ["ANNOUNCED", "Announced", "Log", "TopicFacts", "digest"]

ANNOUNCED = ("drift", "incidents", "releases", "pointers", "label-requests", "dlq")
"""Topics that only redistill writes, named without the namespace."""


@dataclass(frozen=True, slots=True)
class Log:
    """One partition's log."""

    topic: str
    """With its namespace."""
    topic_id: str
    """A topic that was deleted and made again has another one."""
    partition: int
    begin: int
    """First offset that is still there."""
    end: int
    """Offset of the next record to be written."""
    stable: int
    """Where the oldest open transaction begins: nobody reads further until it ends."""

    def pending(self, following: int) -> int:
        """Offsets from ``following`` on that may be read."""
        return max(0, self.stable - following)

    def held(self, following: int) -> int:
        """Offsets from ``following`` on that open transactions hold up."""
        return max(0, self.end - max(self.stable, following))


@dataclass(frozen=True, slots=True)
class Announced:
    """A record in one of them."""

    topic: str
    """Without the namespace."""
    event_id: str
    digest: bytes
    """Of key, value and headers."""
    at: int
    """When it was written: microseconds since 1970, by the clock of who wrote it."""
    before: bool = True
    """It stood there before the database was read: so what it announces must be in it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicFacts:
    """What the broker holds."""

    logs: Sequence[Log] = ()
    """Of the inputs, asked after the database was read: what is counted must be in them."""
    announced: Mapping[str, Announced] = field(default_factory=dict)
    """By event id; what is written twice, as after a crash, is the same."""
    whole: frozenset[str] = frozenset()
    """Topics that go back to their first record, and were read to their end."""

    @classmethod
    def of(
        cls,
        logs: Sequence[Log],
        announced: Iterable[Announced],
        *,
        whole: Iterable[str] = ANNOUNCED,
    ) -> TopicFacts:
        """Facts of records in the order of their logs: of what was written twice the first."""
        by_id: dict[str, Announced] = {}
        for record in announced:
            by_id.setdefault(record.event_id, record)
        return cls(logs=logs, announced=by_id, whole=frozenset(whole) - COMPACTED)


def digest(
    key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]] = ()
) -> bytes:
    """Sixteen bytes for a record.

    Examples
    --------
    >>> digest(None, b"x") == digest(b"", b"x") != digest(b"x", b"")
    True
    >>> digest(b"", b"", [("a", b"1"), ("b", b"2")]) == digest(b"", b"", [("b", b"2"), ("a", b"1")])
    True
    """
    parts = [key or b"", value or b""]
    for name, text in sorted((name, text or b"") for name, text in headers):
        parts += [name.encode(), text]
    made = hashlib.sha256()
    for part in parts:
        made.update(len(part).to_bytes(4, "big") + part)
    return made.digest()[:16]
