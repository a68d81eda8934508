"""Sums of rows: what the partitions counted is in the states of detectors, under unregistered
names, among the labels, or was deleted by retention, which counts what it deletes."""

from __future__ import annotations

from collections import defaultdict

import sqlalchemy as sa

from redistill.streams.store import ledger
from redistill.streams.store.tables import (
    feature_rows,
    input_states,
    join_rates,
    join_rows,
    labels,
    model_locks,
    outbox,
    unregistered,
    windows,
)
from redistill.workers.invariants.counted import Counted
from redistill.workers.invariants.rule import RuleInput, RuleResult

__all__ = ["dead_letters", "labels_add_up", "rows_add_up", "samples_add_up"]


def is_predictions(topic: str) -> bool:
    """Whether a topic that stream workers read holds predictions: all others hold labels.

    Examples
    --------
    >>> [is_predictions(t) for t in ("predictions", "prod.predictions", "labels.predictions")]
    [True, True, False]
    """
    *before, last = topic.split(".")
    return last == "predictions" and before[-1:] != ["labels"]


def rows_add_up(inputs: RuleInput) -> RuleResult:
    """Part of invariant 1: rows of predictions."""
    counted, c = inputs.counted, input_states.c
    violations: list[str] = []
    states: dict[tuple[str, int], int] = defaultdict(int)
    query = sa.select(c.topic_id, c.partition, sa.func.sum(c.rows)).group_by(
        c.topic_id, c.partition
    )
    for topic_id, partition, rows in inputs.conn.execute(query):
        states[topic_id, partition] = int(rows)
    for row in inputs.offsets:
        rows = states.get((row.topic_id, row.partition), 0)
        if rows > row.rows:
            violations.append(
                f"{row.topic}/{row.partition}: detectors saw {rows:,} rows of it, it had"
                f" {row.rows:,}"
            )
    known = {(r.topic_id, r.partition) for r in inputs.offsets}
    violations += [
        f"detectors saw {rows:,} rows of partition {partition} of {topic_id}, of which nothing was"
        " counted"
        for (topic_id, partition), rows in states.items()
        if (topic_id, partition) not in known
    ]
    read = sum(r.rows for r in inputs.offsets if is_predictions(r.topic))
    seen, unknown = sum(states.values()), counted.sum("rows_unknown")
    gone = counted.sum(ledger.STATES_EXPIRED)
    if read != seen + unknown + gone:
        violations.append(
            f"{read:,} rows of predictions were counted: {seen:,} by detectors, {unknown:,} of"
            f" unregistered models, {gone:,} of detectors that retention deleted"
        )
    u = unregistered.c
    named = int(
        inputs.conn.execute(sa.select(sa.func.coalesce(sa.func.sum(u.rows), 0))).scalar_one()
    )
    nameless, dropped = counted.sum("rows_nameless"), counted.sum(ledger.UNREGISTERED_EXPIRED)
    if unknown != named + nameless + dropped:
        violations.append(
            f"{unknown:,} rows were of unregistered models: {named:,} stand under their names,"
            f" {nameless:,} under none, {dropped:,} were given up"
        )
    return RuleResult(figures={"states": seen, "unregistered": unknown}, violations=violations)


def labels_add_up(inputs: RuleInput) -> RuleResult:
    """Part of invariant 1: labels that were read are there, or were there already, or expired."""
    counted = inputs.counted
    violations: list[str] = []
    read = sum(r.rows for r in inputs.offsets if not is_predictions(r.topic))
    by_state: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    c = labels.c
    query = sa.select(c.model, c.state, sa.func.count()).group_by(c.model, c.state)
    for model, state, n in inputs.conn.execute(query):
        by_state[model][state] = int(n)
    there = sum(sum(of.values()) for of in by_state.values())
    strangers = ("labels_unknown", "labels_unregistered_left_out")
    names = (
        "labels_duplicate",
        "labels_null_word",
        ledger.LABELS_EXPIRED,
        ledger.LABELS_OVER_LIMIT,
    )
    if read != there + counted.sum(*names, *strangers):
        twice, empty, gone, over = (counted.sum(n) for n in names)
        violations.append(
            f"{read:,} labels were counted: {there:,} are there, {twice:,} were there already,"
            f" {counted.sum(*strangers):,} are of unregistered models, {empty:,} say nothing,"
            f" {over:,} were too many of one id, retention deleted {gone:,}"
        )
    decided = [f"labels_{state}" for state in ledger.DECIDED]
    models = {*by_state, *(m for name in decided for m in counted.by_model(name))}
    for model in sorted(models):
        told = counted.of(model, *decided)
        rows = sum(by_state[model][state] for state in ledger.DECIDED)
        gone = counted.of(model, ledger.DECIDED_EXPIRED)
        if told != rows + gone:
            violations.append(
                f"{model}: {told:,} labels were decided about, {rows:,} of them are there,"
                f" retention deleted {gone:,}"
            )
        violations += [
            f"{model}: {by_state[model][state]:,} labels are {state},"
            f" {counted.of(model, f'labels_{state}'):,} ever became so"
            for state in ("unsampled", "orphan", "failed")
            if by_state[model][state] > counted.of(model, f"labels_{state}")
        ]
    return RuleResult(figures={"labels": there}, violations=violations)


def samples_add_up(inputs: RuleInput) -> RuleResult:
    """Part of invariant 1: rows that are kept for their labels and their features, and windows."""
    counted, conn = inputs.counted, inputs.conn
    violations: list[str] = []
    for table, word, stored, gone in (
        (join_rows, "rows for the join", ledger.JOINS_STORED, ledger.JOINS_EXPIRED),
        (feature_rows, "blocks of features", ledger.FEATURES_STORED, ledger.FEATURES_EXPIRED),
        (windows, "windows", ledger.WINDOWS_STORED, ledger.WINDOWS_EXPIRED),
    ):
        query = sa.select(table.c.model, sa.func.count()).group_by(table.c.model)
        there = {model: int(n) for model, n in conn.execute(query)}
        for model in sorted({*there, *counted.by_model(stored)}):
            was, left = counted.of(model, stored), counted.of(model, gone)
            if was != there.get(model, 0) + left:
                violations.append(
                    f"{model}: {was:,} {word} were stored, {there.get(model, 0):,} are there,"
                    f" retention deleted {left:,}"
                )
    violations += _rates(conn)
    return RuleResult(violations=violations)


def _rates(conn: sa.Connection) -> list[str]:
    """The rate in force is the last of its history."""
    last: dict[str, int] = {}
    for row in conn.execute(sa.select(join_rates).order_by(join_rates.c.since)):
        last[row.model] = row.exponent
    c = model_locks.c
    now = {m: int(e) for m, e in conn.execute(sa.select(c.model, c.join_exponent))}
    return [
        f"{model}: one row in {2 ** now.get(model, 0):,} is kept for its label, the history of its"
        f" rates says one in {2 ** last.get(model, 0):,}"
        for model in sorted({*now, *last})
        if now.get(model, 0) != last.get(model, 0)
    ]


def dead_letters(inputs: RuleInput) -> RuleResult:
    """Part of invariant 1: each record that is counted dead was written to ``dlq``."""
    counted: Counted = inputs.counted
    there = inputs.conn.execute(
        sa.select(sa.func.count()).where(outbox.c.topic == "dlq")
    ).scalar_one()
    dead = sum(row.dead for row in inputs.offsets)
    gone = counted.sum(ledger.OUTBOX_EXPIRED + "dlq")
    violations = []
    if dead != there + gone:
        violations.append(
            f"{there:,} dead letters were written and {gone:,} expired, {dead:,} records are"
            " counted dead"
        )
    return RuleResult(violations=violations)
