"""Facts about an installation, on which the doctor's checks judge. Times are microseconds since
1970."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from redistill.streams.store.process_rows import ProcessRow, TopicLag

__all__ = [
    "AlertFacts",
    "DatabaseState",
    "Disk",
    "Facts",
    "KeyFacts",
    "ModelFacts",
    "PackageFault",
    "StoreFacts",
    "TopicFacts",
    "Trouble",
]

DatabaseState = Literal["missing", "away", "unusable"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PackageFault:
    """A package that is not as redistill's metadata want it."""

    name: str
    installed: str | None
    """Its version; ``None``: it is missing."""
    wanted: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Disk:
    """The file system of the home."""

    home: Path
    free: int
    """Bytes."""
    total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicFacts:
    """A topic that is missing or differs from what is needed."""

    name: str
    state: str
    """``missing`` or ``differs``."""
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyFacts:
    """The keys that sign releases."""

    fault: str | None
    """Why a repair worker here could not sign; ``None``: it could."""
    root_until: int | None
    """When clients stop believing the trust file; ``None``: there is none here."""
    repository_until: int | None
    """When they stop believing what was signed last; ``None``: nothing was."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFacts:
    """A registered model."""

    model: str
    level: str
    last_served_at: int | None
    last_label_at: int | None
    label_lag_us: int | None
    """Median from serving to label."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertFacts:
    """What ``alerts.toml`` says, as it is read from here."""

    path: Path
    there: bool = True
    fault: str | None = None
    """Why nobody could be told by it."""
    absent: tuple[str, ...] = ()
    """Variables that it names as secrets and that are not set here."""
    channels: tuple[str, ...] = ()
    """Those that are told something; empty: nobody is."""
    heartbeat: bool = False
    """Whether there is a dead man's switch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """An operational alert that is open."""

    kind: str
    severity: str
    said: str
    remedy: str
    opened_at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreFacts:
    """What the database says."""

    revision: str
    clock_offset_us: int
    """This machine's clock is ahead of the database's by so much."""
    clock_problem: str | None
    """Why retention stands still."""
    processes: tuple[ProcessRow, ...]
    lag: Mapping[str, TopicLag]
    """By topic, of all stream workers that are alive together."""
    models: tuple[ModelFacts, ...]
    audit_key_here: bool = True
    """Whether there is an audit key on this machine, or none is needed yet."""
    audit_key_fault: str | None = None
    """Why it cannot be used with this database."""
    bound: frozenset[str] = frozenset()
    """Sources of labels that some model binds."""
    troubles: tuple[Trouble, ...] = ()
    """The worst first, then the oldest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """Everything."""

    now: int
    """By the database's clock, or this machine's where there is none."""
    unknown_settings: tuple[str, ...] = ()
    """Sentences."""
    version: str = ""
    python: str = ""
    packages: tuple[PackageFault, ...] = ()
    disk: Disk | None = None
    broker: str | None = None
    """Its address; ``None``: none is set."""
    broker_away: str | None = None
    """Why it does not answer."""
    broker_refuses: str | None = None
    """What it does not let a worker do."""
    topics: tuple[TopicFacts, ...] = ()
    writers_doubted: tuple[str, ...] = ()
    """Why bound sources may not be alone on their topics."""
    topics_unknown: str | None = None
    """Why the topics could not be compared."""
    database: str = ""
    """Its URL, without the password."""
    database_fault: str | None = None
    """Why it says nothing."""
    database_state: DatabaseState = "away"
    """Where it says nothing: there is none yet, it may come back by itself, or somebody has to do
    something first."""
    store: StoreFacts | None = None
    """``None``: the database cannot be read."""
    alerts: AlertFacts = field(default=AlertFacts(path=Path("alerts.toml")))
    keys: KeyFacts = field(default=KeyFacts(fault=None, root_until=None, repository_until=None))
