"""Ledger: what was acknowledged against what stands in the topics, and that against what stands in
SQL: by id where an id is kept, by partition where rows are counted. Then what must have happened
once: releases, moves of the pointer, announcements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from load import Acknowledged
from topic_log import Inputs

from redistill.streams.store.database import Database
from redistill.workers.store.tables import pointer_history

WAITING = (
    "SELECT count(*) FROM labels l WHERE state = 'waiting' AND EXISTS"
    " (SELECT 1 FROM join_rows j WHERE j.model = l.model AND j.id_hash = l.id_hash)"
)
"""Labels that wait, and whose rows are there."""


@dataclass
class Account:
    """What was found. ``lost`` and ``doubled`` count rows, labels, letters, releases; each has a
    reason in words."""

    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    broken: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def miss(self, n: int, what: str) -> None:
        """``n`` of something are missing (nothing if ``n`` is not above 0)."""
        if n > 0:
            self.lost += n
            self.reasons.append(f"{n:,} lost: {what}")

    def extra(self, n: int, what: str) -> None:
        """``n`` of something are there once too often."""
        if n > 0:
            self.doubled += n
            self.reasons.append(f"{n:,} doubled: {what}")

    def equal(self, there: int, wanted: int, what: str) -> None:
        """As many as there should be."""
        self.miss(wanted - there, f"{what}: {there:,} of {wanted:,}")
        self.extra(there - wanted, f"{what}: {there:,} in place of {wanted:,}")

    def contradict(self, what: str) -> None:
        """Something does not hold."""
        self.broken.append(what)


def compare(
    database: Database, found: Inputs, said: Acknowledged, announced: dict[str, list[bytes]]
) -> Account:
    """Compare everything, once the workers have caught up and their outbox is empty.

    Parameters
    ----------
    found
        What stands in the topics of the inputs.
    said
        What was acknowledged.
    announced
        Values by ``ce_id`` of what stands in the topics of the announcements.
    """
    account = Account(acknowledged=said.rows)
    _against_topics(account, found, said)
    with database.read() as conn:
        _offsets(account, conn, found)
        _rows(account, conn, found)
        _labels(account, conn, found)
        _effects(account, conn)
        _announcements(account, conn, announced)
    return account


def _names(conn: sa.Connection, query: str) -> list[Any]:
    return list(conn.execute(sa.text(query)).scalars())


def _one(conn: sa.Connection, query: str) -> int:
    return int(conn.execute(sa.text(query)).scalar() or 0)


def _against_topics(account: Account, found: Inputs, said: Acknowledged) -> None:
    """Whatever was acknowledged stands in the topics, and nothing that nobody sent."""
    rows, labels = set(found.predictions), set(found.labels)
    account.miss(len(said.predictions - rows), "acknowledged rows that are in no topic")
    account.miss(len(said.labels - labels), "acknowledged labels that are in no topic")
    strange = rows - said.predictions - said.maybe
    if strange:
        account.contradict(f"{len(strange)} rows in the topic that nobody sent: {_some(strange)}")
    account.extra(sum(n - 1 for n in found.labels.values()), "labels that a producer wrote twice")
    account.facts |= {
        "records": sum(found.records.values()), "resent": found.resent,
        "unanswered": len(said.maybe),
    }  # fmt: skip


def _offsets(account: Account, conn: sa.Connection, found: Inputs) -> None:
    """Per partition: passed, counted, dead and rows are what the log holds."""
    kept = {
        (r.topic.rpartition(".")[2], r.partition): r
        for r in conn.execute(sa.text("SELECT * FROM offsets"))
    }
    for place, end in sorted(found.ends.items()):
        name = f"{place[0]}/{place[1]}"
        row = kept.pop(place, None)
        if row is None:
            account.miss(found.records[place], f"records of {name}, which was never counted")
            continue
        if row.next_offset != end:
            account.contradict(f"{name}: counted up to {row.next_offset}, the log ends at {end}")
        account.equal(row.rows, found.rows[place], f"rows counted of {name}")
        account.equal(row.dead, found.dead[place], f"dead letters of {name}")
        readable = found.records[place] - found.dead[place]
        account.equal(row.counted, readable, f"records counted of {name}")


def _rows(account: Account, conn: sa.Connection, found: Inputs) -> None:
    """Rows in the detectors' states, in the join rows and in the stored features."""
    wanted = sum(found.predictions.values())
    states = _one(conn, "SELECT sum(rows) FROM input_states WHERE model = 'credit'")
    account.equal(states, wanted, "rows in the states of the detectors")
    strangers = _one(conn, "SELECT sum(rows) FROM unregistered")
    account.equal(strangers, found.strangers, "rows of the model that nobody registered")
    sampled = _one(conn, "SELECT max(exponent) FROM join_rates") > 0
    joins = _one(conn, "SELECT count(*) FROM join_rows")
    (account.extra if sampled else _equally(account, len(found.predictions)))(
        joins - len(found.predictions) if sampled else joins, "join rows"
    )
    features = Counter(_feature_ids(conn))
    account.extra(sum(n - 1 for n in features.values()), "rows whose features are stored twice")
    if strange := set(features) - set(found.predictions):
        account.contradict(f"features of rows that nobody sent: {_some(strange)}")
    if not sampled and not _one(conn, "SELECT max(feature_exponent) FROM model_locks"):
        missing = set(found.predictions) - set(features)
        account.miss(len(missing), f"rows without their features ({_some(missing)})")
    account.facts |= {"states": states, "joins": joins, "features": len(features)}


def _equally(account: Account, wanted: int) -> Any:
    return lambda there, what: account.equal(there, wanted, what)


def _feature_ids(conn: sa.Connection) -> Iterable[str]:
    for data in _names(conn, "SELECT data FROM feature_rows"):
        yield from pa.ipc.open_stream(bytes(data)).read_all().column("id").to_pylist()


def _labels(account: Account, conn: sa.Connection, found: Inputs) -> None:
    """Labels, and the outcomes that follow from them."""
    wanted = set(found.labels)
    stored = _names(conn, "SELECT id FROM labels")
    account.miss(len(wanted - set(stored)), "labels")
    account.extra(len(stored) - len(set(stored)), "labels")
    if strange := set(stored) - wanted:
        account.contradict(f"labels that nobody sent: {_some(strange)}")
    made = _names(conn, "SELECT id FROM outcomes")
    account.extra(len(made) - len(set(made)), "outcomes")
    joined = set(_names(conn, "SELECT id FROM labels WHERE state = 'joined'"))
    account.miss(len(joined - set(made)), "outcomes of labels that were joined")
    states = {
        r.state: r.n
        for r in conn.execute(sa.text("SELECT state, count(*) AS n FROM labels GROUP BY state"))
    }
    sampled = _one(conn, "SELECT max(exponent) FROM join_rates") > 0
    # of a sample some rows were not kept, and their labels wait until they are taken for orphans
    waiting = _one(conn, WAITING) if sampled else states.get("waiting", 0)
    account.miss(waiting, "labels that wait though their rows are there")
    account.miss(states.get("orphan", 0), "labels that are orphans though their rows are there")
    if not sampled:
        account.miss(states.get("unsampled", 0), "labels left out though every row is kept")
    account.facts |= {"labels": len(stored), "outcomes": len(made)}


def _effects(account: Account, conn: sa.Connection) -> None:
    """Once each: a release of a job, a move of the pointer, an open incident of a class."""
    per_job = "SELECT job_id, count(*) AS n FROM versions WHERE job_id IS NOT NULL GROUP BY job_id"
    for row in conn.execute(sa.text(per_job)):
        account.extra(row.n - 1, f"releases of job {row.job_id[:8]}")
    history = conn.execute(sa.select(pointer_history).order_by(pointer_history.c.epoch)).all()
    epochs = [r.epoch for r in history]
    if epochs != list(range(1, len(epochs) + 1)):
        account.contradict(f"epochs of the pointer: {epochs}")
    published = [r.stable for r in history if r.change == "publish" and '"incident"' in r.trigger]
    account.extra(len(published) - len(set(published)), "moves of the pointer to one repair")
    pointer = conn.execute(sa.text("SELECT stable, epoch FROM pointers")).one()
    if (pointer.epoch, pointer.stable) != (history[-1].epoch, history[-1].stable):
        account.contradict(f"the pointer is at {tuple(pointer)}, its history says otherwise")
    account.facts |= {
        "incidents": _one(conn, "SELECT count(*) FROM incidents"),
        "jobs": _one(conn, "SELECT count(*) FROM jobs"),
        "succeeded": _one(conn, "SELECT count(*) FROM jobs WHERE state = 'succeeded'"),
        "moves": len(history) - 1,
    }


def _announcements(account: Account, conn: sa.Connection, there: dict[str, list[bytes]]) -> None:
    """What the outbox says was sent is in the topics; what is there is in the outbox; sent again,
    it is the same bytes."""
    sent = {
        r.event_id: r.topic
        for r in conn.execute(
            sa.text("SELECT event_id, topic FROM outbox WHERE sent_at IS NOT NULL")
        )
    }
    account.miss(_one(conn, "SELECT count(*) FROM outbox WHERE sent_at IS NULL"), "announcements")
    kept = {e for e, topic in sent.items() if topic != "pointers"}  # that one is compacted
    account.miss(len(kept - set(there)), "announcements that are in no topic")
    if strange := set(there) - set(sent):
        account.contradict(f"announcements that are in no outbox: {_some(strange)}")
    for event, values in there.items():
        if len(set(values)) > 1:
            account.contradict(f"event {event[:8]} says different things")
    dead = _one(conn, "SELECT sum(dead) FROM offsets")
    account.equal(sum(t == "dlq" for t in sent.values()), dead, "dead letters announced")
    account.facts |= {
        "announced": len(there), "announced_again": sum(len(v) - 1 for v in there.values()),
        "dead": dead,
    }  # fmt: skip


def _some(names: Iterable[str], n: int = 3) -> str:
    return ", ".join(sorted(names)[:n])
