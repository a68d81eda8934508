"""Label join: what becomes of each label that is due, an outcome, a correction, or a further wait.
Reads only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from redistill.rownames import Names
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.label_trust import counts, ranking
from redistill.streams.monitor.missing_words import is_missing
from redistill.streams.store.tables import join_rates, join_rows, labels, outcomes
from redistill.times import DAY, SECOND

__all__ = ["JoinPlan", "plan_join"]


@dataclass(slots=True)
class JoinPlan:
    """What a join step is going to write. A label's key: id, source, time observed."""

    outcomes: list[dict[str, Any]] = field(default_factory=list)
    """New ones, still without their number."""
    corrections: list[dict[str, Any]] = field(default_factory=list)
    """Of outcomes whose label was corrected or taken back."""
    states: dict[tuple[str, str, int], str] = field(default_factory=dict)
    """Of labels that are not waiting any more, or count instead of another one."""
    checks: dict[tuple[str, str, int], int] = field(default_factory=dict)
    """When labels that go on waiting are looked up again."""
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Labels by what became of them."""


def standing_label(rows: Sequence[Any], sources: Sequence[str]) -> Any | None:
    """The label that counts among all labels of one prediction.

    Within a source the one observed last (a retraction leaves the source without any); among
    sources the first of ``sources``, or, where no priority is given, the one observed last. A row
    that gives no label, which once was let in, says nothing.

    Parameters
    ----------
    rows
        With ``source``, ``observed_at``, ``op``.
    sources
        Best first; a source that is not named is not believed. Empty: all, by time.

    Examples
    --------
    >>> from collections import namedtuple
    >>> L = namedtuple("L", "source observed_at op label")
    >>> rows = [L("a", 1, "upsert", "x"), L("b", 2, "upsert", "y"), L("a", 3, "upsert", "z")]
    >>> standing_label(rows, ["b", "a"]).label, standing_label(rows, []).label
    ('y', 'z')
    >>> standing_label([*rows, L("b", 4, "retract", None)], ["b", "a"]).label
    'z'
    """
    last: dict[str, Any] = {}
    for row in sorted(rows, key=lambda r: r.observed_at):
        if row.op == "retract" or row.label:
            last[row.source] = row
    standing = [r for r in last.values() if r.op != "retract"]
    if not sources:
        return max(standing, key=lambda r: (r.observed_at, r.source), default=None)
    rank = {s: i for i, s in enumerate(sources)}
    believed = [r for r in standing if r.source in rank]
    return min(believed, key=lambda r: rank[r.source], default=None)


def plan_join(conn: sa.Connection, config: WatchConfig, hashes: list[int], now: int) -> JoinPlan:
    """What becomes of each label that is due. Reads only.

    Parameters
    ----------
    hashes
        Of the ids of the labels.
    now
        Microseconds since 1970.
    """
    model = config.model
    wait = round(config.wait_days * DAY)
    by_id: dict[int, list[Any]] = defaultdict(list)
    for row in conn.execute(
        sa.select(labels).where(
            labels.c.model == model, labels.c.id_hash.in_(hashes), labels.c.state != "ignored"
        )
    ):
        by_id[row.id_hash].append(row)
    c = outcomes.c
    done = {
        row.id_hash: row
        for row in conn.execute(
            sa.select(c.id_hash, c.version, c.seq, c.label, c.source, c.observed_at).where(
                c.model == model, c.id_hash.in_(hashes)
            )
        )
    }
    missing = [h for h in hashes if h not in done]
    exponent = _largest_rate(conn, model, now - wait)
    order = ranking(config.label_sources, config.bound_sources)
    joins = {
        row.id_hash: row
        for row in conn.execute(
            sa.select(join_rows).where(join_rows.c.model == model, join_rows.c.id_hash.in_(missing))
        )
    }
    plan = JoinPlan()
    names = Names(config.schema.classes)
    for h in hashes:
        rows = _counting(plan, by_id[h], config)
        best = standing_label(rows, order)
        if (outcome := done.get(h)) is not None:
            _correct(plan, outcome, best, names)
            _settle(plan, rows, best)
            continue
        if best is None:  # all taken back before the prediction came
            _settle(plan, rows, None)
            continue
        join = joins.get(h)
        if join is not None or (best.version is not None and best.prediction is not None):
            plan.outcomes.append(_outcome(best, join, names, now))
            _settle(plan, rows, best)
            continue
        inside = exponent == 0 or ((h & 0xFFFF_FFFF_FFFF_FFFF) >> (64 - exponent)) == 0
        for row in rows:
            if row.state != "waiting":
                continue
            key = (row.id, row.source, row.observed_at)
            age = now - row.received_at
            if not inside:
                plan.states[key] = "unsampled"
                plan.counts["unsampled"] += 1
            elif age >= wait:
                plan.states[key] = "orphan"
                plan.counts["orphan"] += 1
            else:
                plan.checks[key] = min(now + max(SECOND, age), row.received_at + wait)
    return plan


def _counting(plan: JoinPlan, rows: list[Any], config: WatchConfig) -> list[Any]:
    """The labels that count. What was let in while another specification held, or none, is set
    aside."""
    out = []
    for row in rows:
        fault = None
        if not counts(
            row.source,
            row.bound,
            sources=config.label_sources,
            bound_sources=config.bound_sources,
        ):
            fault = "ignored"
        elif row.op == "upsert" and is_missing(row.label, config.schema.classes):
            fault = "null_word"
        if fault is None:
            out.append(row)
        else:
            plan.states[row.id, row.source, row.observed_at] = "ignored"
            plan.counts[fault] += row.state == "waiting"
    return out


def _outcome(label: Any, join: Any | None, names: Names, now: int) -> dict[str, Any]:
    """One row of ``outcomes``, still without its number.

    Label and prediction are compared as the classes that they name: one may have come as a boolean,
    the other as a text or a number, or from an older writer.
    """
    brought = label.version is not None and label.prediction is not None
    predicted = label.prediction if brought else join.prediction  # type: ignore[union-attr]
    prediction, truth = _named(predicted, names), _named(label.label, names)
    return {
        "model": label.model,
        "version": label.version if brought else join.version,  # type: ignore[union-attr]
        "id_hash": label.id_hash,
        "id": label.id,
        "correct": int(prediction == truth),
        "prediction": prediction,
        "label": truth,
        "score": join.score if join is not None else None,
        "slices": join.slices if join is not None else label.slices,
        "served_at": join.served_at if join is not None else label.observed_at,
        "observed_at": label.observed_at,
        "source": label.source,
        "p_include": label.p_include,
        "uniform": label.uniform,
        "topic_id": join.topic_id if join is not None else None,
        "partition": join.partition if join is not None else None,
        "window": join.window if join is not None else None,
        "made_at": now,
    }


def _named(text: str | None, names: Names) -> str | None:
    return None if text is None else names.name(text)


def _correct(plan: JoinPlan, outcome: Any, best: Any | None, names: Names) -> None:
    """A later label changes what gates read; the detectors have seen the first one and keep it."""
    new = (
        (None, outcome.source, outcome.observed_at)
        if best is None
        else (_named(best.label, names), best.source, best.observed_at)
    )
    if new != (outcome.label, outcome.source, outcome.observed_at):
        label, source, observed_at = new
        plan.corrections.append(
            {
                "k_version": outcome.version,
                "k_seq": outcome.seq,
                "label": label,
                "source": source,
                "observed_at": observed_at,
            }
        )
        plan.counts["corrected"] += 1


def _settle(plan: JoinPlan, rows: list[Any], best: Any | None) -> None:
    for row in rows:
        state = "joined" if row is best else "superseded"
        if row.state != state:
            plan.states[row.id, row.source, row.observed_at] = state
            plan.counts[state] += row.state == "waiting"


def _largest_rate(conn: sa.Connection, model: str, since: int) -> int:
    """The smallest exponent in force at any time since then."""
    c = join_rates.c
    rows = conn.execute(
        sa.select(c.since, c.exponent).where(c.model == model).order_by(c.since)
    ).all()
    smallest = None
    current = 0  # before the first change everything was kept
    for at, exponent in rows:
        if at > since:
            smallest = current if smallest is None else min(smallest, current)
        current = exponent
    return int(current if smallest is None else min(smallest, current))
