"""Ledger: counters that ``check-history`` adds up. A row that is there no more was deleted by
retention, which counts it here, or it was lost.

So none of them is deleted for its age. Of a model that nobody registered the count moves to the
name "", so that a stranger's names do not stay for ever, and the sum does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from redistill.streams.store.counters import add_counters
from redistill.streams.store.tables import (
    counters,
    feature_rows,
    input_states,
    join_rows,
    label_requests,
    labels,
    outbox,
    outcomes,
    specs,
    unregistered,
    windows,
)

__all__ = [
    "DECIDED",
    "DECIDED_EXPIRED",
    "FEATURES_EXPIRED",
    "FEATURES_STORED",
    "JOINS_EXPIRED",
    "JOINS_STORED",
    "KEPT",
    "LABELS_EXPIRED",
    "LABELS_OVER_LIMIT",
    "OUTBOX_EXPIRED",
    "OUTCOMES_EXPIRED",
    "REQUESTS_EXPIRED",
    "STATES_EXPIRED",
    "UNREGISTERED_EXPIRED",
    "WINDOWS_EXPIRED",
    "WINDOWS_STORED",
    "expired",
    "fold",
]

DECIDED = ("joined", "superseded", "unsampled", "orphan", "failed")
"""States of labels that are not waited with any more; ``labels_STATE`` counts how each came there
from waiting."""

OUTCOMES_EXPIRED = "outcomes_expired"
JOINS_STORED, JOINS_EXPIRED = "join_rows_stored", "join_rows_expired"
FEATURES_STORED, FEATURES_EXPIRED = "feature_blocks_stored", "feature_blocks_expired"
LABELS_EXPIRED = "labels_expired"
LABELS_OVER_LIMIT = "labels_over_limit"
"""Labels that were left out since there are so many of their id (``stored_labels``)."""
DECIDED_EXPIRED = "labels_decided_expired"
"""Those of them that were not waited with any more; and those that wait again, since another
specification holds, or another label took their place (``stored_labels``)."""
WINDOWS_STORED, WINDOWS_EXPIRED = "windows_stored", "windows_expired"
REQUESTS_EXPIRED = "label_requests_expired"
STATES_EXPIRED = "state_rows_expired"
"""Rows that deleted input states had counted."""
UNREGISTERED_EXPIRED = "unregistered_rows_expired"
"""Rows of names that were given up."""
OUTBOX_EXPIRED = "outbox_expired:"
"""Start of a name: announcements of a topic."""

KEPT = frozenset(
    {
        OUTCOMES_EXPIRED,
        JOINS_STORED,
        JOINS_EXPIRED,
        FEATURES_STORED,
        FEATURES_EXPIRED,
        LABELS_EXPIRED,
        LABELS_OVER_LIMIT,
        DECIDED_EXPIRED,
        WINDOWS_STORED,
        WINDOWS_EXPIRED,
        REQUESTS_EXPIRED,
        STATES_EXPIRED,
        UNREGISTERED_EXPIRED,
        "rows_unknown",
        "rows_nameless",
        "labels_unknown",
        "labels_null_word",
        "labels_unregistered_left_out",
        "labels_duplicate",
        "states_rebuilt",
        *(f"labels_{state}" for state in DECIDED),
    }
)
"""Names of the ledger, but for those that begin with ``OUTBOX_EXPIRED`` or ``jobs_ended:``."""

STRANGERS = ("rows_unknown", "labels_unknown")
"""Names that also models have which nobody registered."""

Counts = Counter[str]


def _decided(rows: Sequence[Any]) -> Counts:
    decided = sum(r.state in DECIDED for r in rows)
    return Counter({LABELS_EXPIRED: len(rows), DECIDED_EXPIRED: decided})


EXPIRED: dict[sa.Table, tuple[sa.Column[Any], Callable[[Sequence[Any]], Counts]]] = {
    outcomes: (outcomes.c.seq, lambda rows: Counter({OUTCOMES_EXPIRED: len(rows)})),
    join_rows: (join_rows.c.id_hash, lambda rows: Counter({JOINS_EXPIRED: len(rows)})),
    feature_rows: (feature_rows.c.block_id, lambda rows: Counter({FEATURES_EXPIRED: len(rows)})),
    windows: (windows.c.number, lambda rows: Counter({WINDOWS_EXPIRED: len(rows)})),
    labels: (labels.c.state, _decided),
    label_requests: (
        label_requests.c.request_id,
        lambda rows: Counter({REQUESTS_EXPIRED: len(rows)}),
    ),
    input_states: (
        input_states.c.rows,
        lambda rows: Counter({STATES_EXPIRED: sum(r.rows for r in rows)}),
    ),
    unregistered: (
        unregistered.c.rows,
        lambda rows: Counter({UNREGISTERED_EXPIRED: sum(r.rows for r in rows)}),
    ),
    outbox: (outbox.c.topic, lambda rows: Counter(OUTBOX_EXPIRED + r.topic for r in rows)),
}
"""Tables whose deleted rows are counted: the column that tells how, and the counts."""


def expired(table: sa.Table) -> tuple[sa.Column[Any], Callable[[Sequence[Any]], Counts]] | None:
    """What a deletion has to return of each row, and what follows from the returned rows; ``None``:
    nobody adds this table up."""
    return EXPIRED.get(table)


def fold(conn: sa.Connection, *, before: int) -> None:
    """Move counts of models that nobody registered, and that have not grown since ``before``, to
    the name ""."""
    c = counters.c
    strangers = sa.and_(c.name.in_(STRANGERS), c.model.not_in(sa.select(specs.c.model)))
    old = sa.and_(strangers, c.model != "", c.updated_at < before)
    sums: Counter[str] = Counter()
    for row in conn.execute(sa.delete(counters).where(old).returning(c.name, c.value)):
        sums[row.name] += int(row.value)
    add_counters(conn, {("", name): n for name, n in sums.items()}, now=before)
