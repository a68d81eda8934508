"""How far the log of each partition went, and a ledger that adds up.

What retention deleted before this revision was not counted: it is taken to be what is missing now.
Nothing else is: from here on, a row that is there no more was counted, or was lost.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision: str | None = "0010"
branch_labels = None
depends_on = None

Big = sa.BigInteger().with_variant(sa.Integer, "sqlite")

PREDICTIONS = (
    "(topic = 'predictions'"
    " OR (topic LIKE '%.predictions' AND topic NOT LIKE '%labels.predictions'))"
)
DECIDED = "('joined', 'superseded', 'unsampled', 'orphan')"
READ = "(SELECT COALESCE(SUM(rows), 0) FROM offsets WHERE {})"
COUNTED = "(SELECT COALESCE(SUM(value), 0) FROM counters WHERE name IN ({}))"
OUTBOX = "(SELECT COUNT(*) FROM outbox WHERE topic = '{}')"

UNKNOWN = COUNTED.format("'rows_unknown'")
WHOLE = {
    "state_rows_expired": (
        READ.format(PREDICTIONS)
        + " - (SELECT COALESCE(SUM(rows), 0) FROM input_states) - "
        + UNKNOWN
    ),
    "unregistered_rows_expired": (
        UNKNOWN
        + " - (SELECT COALESCE(SUM(rows), 0) FROM unregistered) - "
        + COUNTED.format("'rows_nameless'")
    ),
    "labels_expired": (
        READ.format(f"NOT {PREDICTIONS}")
        + " - (SELECT COUNT(*) FROM labels) - "
        + COUNTED.format(
            "'labels_duplicate', 'labels_unknown', 'labels_null_word',"
            " 'labels_unregistered_left_out'"
        )
    ),
    "outbox_expired:drift": (
        "(SELECT COALESCE(SUM(revision + 1), 0) FROM findings) - " + OUTBOX.format("drift")
    ),
    "outbox_expired:incidents": (
        "(SELECT COUNT(*) FROM audit WHERE action LIKE 'incident.%'"
        " AND body LIKE '%\"stage\":%') - " + OUTBOX.format("incidents")
    ),
    "outbox_expired:dlq": (
        "(SELECT COALESCE(SUM(dead), 0) FROM offsets) - " + OUTBOX.format("dlq")
    ),
}
"""Of no model: what is missing."""
BY_MODEL = {
    "join_rows_stored": "SELECT model, COUNT(*) AS n FROM join_rows GROUP BY model",
    "feature_blocks_stored": "SELECT model, COUNT(*) AS n FROM feature_rows GROUP BY model",
    "windows_stored": "SELECT model, COUNT(*) AS n FROM windows GROUP BY model",
    "labels_decided_expired": (
        "SELECT model, SUM(n) AS n FROM ("
        "SELECT model, value AS n FROM counters WHERE name IN"
        " ('labels_joined', 'labels_superseded', 'labels_unsampled', 'labels_orphan')"
        " UNION ALL SELECT model, -COUNT(*) AS n FROM labels"
        f" WHERE state IN {DECIDED} GROUP BY model) AS decided GROUP BY model"
    ),
}


def upgrade() -> None:
    """Add the column, and begin the ledger."""
    op.add_column("offsets", sa.Column("log_end", Big, nullable=True))
    conn = op.get_bind()
    for name, missing in WHOLE.items():
        n = int(conn.execute(sa.text(f"SELECT {missing}")).scalar_one())
        _count(conn, "", name, n)
    for name, query in BY_MODEL.items():
        for model, n in conn.execute(sa.text(query)).all():
            _count(conn, model, name, int(n))
    ends = sa.text(
        "SELECT state, COUNT(*) FROM jobs"
        " WHERE state NOT IN ('queued', 'running', 'waiting_labels') GROUP BY state"
    )
    for state, n in conn.execute(ends).all():  # older programs did not count them
        name = f"jobs_ended:{state}"
        known = sa.text("SELECT value FROM counters WHERE model = '' AND name = :name")
        counted = conn.execute(known, {"name": name}).scalar()
        if counted is None:
            _count(conn, "", name, int(n))
        elif counted < n:
            raised = sa.text("UPDATE counters SET value = :n WHERE model = '' AND name = :name")
            conn.execute(raised, {"n": int(n), "name": name})


def _count(conn: sa.Connection, model: str, name: str, n: int) -> None:
    if n:
        conn.execute(
            sa.text("INSERT INTO counters (model, name, value) VALUES (:model, :name, :n)"),
            {"model": model, "name": name, "n": n},
        )
