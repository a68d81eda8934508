"""Join step: labels that are due become outcomes, numbered and shown to the accuracy detectors, in
one transaction per model.

Predictions and labels come in any order, on any worker. Whoever holds the model's row (``SKIP
LOCKED``; on SQLite the one writer) makes the outcomes, so their numbers have no holes and a
detector sees each outcome once. Everything here can be done again after a crash: a label is
``waiting`` until the transaction that used it is committed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
import sqlalchemy as sa
import structlog

from redistill.streams.errors import StateError
from redistill.streams.monitor.accuracy import account
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.expected_error import ExpectedError
from redistill.streams.monitor.findings import superseded
from redistill.streams.monitor.observe import contributors
from redistill.streams.monitor.outcomes import AccuracyState, Outcomes
from redistill.streams.monitor.slice_columns import slices_from_json
from redistill.streams.monitor.state import InputState
from redistill.streams.store.counters import add_counters
from redistill.streams.store.database import Database, insert_ignore, upsert
from redistill.streams.store.findings import store_findings
from redistill.streams.store.label_clash import clash_findings
from redistill.streams.store.label_join import JoinPlan, plan_join
from redistill.streams.store.tables import (
    accuracy_states,
    findings,
    input_states,
    labels,
    model_locks,
    outcomes,
    profiles,
    specs,
)
from redistill.streams.wire.block import Codes
from redistill.streams.wire.events import Contributor, DriftFound

__all__ = ["JoinStep", "join_labels"]

log = structlog.get_logger(__name__)

MOST_CONTRIBUTORS = 10

LIMIT = 2_000
"""Labels of one call: some 60 ms on SQLite, during which nobody else writes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JoinStep:
    """What one step did; what became of the other labels is counted in ``counters``."""

    outcomes: int = 0
    """New ones."""
    answers: int = 0
    """Of them, those whose label was asked for."""
    findings: int = 0
    """Changes of findings that were announced."""
    more: bool = False
    """The limit was reached: call again."""


def labels_due(conn: sa.Connection, model: str, *, now: int) -> bool:
    """Whether a label of this model is due: cheap, and takes no lock."""
    c = labels.c
    query = (
        sa.select(c.model)
        .where(c.model == model, c.state.in_(("waiting", "unregistered")), c.check_at <= now)
        .limit(1)
    )
    return conn.execute(query).first() is not None


def join_labels(
    database: Database, config: WatchConfig, *, now: int, state_key: bytes, limit: int = LIMIT
) -> JoinStep | None:
    """Make outcomes of the labels that are due.

    Parameters
    ----------
    database
        Where predictions, labels and outcomes are.
    config
        The model's settings: sources and their priority, how long labels may take.
    now
        Microseconds since 1970.
    state_key
        Seals stored states. One that does not open starts anew, and is logged.
    limit
        Labels to look at; the call's work and the time that it holds the lock are bounded by it.

    Returns
    -------
    JoinStep or None
        ``None``: another worker is at this model.

    Raises
    ------
    StoreUnavailable
        Nothing was written; try again.
    """
    model = config.model
    with database.read() as conn:
        if not labels_due(conn, model, now=now):
            return JoinStep()
    with database.begin() as conn:
        conn.execute(insert_ignore(model_locks).values(model=model))
        lock = sa.select(model_locks.c.model).where(model_locks.c.model == model)
        if conn.execute(lock.with_for_update(skip_locked=True)).first() is None:
            return None
        config = _as_registered(conn, config)
        c = labels.c
        conn.execute(  # labels that were there before their model was registered
            sa.update(labels)
            .where(c.model == model, c.state == "unregistered")
            .values(state="waiting")
        )
        due = conn.execute(
            sa.select(c.id_hash)
            .where(c.model == model, c.state == "waiting", c.check_at <= now)
            .order_by(c.check_at, c.received_at)  # as in its index: new ones as they came
            .limit(limit)
        )
        hashes = [int(h) for h in due.scalars()]
        if not hashes:
            return JoinStep()
        plan = plan_join(conn, config, sorted(set(hashes)), now)
        rebuilt: list[str] = []
        changes, raised = _account(conn, config, plan, state_key, rebuilt)
        changes = _left_open(conn, model, rebuilt, now) + changes
        changes += clash_findings(conn, model, plan.clashes, now=now)
        _write(conn, model, plan)
        stored = store_findings(conn, changes, now=now, raised_seq=raised)
        counts = {(model, f"labels_{name}"): n for name, n in plan.counts.items()}
        if rebuilt:
            counts[model, "states_rebuilt"] = len(rebuilt)
        add_counters(conn, counts, now=now)
    return JoinStep(
        outcomes=len(plan.outcomes),
        answers=sum(o["request_id"] is not None for o in plan.outcomes),
        findings=stored,
        more=len(hashes) == limit,
    )


def _as_registered(conn: sa.Connection, config: WatchConfig) -> WatchConfig:
    """With whose labels count as SQL has it now: the caller read it some time ago. Whoever changes
    it holds the model's row, as we do."""
    query = sa.select(specs.c.watch).where(specs.c.model == config.model)
    if (text := conn.execute(query).scalar_one_or_none()) is None:
        return config
    now = WatchConfig.from_json(text)
    return replace(config, label_sources=now.label_sources, bound_sources=now.bound_sources)


def _account(
    conn: sa.Connection, config: WatchConfig, plan: JoinPlan, key: bytes, rebuilt: list[str]
) -> tuple[list[DriftFound], dict[UUID, int]]:
    """Number the outcomes, show them to the detectors, and store the detectors; versions of which
    the stored one does not open are put among the rebuilt ones.

    Returns
    -------
    tuple
        What opened, changed or ended; and the number of the outcome that opened each finding.
    """
    changes: list[DriftFound] = []
    raised: dict[UUID, int] = {}
    for version in sorted({o["version"] for o in plan.outcomes}):
        of_version = [o for o in plan.outcomes if o["version"] == version]
        where = (accuracy_states.c.model == config.model) & (accuracy_states.c.version == version)
        row = conn.execute(sa.select(accuracy_states).where(where)).one_or_none()
        last = int(row.last_seq) if row is not None else _last_seq(conn, config.model, version)
        for number, o in enumerate(of_version, last + 1):
            o["seq"] = number
        before = int(row.n) if row is not None else 0
        known = None if row is None else _known(row, key, rebuilt)
        normal = _normal(conn, config.model, version)
        columns = _columns(of_version, plan.received, normal[1])
        state, found, positions = _detect(
            conn, config, version, known, columns, before, normal, key
        )
        changes += found
        raised |= {
            f.finding_id: of_version[i]["seq"]
            for f, i in zip(found, positions, strict=True)
            if f.status == "open"
        }
        conn.execute(
            upsert(accuracy_states, ["model", "version"]),
            {
                "model": config.model,
                "version": version,
                "state": state.to_bytes(key, model=config.model),
                "last_seq": last + len(of_version),
                "n": before + len(of_version),
            },
        )
    return changes, raised


def _detect(
    conn: sa.Connection,
    config: WatchConfig,
    version: str,
    known: AccuracyState | None,
    new: Outcomes,
    before: int,
    normal: tuple[BaseError | None, ExpectedError | None],
    key: bytes,
) -> tuple[AccuracyState, list[DriftFound], list[int]]:
    """Show one version's outcomes to its detectors."""
    served = _served(conn, config.model, version)
    base, expected = normal

    def run(moved: Sequence[Contributor]) -> tuple[AccuracyState, list[DriftFound], list[int]]:
        return account(
            known,
            new,
            version=version,
            base=base,
            expected=expected,
            config=config,
            # after 100 outcomes; a share of three labels in four rows says nothing
            label_share=before / served if served and before >= 100 else None,
            contributors=moved,
        )

    state, found, positions = run(())
    # What moved is worth reading the input states for only when something opened. The detectors
    # are pure: the second run differs in the contributors alone.
    opened = any(f.status == "open" for f in found)
    if opened and (moved := _contributors(conn, config.model, version, key)):
        state, found, positions = run(moved)
    return state, found, positions


def _known(row: Any, key: bytes, rebuilt: list[str]) -> AccuracyState:
    """The stored state of a version; where it does not open, a new one that gives findings numbers
    beyond all that it may have given: one with the id of another would be dropped."""
    try:
        return AccuracyState.from_bytes(bytes(row.state), key, model=row.model, version=row.version)
    except StateError as error:
        log.error(
            "state_rebuilt",
            action="state_rebuilt",
            model=row.model,
            version=row.version,
            error=str(error),
        )
        rebuilt.append(row.version)
        return AccuracyState(version=row.version, opened=int(row.last_seq))


def _left_open(
    conn: sa.Connection, model: str, versions: Sequence[str], now: int
) -> list[DriftFound]:
    """Ends of what lost detectors had open: what is still harm they find again, and nobody else
    would ever say that it is over."""
    c = findings.c
    query = sa.select(c.body).where(
        c.model == model,
        c.version.in_(versions),
        c.kind == "accuracy",
        c.status != "resolved",
    )
    why = "the state of its detector was lost, and it starts anew"
    return [
        superseded(msgspec.json.decode(body, type=DriftFound), now, why=why)
        for body in (conn.execute(query).scalars() if versions else ())
    ]


def _served(conn: sa.Connection, model: str, version: str) -> int:
    c = input_states.c
    return int(
        conn.execute(
            sa.select(sa.func.coalesce(sa.func.sum(c.rows), 0)).where(
                c.model == model, c.version == version
            )
        ).scalar_one()
    )


def _contributors(conn: sa.Connection, model: str, version: str, key: bytes) -> list[Contributor]:
    """The columns that moved most, each as the partition that shows it best has it."""
    c = input_states.c
    best: dict[str, Contributor] = {}
    stored = conn.execute(
        sa.select(c.state, c.topic_id, c.partition).where(c.model == model, c.version == version)
    )
    for blob, *partition in stored:
        try:
            state = InputState.from_bytes(
                bytes(blob), key, model=model, version=version, partition=tuple(partition)
            )
        except StateError:  # it explains only: no reason to hold outcomes back
            continue
        for m in contributors(state):
            if m.column not in best or _rank(m) > _rank(best[m.column]):
                best[m.column] = m
    return sorted(best.values(), key=_rank, reverse=True)[:MOST_CONTRIBUTORS]


def _rank(c: Contributor) -> float:
    return c.value / max(c.noise_floor, 1e-9)


def _columns(
    rows: list[dict[str, Any]], received: Mapping[int, int], expected: ExpectedError | None
) -> Outcomes:
    def column(name: str, kind: type) -> Any:
        return np.array([r[name] for r in rows], dtype=kind)

    slice_only = Codes.of([r["slice_only"] for r in rows])
    return Outcomes(
        error=(1 - column("correct", np.int64)).astype(np.uint8),
        confidence=column("score", np.float32),
        served_at=column("served_at", np.int64),
        received_at=np.array([received[r["id_hash"]] for r in rows], np.int64),
        uniform=column("uniform", np.bool_) & (slice_only.codes < 0),
        p_include=column("p_include", np.float64),
        slices={}
        if expected is None
        else slices_from_json([r["slices"] for r in rows], expected.ratios),
        slice_only=slice_only,
    )


def _last_seq(conn: sa.Connection, model: str, version: str) -> int:
    c = outcomes.c
    return int(
        conn.execute(
            sa.select(sa.func.coalesce(sa.func.max(c.seq), 0)).where(
                c.model == model, c.version == version
            )
        ).scalar_one()
    )


def _normal(
    conn: sa.Connection, model: str, version: str
) -> tuple[BaseError | None, ExpectedError | None]:
    """How often a version is wrong, and on which rows, where that is known."""
    c = profiles.c
    row = conn.execute(
        sa.select(c.base_error, c.expected_error).where(c.model == model, c.version == version)
    ).one_or_none()
    if row is None:
        return None, None
    return (
        None if row.base_error is None else BaseError.from_json(row.base_error),
        None if row.expected_error is None else ExpectedError.from_json(row.expected_error),
    )


def _write(conn: sa.Connection, model: str, plan: JoinPlan) -> None:
    if plan.outcomes:
        conn.execute(sa.insert(outcomes), plan.outcomes)
    c = outcomes.c
    if plan.corrections:
        conn.execute(
            sa.update(outcomes)
            .where(
                c.model == model,
                c.version == sa.bindparam("k_version"),
                c.seq == sa.bindparam("k_seq"),
            )
            .values(
                label=sa.bindparam("label"),
                source=sa.bindparam("source"),
                observed_at=sa.bindparam("observed_at"),
            ),
            plan.corrections,
        )
    c_ = labels.c
    key = (
        c_.model == model,
        c_.id == sa.bindparam("k_id"),
        c_.source == sa.bindparam("k_source"),
        c_.observed_at == sa.bindparam("k_at"),
    )
    for values, column in ((plan.states, "state"), (plan.checks, "check_at")):
        if values:
            conn.execute(
                sa.update(labels).where(*key).values({column: sa.bindparam("to")}),
                [
                    {"k_id": i, "k_source": s, "k_at": at, "to": to}
                    for (i, s, at), to in values.items()
                ],
            )
