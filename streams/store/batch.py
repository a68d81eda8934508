"""Batch of one flush: what it writes, as plain data, complete, so that it can wait, be tried again,
or be thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from redistill.streams.wire.events import DeadLetter, DriftFound

__all__ = [
    "FeatureBlob",
    "FlushBatch",
    "Flushed",
    "Gap",
    "JoinRows",
    "NameLimits",
    "OffsetsMoved",
    "Partition",
    "ProfileRow",
    "Progress",
    "StateRow",
    "Unregistered",
    "WindowRow",
]


class Partition(NamedTuple):
    """A partition, told apart from those of a topic that was deleted and made again."""

    topic_id: str
    number: int


@dataclass(kw_only=True, slots=True)
class Progress:
    """How far one partition has been read since the last flush."""

    topic: str
    """Name without namespace would be ambiguous after a rename: the name as the broker knows it."""
    expected: int | None
    """``next_offset`` in SQL when reading began; ``None``: no row yet. Anything else now means that
    another worker has moved it."""
    first_offset: int
    """Where counting began, for a new row."""
    next_offset: int
    counted: int = 0
    dead: int = 0
    skipped: int = 0
    """Offsets that held no record for us: lost ranges, control records, aborted ones."""
    aborted: int = 0
    """How many of those were records of aborted transactions; for the metrics only."""
    rows: int = 0
    rewound: int = 0
    """Offsets below ``expected`` that were counted, and that the log lost afterwards: it gives them
    to other records."""
    tries: int = 1
    """Of the new offset: this process, and the deaths for which records are taken with caution."""
    log_end: int | None = None
    """Where the log ended when the broker was asked last; ``None``: it was not."""


@dataclass(kw_only=True, slots=True)
class Gap:
    """Offsets that left the log before they were read; both ends inclusive."""

    partition: Partition
    topic: str
    first: int
    last: int


@dataclass(kw_only=True, slots=True)
class StateRow:
    """Input state of one version on one partition, frozen."""

    model: str
    version: str
    partition: Partition
    state: bytes
    rows: int
    first_served_at: int | None
    last_served_at: int | None


@dataclass(kw_only=True, slots=True)
class WindowRow:
    """A closed window of one version on one partition."""

    model: str
    version: str
    partition: Partition
    number: int
    rows: int
    first_served_at: int
    last_served_at: int


@dataclass(kw_only=True, slots=True)
class JoinRows:
    """Predictions of one model that labels may join, as columns; row ``i`` belongs to
    ``id_hash[i]``.
    """

    id_hash: list[int] = field(default_factory=list)
    """Signed view of the hash."""
    version: list[str] = field(default_factory=list)
    prediction: list[str] = field(default_factory=list)
    score: list[float | None] = field(default_factory=list)
    slices: list[str | None] = field(default_factory=list)
    served_at: list[int] = field(default_factory=list)
    topic_id: list[str] = field(default_factory=list)
    partition: list[int] = field(default_factory=list)
    window: list[int] = field(default_factory=list)
    failed: list[str | None] = field(default_factory=list)
    """This one and those below: a value a row, or empty, where no row has one."""
    predicted_low: list[float | None] = field(default_factory=list)
    predicted_high: list[float | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.id_hash)

    def by_hash(self, model: str) -> dict[str, list[Any]]:
        """Columns as the table has them, in the order of the key; without the last three where no
        row has a value.

        Two flushes that insert the same rows then never wait for each other crosswise; of two rows
        with one id the first stays the first.
        """
        order = sorted(range(len(self)), key=self.id_hash.__getitem__)
        out: dict[str, list[Any]] = {"model": [model] * len(self)}
        for name in JoinRows.__slots__:
            values = getattr(self, name)
            if name in _SELDOM and values.count(None) == len(values):
                continue
            out[name] = [values[i] for i in order]
        return out

    def keep(self, wanted: list[bool]) -> None:
        """Drop the rows that are not wanted."""
        for name in JoinRows.__slots__:
            values = getattr(self, name)
            if values:
                setattr(self, name, [v for v, w in zip(values, wanted, strict=True) if w])


_SELDOM = frozenset(("failed", "predicted_low", "predicted_high"))
"""Columns that most services never fill: 2% of a flush."""


@dataclass(kw_only=True, slots=True)
class FeatureBlob:
    """Feature rows of one version of one flush, as one Arrow IPC stream."""

    model: str
    version: str
    first_served_at: int
    last_served_at: int
    rows: int
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class NameLimits:
    """How many names from the wire are kept: anybody who may write can make new ones."""

    new: int = 100
    """Unregistered versions that one flush may add, those with most rows first."""
    unregistered: int = 10_000
    """Unregistered versions in all; those seen last stay."""
    versions: int = 100
    """Versions of one model: unregistered ones, and those of a model that is watched without
    registering its versions."""


@dataclass(kw_only=True, slots=True)
class Unregistered:
    """Rows of a model or version that nobody registered."""

    rows: int
    first_seen_at: int
    last_seen_at: int
    sample: bytes | None = None
    """A larger sample than the one stored before, if there is one."""


@dataclass(kw_only=True, slots=True)
class ProfileRow:
    """A profile learned from traffic."""

    model: str
    version: str
    profile: bytes


@dataclass(kw_only=True, slots=True)
class FlushBatch:
    """One flush."""

    progress: dict[Partition, Progress] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)
    states: list[StateRow] = field(default_factory=list)
    windows: list[WindowRow] = field(default_factory=list)
    joins: dict[str, JoinRows] = field(default_factory=dict)
    """Per model."""
    labels: list[dict[str, Any]] = field(default_factory=list)
    """Rows of ``tables.labels``, all with the same keys; ``received_at`` is the flush's."""
    features: list[FeatureBlob] = field(default_factory=list)
    findings: list[DriftFound] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    unregistered: dict[tuple[str, str], Unregistered] = field(default_factory=dict)
    names: NameLimits = NameLimits()
    profiles: list[ProfileRow] = field(default_factory=list)
    counters: dict[tuple[str, str], int] = field(default_factory=dict)
    join_exponents: dict[str, int] = field(default_factory=dict)
    """Smaller join rates that this flush already obeys."""
    feature_exponents: dict[str, int] = field(default_factory=dict)

    def count(self, model: str, name: str, n: int = 1) -> None:
        """Add to a counter."""
        if n:
            self.counters[model, name] = self.counters.get((model, name), 0) + n


@dataclass(frozen=True, kw_only=True, slots=True)
class Flushed:
    """The transaction was committed."""

    join_rows: int
    """New ones; what was offered beyond them had an id that was there already."""
    labels: int
    findings: int
    """Changes of findings that were announced."""
    conflicting: int = 0
    """Rows with an id that their version had used for another prediction."""


@dataclass(frozen=True, slots=True)
class OffsetsMoved:
    """Nothing was written: another worker has moved these partitions meanwhile."""

    partitions: tuple[Partition, ...]
