"""Label join: what becomes of each label that is due, an outcome, a correction, or a further wait.
Reads only.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from redistill.rownames import Names
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.label_trust import counts, ranking
from redistill.streams.monitor.missing_words import is_missing
from redistill.streams.store.late_logs import BROUGHT
from redistill.streams.store.request_draws import Draws, of_model, ordinary
from redistill.streams.store.standing_label import standing_label
from redistill.streams.store.tables import (
    join_rates,
    join_rows,
    label_request_rows,
    label_requests,
    labels,
    outcomes,
)
from redistill.times import DAY, SECOND

__all__ = ["Clash", "JoinPlan", "plan_join"]

LOG_WAIT_US = 60 * SECOND
"""How long a label that brings its prediction waits for the logged one, where there may be one:
services send what they logged within seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Clash:
    """A label brought another prediction than was logged."""

    version: str
    """That was logged."""
    id: str
    source: str
    served_at: int
    logged: str
    brought: str
    """The prediction, or the version of which it is said to be where the two differ in that."""


@dataclass(slots=True)
class Requests:
    """Who asked for the rows of a join step, and what could have drawn them."""

    draws: Draws = field(default_factory=Draws)
    asked: dict[int, Any] = field(default_factory=dict)
    """Hash of an id -> the request that asked for its label: ``request_id``, ``slice``."""
    ordinary: float | None = None
    """Probability of rows in the draw of whoever labels, as the newest label tells it."""


@dataclass(slots=True)
class JoinPlan:
    """What a join step is going to write. A label's key: id, source, time observed."""

    outcomes: list[dict[str, Any]] = field(default_factory=list)
    """New ones, still without their number, in the order in which their labels were received."""
    received: dict[int, int] = field(default_factory=dict)
    """When that was, by the hash of the id: by the database's clock, microseconds since 1970."""
    corrections: list[dict[str, Any]] = field(default_factory=list)
    """Of outcomes whose label was corrected or taken back."""
    states: dict[tuple[str, str, int], str] = field(default_factory=dict)
    """Of labels that are not waiting any more, or count instead of another one."""
    checks: dict[tuple[str, str, int], int] = field(default_factory=dict)
    """When labels that go on waiting are looked up again."""
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Labels by what became of them."""
    clashes: list[Clash] = field(default_factory=list)
    """Of labels that a logged prediction contradicts: what was logged counts."""
    requests: Requests = field(default_factory=Requests)


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
            sa.select(
                c.id_hash, c.version, c.seq, c.label, c.source, c.observed_at, c.topic_id
            ).where(c.model == model, c.id_hash.in_(hashes))
        )
    }
    missing = [h for h in hashes if h not in done or done[h].topic_id is None]
    exponent = _largest_rate(conn, model, now - wait)
    order = ranking(config.label_sources, config.bound_sources)
    joins = {
        row.id_hash: row
        for row in conn.execute(
            sa.select(join_rows).where(join_rows.c.model == model, join_rows.c.id_hash.in_(missing))
        )
    }
    served = [_served_at(j, now) for j in joins.values()]
    served += [_brought_at(r) for h in missing for r in by_id[h] if _brings(r)]
    plan = JoinPlan(requests=_requests(conn, model, missing, served))
    names = Names(config.schema.classes)
    for h in hashes:
        rows = _counting(plan, by_id[h], config)
        best = standing_label(rows, order)
        if (outcome := done.get(h)) is not None:
            _logged_late(plan, outcome, rows, joins.get(h), names)
            _correct(plan, outcome, best, names)
            _settle(plan, rows, best)
            continue
        if best is None:  # all taken back before the prediction came
            _settle(plan, rows, None)
            continue
        join = joins.get(h)
        inside = exponent == 0 or ((h & 0xFFFF_FFFF_FFFF_FFFF) >> (64 - exponent)) == 0
        until = min(r.received_at for r in rows if _brings(r)) + LOG_WAIT_US if _brings(best) else 0
        waits = inside and now < until
        if join is not None and join.failed is not None:  # what was served was not the model's
            _settle(plan, rows, None, left="failed")
            continue
        if join is not None or (_brings(best) and not waits):
            plan.outcomes.append(_outcome(plan, best, join, names, now))
            _settle(plan, rows, best)
            continue
        for row in rows:
            if row.state != "waiting":
                continue
            key = (row.id, row.source, row.observed_at)
            age = now - row.received_at
            if not inside:
                plan.states[key] = "unsampled"
                plan.counts["unsampled"] += 1
            elif age >= wait and not waits:
                plan.states[key] = "orphan"
                plan.counts["orphan"] += 1
            else:
                over = until if waits else row.received_at + wait
                plan.checks[key] = min(now + max(SECOND, age), over)
    # who writes labels says when they were observed; when they came says the database
    plan.outcomes.sort(
        key=lambda o: (plan.received[o["id_hash"]], o["observed_at"], o["served_at"], o["id"])
    )
    return plan


def _requests(conn: sa.Connection, model: str, hashes: list[int], served: list[int]) -> Requests:
    """What is known of requests for labels of these rows, which were served at these times."""
    some = sa.select(label_requests.c.request_id).where(label_requests.c.model == model).limit(1)
    if not served or conn.execute(some).first() is None:
        return Requests()
    draws = of_model(conn, model, served=(min(served), max(served)))
    r, of = label_request_rows.c, label_requests.c
    query = (
        sa.select(r.id_hash, of.request_id, of.slice)
        .join(label_requests, of.request_id == r.request_id)
        .where(r.model == model, r.id_hash.in_(hashes))
    )
    asked = {int(row.id_hash): row for row in conn.execute(query)}
    return Requests(draws, asked, ordinary(conn, model) if asked else None)


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
            fault = "meaningless"
        if fault is None:
            out.append(row)
        else:
            plan.states[row.id, row.source, row.observed_at] = "ignored"
            plan.counts[fault] += row.state == "waiting"
    return out


def _brings(label: Any) -> bool:
    """Whether a label brings its prediction."""
    return label.version is not None and label.prediction is not None


def _outcome(
    plan: JoinPlan, label: Any, join: Any | None, names: Names, now: int
) -> dict[str, Any]:
    """One row of ``outcomes``, still without its number.

    Label and prediction are compared as the classes that they name: one may have come as a boolean,
    the other as a text or a number, or from an older writer. Nothing was served after it was
    stored, and nothing observed after it came, whatever is said of it.
    """
    plan.received[label.id_hash] = int(label.received_at)
    truth = _named(label.label, names)
    if join is None:
        plan.counts[BROUGHT] += 1
        prediction = _named(label.prediction, names)
        served_at = _brought_at(label)
    else:
        prediction = _named(join.prediction, names)
        served_at = _served_at(join, now)
        _compare(plan, label, join, names)
    version = label.version if join is None else join.version
    slices = join.slices if join is not None else label.slices
    request = plan.requests.asked.get(label.id_hash)
    drawn = label.p_include
    if request is not None and drawn is None:
        drawn = plan.requests.ordinary
    p_include = plan.requests.draws.union(
        drawn, version, served_at, slices, asked=request is not None
    )
    of_slice = None if request is None else request.slice
    if label.request_id is not None and (request is None or request.request_id != label.request_id):
        plan.counts["other_request"] += 1
    return {
        "model": label.model,
        "version": version,
        "id_hash": label.id_hash,
        "id": label.id,
        "correct": int(prediction == truth),
        "prediction": prediction,
        "label": truth,
        "score": join.score if join is not None else None,
        "slices": slices,
        "served_at": served_at,
        "observed_at": label.observed_at,
        "source": label.source,
        "p_include": p_include,
        "uniform": label.uniform and of_slice is None,
        "topic_id": join.topic_id if join is not None else None,
        "partition": join.partition if join is not None else None,
        "window": join.window if join is not None else None,
        "made_at": now,
        "request_id": None if request is None else request.request_id,
        "arrival": label.arrival,
        "slice_only": of_slice,
        "predicted_low": join.predicted_low if join is not None else None,
        "predicted_high": join.predicted_high if join is not None else None,
    }


def _served_at(join: Any, now: int) -> int:
    """When a row was served: nobody serves it after it was stored."""
    return int(min(join.served_at, join.stored_at or now))


def _brought_at(label: Any) -> int:
    """When a prediction was served that a label brings."""
    return int(min(label.observed_at, label.received_at))


def _compare(plan: JoinPlan, label: Any, join: Any, names: Names) -> None:
    """Count a label that brought another prediction than was logged."""
    if not _brings(label):
        return
    logged, brought = _named(join.prediction, names), _named(label.prediction, names)
    if join.failed is not None:
        logged = f"no answer of the model ({join.failed})"
    if label.version != join.version:
        logged, brought = f"version {join.version}", f"version {label.version}"
    if logged != brought:
        plan.counts["clash"] += 1
        plan.clashes.append(
            Clash(
                version=join.version,
                id=label.id,
                source=label.source,
                served_at=min(join.served_at, join.stored_at or join.served_at),
                logged=str(logged),
                brought=str(brought),
            )
        )


def _logged_late(
    plan: JoinPlan, outcome: Any, rows: list[Any], join: Any | None, names: Names
) -> None:
    """Compare what a label brought with what was logged after it had counted."""
    if join is None or outcome.topic_id is not None:
        return
    for row in rows:
        mine = (row.source, row.observed_at) == (outcome.source, outcome.observed_at)
        if mine and row.state == "waiting":  # it is looked at again since its log came
            _compare(plan, row, join, names)


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


def _settle(plan: JoinPlan, rows: list[Any], best: Any | None, *, left: str = "superseded") -> None:
    for row in rows:
        state = "joined" if row is best else left
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
