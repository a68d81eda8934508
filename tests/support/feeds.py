"""A feed that breaks: findings of contracts, and the incidents of several models that have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

import loop
import sqlalchemy as sa
from loop import NOW

from redistill.streams.wire.events import Contributor, DriftFound, Impact
from redistill.workers.incidents import incident_repository


def contract_finding(
    *, model: str = "credit", columns: Sequence[str], rule: str = "missing", at: int = NOW
) -> DriftFound:
    """Columns that break a rule of the contract since ``at``."""
    found = loop.finding(model=model, kind="quality", harmful=None, at=at)
    share = Impact(
        metric="missing_rate", reference=0.0, current=0.4, low=0.36, high=0.44, basis="measured",
        n=500, harmful=None,
    )  # fmt: skip
    return replace(
        found,
        impact=share,
        contributors=[
            Contributor(column=c, distance=rule, value=0.4, noise_floor=0.15) for c in columns
        ],
        reason=f"{', '.join(columns)} is missing in 40.0% of 500 rows, in 0.0% of the reference",
    )


def break_column(
    conn: sa.Connection, models: Sequence[str], *, column: str = "income", now: int = NOW
) -> list[str]:
    """Let a column break in several models at once; ids of their incidents."""
    numbers = []
    for model in models:
        found = contract_finding(model=model, columns=(column,), at=now)
        loop.register(conn, loop.spec(model), now=now)
        loop.store(conn, found, now=now)
        row = incident_repository.open_new(
            conn, incident_id=str(uuid4()), model=model, version="v1",
            incident_class="data_bug", finding_id=str(found.finding_id), change=None,
            why=found.reason, actor="worker:test", now=now,
        )  # fmt: skip
        numbers.append(str(row["incident_id"]))
    return numbers
