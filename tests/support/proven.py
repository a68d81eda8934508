"""A finished installation in memory, to be changed and asked what ``check-history`` says of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import finished
import sqlalchemy as sa
from finished import Finished
from mutations import Copy, Mutation

from redistill.times import DAY
from redistill.workers.invariants import check, signed_view
from redistill.workers.invariants.rule import Part, RuleInput, looked_at
from redistill.workers.invariants.signed_view import SignedView
from redistill.workers.invariants.topic_facts import TopicFacts
from redistill.workers.store.tables import metadata

__all__ = ["PARTS", "World"]

PARTS = [part for rule in check.RULES for part in rule.parts]


class World:
    """A finished installation, what its broker and its repository say, and its rows in memory."""

    def __init__(self, folder: Path) -> None:
        self.installation: Finished = finished.build(folder)
        self.topics: TopicFacts = finished.facts(self.installation)
        self.signed: SignedView = signed_view.look(self.installation.layout)
        database = self.installation.database
        with database.read() as conn:  # the audit key goes with the connection
            options = conn.get_execution_options().items()
            carried = {k: v for k, v in options if k.startswith("redistill_")}
        database.checkpoint()
        database.dispose()
        self.copy = Copy(Path(str(database.url.database)), **carried)
        self.reads = {part: self._reads(part) for part in PARTS}

    def table(self, name: str) -> sa.Table:
        """A table by its name in SQL."""
        return metadata.tables[name]

    def found(
        self, part: Part, *, signed: SignedView | None = None, home: Path | None = None
    ) -> list[str]:
        """What one part of a rule finds now."""
        inputs = RuleInput(
            conn=self.copy.conn,
            now=self.installation.now + 1,
            home=home or self.installation.home,
            outbox_kept_us=30 * DAY,
            signed=signed or self.signed,
            state_key=self.installation.settings.state_key_bytes(),
        )
        return looked_at(part, inputs).settled(self.topics).violations

    def _reads(self, part: Part) -> set[str]:
        """Tables that a part reads: to change another one changes nothing of what it finds."""
        said: list[str] = []

        def note(conn: object, cursor: object, statement: str, *more: object) -> None:
            said.append(statement)

        sa.event.listen(self.copy.engine, "before_cursor_execute", note)
        assert self.found(part) == [], part.__name__
        sa.event.remove(self.copy.engine, "before_cursor_execute", note)
        return set(re.findall(r"(?:FROM|JOIN) \"?([a-z_]+)", " ".join(said)))

    def noticed(self, mutation: Mutation) -> bool:
        """Whether the database refuses it, or a rule reports it."""
        with self.copy.mutated(mutation) as done:
            parts = (p for p in PARTS if mutation.table in self.reads[p])
            return not done or any(self.found(part) for part in parts)

    def said(
        self,
        statements: Sequence[str] = (),
        *,
        signed: SignedView | None = None,
        home: Path | None = None,
    ) -> list[str]:
        """What all rules say after some statements, which are undone."""
        with self.copy.changed(statements):
            return [said for part in PARTS for said in self.found(part, signed=signed, home=home)]

    def close(self) -> None:
        """Forget it."""
        self.copy.close()
