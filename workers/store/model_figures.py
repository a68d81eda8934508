"""Figures of one model as metrics show them: accuracy, labels, drifted features, who serves what.

Everything is bounded: so many features and versions a model, and none of a model that nobody
registered.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from redistill.streams.monitor.base_error import BaseError
from redistill.streams.store.tables import findings, input_states, outcomes, profiles
from redistill.times import MINUTE
from redistill.workers.store import queries
from redistill.workers.store.tables import activations, pointers

__all__ = ["FEATURES_SHOWN", "VERSIONS_SHOWN", "FigureMemory", "ModelFigures", "figures_of"]

FEATURES_SHOWN = 5
"""Those that drifted most: they explain, and a person reads no more of them."""
FEATURE_CHARACTERS = 200
"""Of a feature's name, which a service chose; those with the same beginning are told as one."""
VERSIONS_SHOWN = 3
"""Of a model, by who activated them and by who served last: the current one, its predecessor, and
one that somebody brought."""


READ_AGAIN_US = 10 * MINUTE
"""Labels may be taken back, which no new outcome tells."""

REST = 20.0
"""Half a million activations take three seconds: at most a twentieth of the time.
"""


@dataclass(frozen=True, slots=True)
class _Labels:
    """What the labels of a version say, as of its last outcome."""

    version: str | None
    seq: int | None
    read_at: int
    labelled: int
    correct: int
    lag_us: int | None


class FigureMemory:
    """What was read of models, and is read again only where that is worth its price.

    What labels say: where there are new ones, or ten minutes passed. Two thousand outcomes of each
    of 500 models take two seconds of a processor; to see that there is no new one, a twentieth of
    that. Who serves what: all activations that are kept are looked at, so it is read again after
    ``REST`` times as long as it took.

    Parameters
    ----------
    monotonic
        Seconds.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._known: dict[str, _Labels] = {}
        self._monotonic = monotonic
        self._instances: dict[str, dict[str, int]] = {}
        self._instances_of: frozenset[str] | None = None
        self._instances_due = 0.0

    def labels(self, conn: sa.Connection, model: str, version: str | None, now: int) -> _Labels:
        """What they say of a model's version."""
        o = outcomes.c
        last = sa.select(sa.func.max(o.seq)).where(o.model == model, o.version == (version or ""))
        seq = conn.execute(last).scalar()
        known = self._known.get(model)
        same = known is not None and (known.version, known.seq) == (version, seq)
        if known is not None and same and 0 <= now - known.read_at < READ_AGAIN_US:
            return known
        labelled, correct = queries.recent_outcomes(conn, model, version)
        lag = queries.label_lag(conn, model, version)
        self._known[model] = read = _Labels(version, seq, now, labelled, correct, lag)
        return read

    def instances(
        self, conn: sa.Connection, models: Collection[str]
    ) -> Mapping[str, Mapping[str, int]]:
        """How many instances of each model activated a version last."""
        began, of = self._monotonic(), frozenset(models)
        if of != self._instances_of or began >= self._instances_due:
            self._instances = _instances(conn, of)
            ended = self._monotonic()
            self._instances_of, self._instances_due = of, ended + REST * (ended - began)
        return self._instances

    def keep(self, models: Collection[str]) -> None:
        """Forget all others."""
        self._known = {m: known for m, known in self._known.items() if m in models}


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFigures:
    """One model."""

    model: str
    version: str | None
    """As in ``queries.Overview``."""
    correct: int
    labelled: int
    """The version's last labelled rows, at most ``queries.RECENT_OUTCOMES``."""
    base_error: BaseError | None
    """How often the version is normally wrong; ``None``: not known yet."""
    label_lag_us: int | None
    """Median time from serving to label of the last labelled rows."""
    psi: Mapping[str, float]
    """Population stability index by feature, as open findings told it last."""
    instances: Mapping[str, int]
    """Instances of services by the version that they activated last."""
    served_at: Mapping[str, int]
    """When a version's last row was served, microseconds since 1970."""


def figures_of(
    conn: sa.Connection, models: Sequence[str], memory: FigureMemory, *, now: int
) -> list[ModelFigures]:
    """Figures of registered models, in their order.

    Parameters
    ----------
    now
        Microseconds since 1970.
    """
    memory.keep(models)
    pointed = conn.execute(sa.select(pointers.c.model, pointers.c.stable))
    stable: dict[str, str] = dict(pointed.all())
    errors = _base_errors(conn, models)
    psi = _psi(conn, models)
    instances = memory.instances(conn, models)
    served = _served(conn, models)
    out = []
    for model in models:
        last = served.get(model, {})
        version = stable.get(model) or max(last, key=lambda v: last[v], default=None)
        told = memory.labels(conn, model, version, now)
        out.append(
            ModelFigures(
                model=model,
                version=version,
                correct=told.correct,
                labelled=told.labelled,
                base_error=errors.get((model, version)),
                label_lag_us=told.lag_us,
                psi=psi.get(model, {}),
                instances=instances.get(model, {}),
                served_at=last,
            )
        )
    return out


def _base_errors(
    conn: sa.Connection, models: Collection[str]
) -> dict[tuple[str, str | None], BaseError]:
    """Of every version of which it is known."""
    p = profiles.c
    query = sa.select(p.model, p.version, p.base_error).where(
        p.model.in_(models), p.base_error.is_not(None)
    )
    rows = conn.execute(query)
    return {(model, version): BaseError.from_json(text) for model, version, text in rows}


def _psi(conn: sa.Connection, models: Collection[str]) -> dict[str, dict[str, float]]:
    """The features that open findings of a model name, those that drifted most."""
    f = findings.c
    query = sa.select(f.model, f.body).where(f.status != "resolved", f.model.in_(models))
    told: dict[str, dict[str, float]] = defaultdict(dict)
    for model, body in conn.execute(query):
        moved: list[dict[str, Any]] = json.loads(body).get("contributors", [])
        for one in moved:
            if one["distance"] == "psi":
                column = one["column"][:FEATURE_CHARACTERS]
                told[model][column] = max(told[model].get(column, 0.0), float(one["value"]))
    return {model: _largest(found, FEATURES_SHOWN) for model, found in told.items()}


def _instances(conn: sa.Connection, models: Collection[str]) -> dict[str, dict[str, int]]:
    """How many instances activated a version last, the versions with most of them."""
    a = activations.c
    last = sa.func.row_number().over(
        partition_by=(a.model, a.instance_id), order_by=(a.at.desc(), a.epoch.desc(), a.event_id)
    )
    newest = sa.select(a.model, a.version, last.label("place")).where(a.model.in_(models))
    rows = newest.subquery()
    query = (
        sa.select(rows.c.model, rows.c.version, sa.func.count())
        .where(rows.c.place == 1)
        .group_by(rows.c.model, rows.c.version)
    )
    return _by_model(conn, query)


def _served(conn: sa.Connection, models: Collection[str]) -> dict[str, dict[str, int]]:
    """When the versions of a model that served last did so."""
    i = input_states.c
    query = (
        sa.select(i.model, i.version, sa.func.max(i.last_served_at))
        .where(i.model.in_(models), i.last_served_at.is_not(None))
        .group_by(i.model, i.version)
    )
    return _by_model(conn, query)


def _by_model(conn: sa.Connection, query: sa.Select[Any]) -> dict[str, dict[str, int]]:
    """The largest numbers by version, by model."""
    told: dict[str, dict[str, int]] = defaultdict(dict)
    for model, version, number in conn.execute(query):
        told[model][version] = int(number)
    return {model: _largest(found, VERSIONS_SHOWN) for model, found in told.items()}


def _largest(numbers: Mapping[str, Any], most: int) -> dict[str, Any]:
    ranked = sorted(numbers.items(), key=lambda item: (-item[1], item[0]))
    return dict(ranked[:most])
