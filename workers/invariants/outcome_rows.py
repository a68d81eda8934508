"""Outcomes, made once more from the labels and the predictions that are there."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from redistill.rownames import Names
from redistill.streams.monitor.label_trust import counts
from redistill.streams.store import ledger, properties
from redistill.streams.store.request_draws import Draws, of_model
from redistill.streams.store.tables import join_rows, label_request_rows, labels, outcomes
from redistill.streams.wire.hashing import id_hashes, signed
from redistill.times import DAY
from redistill.workers.invariants.rule import RuleInput, RuleResult

__all__ = ["labels_lead_to_outcomes", "outcomes_follow"]

BATCH = 5_000
"""Rows in memory at once."""
CLOSE = 1e-9
"""Two orders of the same draws differ by rounding."""
PLAIN = Names(())
STATES = frozenset({"waiting", "ignored", "unregistered", *ledger.DECIDED})


def outcomes_follow(inputs: RuleInput) -> RuleResult:
    """Part of invariant 9: what each outcome says of its label and its prediction."""
    violations: list[str] = []
    o, of_label, j, asked = outcomes.c, labels.c, join_rows.c, label_request_rows.c
    others = labels.alias("others")
    count = (
        sa.select(sa.func.count())
        .where(others.c.model == o.model, others.c.id_hash == o.id_hash)
        .scalar_subquery()
    )
    query = (
        sa.select(
            outcomes,
            *(
                of_label[n].label(f"label_{n}")
                for n in ("state", "op", "label", "version", "prediction")
            ),
            *(
                of_label[n].label(f"label_{n}")
                for n in ("p_include", "uniform", "slices", "received_at", "arrival")
            ),
            j.version.label("row_version"),
            j.prediction.label("row_prediction"),
            sa.or_(
                o.score.is_distinct_from(j.score),
                o.slices.is_distinct_from(j.slices),
                o.topic_id.is_distinct_from(j.topic_id),
                o.partition.is_distinct_from(j.partition),
                o.window.is_distinct_from(j.window),
                o.predicted_low.is_distinct_from(j.predicted_low),
                o.predicted_high.is_distinct_from(j.predicted_high),
                # nothing was served after it was stored
                o.served_at.not_in((j.served_at, sa.func.coalesce(j.stored_at, o.made_at))),
            ).label("copied_otherwise"),
            j.failed,
            count.label("labels"),
            asked.request_id.label("asked_in"),
        )
        .select_from(outcomes)
        .outerjoin(label_request_rows, sa.and_(asked.model == o.model, asked.id_hash == o.id_hash))
        .outerjoin(
            labels,
            sa.and_(
                of_label.model == o.model,
                of_label.id == o.id,
                of_label.source == o.source,
                of_label.observed_at == o.observed_at,
            ),
        )
        .outerjoin(join_rows, sa.and_(j.model == o.model, j.id_hash == o.id_hash))
    )
    n = 0
    salt = _salt(inputs.conn)
    draws: dict[str, Draws] = {}
    for rows in _batches(inputs.conn, query):
        n += len(rows)
        draws |= {m: of_model(inputs.conn, m) for m in {r.model for r in rows} - draws.keys()}
        hashes = signed(id_hashes([r.id for r in rows], salt)).tolist()
        for i, row in enumerate(rows):
            if hashes[i] != row.id_hash:
                violations.append(f"{_name(row)} has the hash of another id than {row.id}")
            why = _wrong(inputs, row) or _drawn_otherwise(inputs, row, draws[row.model])
            if why is not None:
                violations.append(f"{_name(row)}: {why}")
    return RuleResult(figures={"recomputed": n}, violations=violations)


def _batches(conn: sa.Connection, query: sa.Select[Any]) -> Iterator[list[Any]]:
    with conn.execution_options(yield_per=BATCH).execute(query) as result:
        for part in result.partitions():
            yield list(part)


def _salt(conn: sa.Connection) -> bytes:
    """With which ids are hashed; none that is there is as good as a wrong one."""
    try:
        return bytes.fromhex(properties.get(conn, properties.SALT) or "")
    except ValueError:
        return b""


def _name(row: Any) -> str:
    return f"outcome {row.seq} of {row.model} {row.version}"


def _wrong(inputs: RuleInput, row: Any) -> str | None:
    """What contradicts an outcome, if anything."""
    config = inputs.watched.get(row.model)
    names = PLAIN if config is None else _names(tuple(config.schema.classes))
    if row.correct not in (0, 1):
        return f"it is counted as {row.correct}, neither right nor wrong"
    there = row.label_state is not None
    if not there and not inputs.counted.of(row.model, ledger.LABELS_EXPIRED):
        return f"its label of {row.source} is not there"
    if row.label_state == "waiting":  # to be looked at once more: another specification holds
        return None
    if there and row.label is None and row.label_state not in ("superseded", "ignored"):
        return f"it was taken back, its label is {row.label_state}"
    if there and row.label is not None:
        if (row.label_state, row.label_op) != ("joined", "upsert"):
            return f"its label is {row.label_state}"
        if names.name(row.label_label) != row.label:
            return f"its label is {row.label_label!r}, it says {row.label!r}"
    # the first label is counted for ever: later ones change what gates read
    if row.labels == 1 and row.label is not None:
        if row.correct != int(row.prediction == row.label):
            return (
                f"it is counted as {'right' if row.correct else 'wrong'}: predicted"
                f" {row.prediction!r}, true {row.label!r}"
            )
        if there and row.label_arrival != row.arrival:
            return "its label came in by another way"
    return _prediction(inputs, row, names)


def _drawn_otherwise(inputs: RuleInput, row: Any, draws: Draws) -> str | None:
    """What contradicts how the row of an outcome was drawn, if anything."""
    expired = bool(inputs.counted.of(row.model, ledger.REQUESTS_EXPIRED))
    if row.asked_in != row.request_id and not (expired and row.asked_in is None):
        return "another request asked for its label, or none did"
    of = {d.request_id: d.slice for d in draws.by_version.get(row.version, ())}
    if row.request_id in of and row.slice_only != of[row.request_id]:
        return "tests of other slices may see it than its request says"
    if row.slice_only is not None and (row.request_id is None or row.uniform):
        return "only one slice's test may see it, and nobody asked for that"
    if row.labels != 1 or row.label_state is None:  # its first label is not known
        return None
    if row.uniform != (row.label_uniform and row.slice_only is None):
        return "it was drawn otherwise than its label says"
    where = (row.version, row.served_at, row.slices)
    wanted = draws.union(row.label_p_include, *where, asked=row.request_id is not None)
    least = expired or (row.request_id is not None and row.label_p_include is None)
    if (wanted is None) != (row.p_include is None) and not expired:
        return "with which probability it was drawn is told otherwise by its label and requests"
    if wanted is None or row.p_include is None:
        return None
    off = row.p_include - wanted
    if off < -CLOSE or (off > CLOSE and not least) or row.p_include > 1:
        return f"it was drawn with probability {wanted:.6g}, and says {row.p_include:.6g}"
    return None


def _prediction(inputs: RuleInput, row: Any, names: Names) -> str | None:
    logged, brought = row.row_version is not None, row.label_prediction is not None
    if row.topic_id is not None and not logged:
        if not inputs.counted.of(row.model, ledger.JOINS_EXPIRED):
            return "its prediction is not there"
        return None
    if row.topic_id is None and row.label_state is None:
        return None  # its label brought the prediction, and expired
    if logged and row.topic_id is not None and row.copied_otherwise:
        return "its prediction was served at another time or place, or with another score"
    if row.failed is not None and row.topic_id is not None:  # not one that was logged afterwards
        return "what was served was not the model's answer"
    said = {
        (row.row_version, row.row_prediction if not logged else names.name(row.row_prediction)),
        (row.label_version, names.name(row.label_prediction) if brought else None),
    }
    if row.labels > 1:  # another label of it may have brought the prediction
        return None if logged or brought or row.topic_id is None else "nobody predicted it"
    if (row.version, row.prediction) not in said:
        return "what was predicted, or by which version, is not what was logged"
    if row.topic_id is None and row.label_slices != row.slices:
        return "it stands in other slices than its label says"
    return None


@lru_cache(maxsize=1_000)
def _names(classes: tuple[str, ...]) -> Names:
    return Names(classes)


def labels_lead_to_outcomes(inputs: RuleInput) -> RuleResult:
    """Part of invariant 9: what became of each label."""
    violations: list[str] = []
    o, of_label, j = outcomes.c, labels.c, join_rows.c
    query = (
        sa.select(
            *(
                of_label[n]
                for n in ("model", "id", "id_hash", "source", "observed_at", "received_at")
            ),
            *(of_label[n] for n in ("state", "check_at", "op", "label", "bound")),
            o.seq,
            o.source.label("of_source"),
            o.observed_at.label("of_time"),
            j.failed,
            j.id_hash.is_not(None).label("served"),
        )
        .select_from(labels)
        .outerjoin(outcomes, sa.and_(o.model == of_label.model, o.id_hash == of_label.id_hash))
        .outerjoin(
            join_rows,
            sa.and_(
                of_label.state == "failed",
                j.model == of_label.model,
                j.id_hash == of_label.id_hash,
            ),
        )
    )
    salt = _salt(inputs.conn)
    waiting = 0
    for rows in _batches(inputs.conn, query):
        hashes = signed(id_hashes([r.id for r in rows], salt)).tolist()
        for i, row in enumerate(rows):
            waiting += row.state == "waiting"
            if hashes[i] != row.id_hash:
                violations.append(f"{_label(row)} has the hash of another id")
            if (why := _astray(inputs, row)) is not None:
                violations.append(f"{_label(row)}: {why}")
    return RuleResult(figures={"labels_waiting": waiting}, violations=violations)


def _label(row: Any) -> str:
    return f"the label of {row.id} of {row.model} by {row.source}"


def _astray(inputs: RuleInput, row: Any) -> str | None:
    """What contradicts the state of a label, if anything."""
    if row.state not in STATES:
        return f"it is {row.state}, which no label is"
    if row.op not in ("upsert", "retract") or (row.op == "upsert" and not row.label):
        return f"{row.op} without a label"
    config = inputs.watched.get(row.model)
    if row.state in ("joined", "superseded") and config is not None and config.bound_sources:
        believed = counts(
            row.source,
            row.bound,
            sources=config.label_sources,
            bound_sources=config.bound_sources,
        )
        if not believed:
            return f"it is {row.state}, and counts for nothing where its model binds sources"
    if row.state == "joined":
        if row.seq is None and not inputs.counted.of(row.model, ledger.OUTCOMES_EXPIRED):
            return "it is joined, and there is no outcome"
        if row.seq is not None and (row.of_source, row.of_time) != (row.source, row.observed_at):
            return "it is joined, and its outcome has another label"
    if row.state == "failed" and row.served and row.failed is None:
        return "it is failed, and what was served was the model's answer"
    if row.state in ("unsampled", "orphan", "failed") and row.seq is not None:
        return f"it is {row.state}, and there is an outcome"
    # it is looked up again when it is twice as old; a day for clocks that were ahead
    latest = inputs.now + max(DAY, 2 * (inputs.now - row.received_at))
    if row.state == "waiting" and row.check_at > latest:
        return "it waits for longer than any label does"
    return None
