"""Fresh tests in SQL: which candidates of an incident have faced its fresh labelled rows.

An incident has one error to spend, over at most three candidates, whichever jobs make them, and
also when it opens again: the first needs an e-value, the second twice, the third four times as much
(gates ``recipe`` and ``fresh``). A row is written under the job's lease before anything follows
from what those rows said about its candidate. One that is judged again, with more rows of the same
kind, is the same test and keeps its number; what it was asked for is what it was asked for last.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import sqlalchemy as sa

from redistill.workers.errors import WorkersError
from redistill.workers.store.tables import fresh_tests

__all__ = ["FreshTest", "NumberTaken", "enter", "of_incident"]


class NumberTaken(WorkersError):
    """A candidate was judged under a number that is not its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FreshTest:
    """A row of ``fresh_tests``."""

    number: int
    """1, 2, 3: over all jobs of the incident."""
    sha256: str
    """Of the candidate."""
    version: str
    """What it had to beat."""
    since: int
    """Where the rows begin, microseconds since 1970; 0: not known."""
    recipe: str
    job_id: str
    e_value: float
    """That the first candidate of the incident needs, as the policy was when it was judged last."""
    at: int
    """When it was judged first: microseconds since 1970."""

    def same(self, other: FreshTest) -> bool:
        """Whether it is one candidate against one version on rows of one kind."""
        return (self.sha256, self.version, self.since) == (
            other.sha256,
            other.version,
            other.since,
        )


def of_incident(conn: sa.Connection, incident_id: str) -> tuple[FreshTest, ...]:
    """Tests of an incident, the first first."""
    rows = conn.execute(
        sa.select(fresh_tests)
        .where(fresh_tests.c.incident_id == incident_id)
        .order_by(fresh_tests.c.number)
    )
    names = FreshTest.__dataclass_fields__
    return tuple(FreshTest(**{n: row[n] for n in names}) for row in rows.mappings())


def enter(conn: sa.Connection, incident_id: str, test: FreshTest) -> bool:
    """Write down that a candidate has faced fresh rows, under the lock of its model.

    Returns
    -------
    bool
        False: it is known, with this number.

    Raises
    ------
    NumberTaken
        The number is not the one that the candidate has, or not the next.
    """
    known = of_incident(conn, incident_id)
    before = next((t for t in known if t.same(test)), None)
    expected = len(known) + 1 if before is None else before.number
    if test.number != expected:
        raise NumberTaken(
            f"candidate {test.sha256[:8]} was judged as number {test.number} of its incident and is"
            f" number {expected}"
        )
    if before is not None:
        own = sa.and_(
            fresh_tests.c.incident_id == incident_id, fresh_tests.c.number == before.number
        )
        conn.execute(sa.update(fresh_tests).where(own).values(e_value=test.e_value))
        return False
    conn.execute(sa.insert(fresh_tests).values(incident_id=incident_id, **asdict(test)))
    return True
