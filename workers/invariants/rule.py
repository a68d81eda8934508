"""Rule of an invariant: what it looks at, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from redistill.streams.monitor.config import WatchConfig
from redistill.streams.store import properties
from redistill.streams.store.tables import offsets, outbox, specs
from redistill.times import DAY
from redistill.workers.errors import KeysError
from redistill.workers.invariants.audit_trail import AuditTrail, read_trail
from redistill.workers.invariants.counted import Counted, read_counters
from redistill.workers.invariants.signed_view import SignedView
from redistill.workers.invariants.topic_facts import TopicFacts
from redistill.workers.jobs.expired_rows import RETIRED_DAYS
from redistill.workers.store import audit_key
from redistill.workers.store.audit_key import AuditKey

__all__ = ["Figures", "Rule", "RuleInput", "RuleResult", "looked_at"]

Figures = dict[str, int | float | str]
"""What was counted, by name."""


@dataclass(frozen=True, kw_only=True)
class RuleInput:
    """What a rule looks at: one moment of the database, and the files of the installation."""

    conn: sa.Connection
    now: int
    """Microseconds since 1970."""
    home: Path
    outbox_kept_us: int
    """How long sent announcements are kept."""
    wal_bytes: int | None = None
    """Size of SQLite's write-ahead log; ``None``: not SQLite."""
    signed: SignedView | None = None
    """The repository as a client sees it; ``None``: nobody looked."""
    state_key: bytes | None = None
    """Seals the states of detectors; ``None``: it is not here."""

    @property
    def audit_key(self) -> AuditKey | None:
        """Under which audit entries and release requests have a MAC; ``None``: it is not here."""
        return self._key[0]

    @property
    def other_key(self) -> str | None:
        """Why the audit key that is here is not the one of the database; ``None``: it is, or none
        is here."""
        return self._key[1]

    @cached_property
    def _key(self) -> tuple[AuditKey | None, str | None]:
        """The key: whoever only looks may do without, but not with another one."""
        file = audit_key.of_file(self.conn)
        if file is None or not file.path.exists():
            return None, None
        try:
            return audit_key.known(self.conn), None
        except KeysError as error:
            return None, str(error)

    @cached_property
    def offsets(self) -> Sequence[Any]:
        """Progress of every partition."""
        return self.conn.execute(sa.select(offsets)).all()

    @cached_property
    def counted(self) -> Counted:
        """The counters of the ledger, and all others."""
        return read_counters(self.conn)

    @cached_property
    def watched(self) -> Mapping[str, WatchConfig]:
        """Settings of the registered models; one that cannot be read is left out (and told by the
        rule that is about it)."""
        out: dict[str, WatchConfig] = {}
        for model, text in self.conn.execute(sa.select(specs.c.model, specs.c.watch)):
            with suppress(ValueError):
                out[model] = WatchConfig.from_json(text)
        return out

    def kept(self, model: str) -> int:
        """How long rows of a model are kept, microseconds."""
        config = self.watched.get(model)
        return round((RETIRED_DAYS if config is None else config.retention_days) * DAY)

    def waited(self, model: str) -> int:
        """How long label and prediction wait for each other, microseconds."""
        config = self.watched.get(model)
        return round((RETIRED_DAYS if config is None else config.wait_days) * DAY)

    @cached_property
    def published_snapshot(self) -> int:
        """Version of the newest snapshot that clients can read, as SQL says."""
        return properties.published_snapshot(self.conn)

    def unsent_of(self, topic: str) -> set[str]:
        """Ids of the events that wait to be sent to a topic."""
        query = sa.select(outbox.c.event_id).where(
            outbox.c.topic == topic, outbox.c.sent_at.is_(None)
        )
        return set(self.conn.execute(query).scalars())

    @cached_property
    def trail(self) -> AuditTrail:
        """What the audit chain tells."""
        return read_trail(self.conn)


Later = Callable[[TopicFacts | None], "RuleResult"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleResult:
    """What a rule found."""

    figures: Figures = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    """What contradicts the rule, a sentence each."""
    later: tuple[Later, ...] = ()
    """What is left to compare with the broker, which is asked when the database is let go."""

    def with_more(self, other: RuleResult) -> RuleResult:
        """This result and another one of the same rule."""
        return RuleResult(
            figures=self.figures | other.figures,
            violations=self.violations + other.violations,
            later=self.later + other.later,
        )

    def settled(self, topics: TopicFacts | None) -> RuleResult:
        """With what the broker holds; ``None``: nobody asked it."""
        result = RuleResult(figures=self.figures, violations=self.violations)
        for compare in self.later:
            result = result.with_more(compare(topics))
        return result


Part = Callable[[RuleInput], RuleResult]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One invariant."""

    number: int
    text: str
    parts: tuple[Part, ...]
    """Each looks at one side of it."""

    def check(self, inputs: RuleInput) -> RuleResult:
        """What all parts found together."""
        result = RuleResult()
        for part in self.parts:
            result = result.with_more(looked_at(part, inputs))
        return result


def looked_at(part: Part, inputs: RuleInput) -> RuleResult:
    """What one part found; what no program of ours writes may be more than it can read."""
    try:
        return part(inputs)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        name = part.__name__.replace("_", " ")
        return RuleResult(
            violations=[f"rows hold what cannot be read ({name}): {type(error).__name__}: {error}"]
        )
