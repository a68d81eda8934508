"""Label requests: what the policy asks for becomes rows, and an announcement, in one transaction.

Whoever holds the model's row asks, after outcomes were made, so two workers never ask for the same
suspicion, and a row is asked for once. What is asked for stays within the model's budget of the day
(``[labels] requests_per_day``, ``cost_per_day``).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from uuid import UUID, uuid5

import msgspec
import numpy as np
import sqlalchemy as sa
import structlog
from numpy.typing import NDArray

from redistill.streams.errors import StateError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.label_requests import (
    LONGEST_ROWS,
    RequestState,
    decide,
    opened,
    spread,
    take,
)
from redistill.streams.monitor.outcomes import AccuracyState
from redistill.streams.monitor.suspicion import (
    CONFIDENCE,
    Suspicion,
    slice_of,
    suspicions,
)
from redistill.streams.store import properties
from redistill.streams.store.database import Database, insert_ignore, upsert
from redistill.streams.store.label_budget import Budget, budget_of
from redistill.streams.store.request_draws import Draw
from redistill.streams.store.requestable_rows import (
    Requestable,
    last_block,
    newest,
    since_block,
    unlabelled,
)
from redistill.streams.store.stored_requests import store_request
from redistill.streams.store.tables import (
    accuracy_states,
    feature_rows,
    findings,
    input_states,
    label_request_rows,
    label_request_states,
    label_requests,
    model_locks,
    outcomes,
)
from redistill.streams.wire.events import DriftFound
from redistill.times import DAY

__all__ = ["Asked", "LabelRequester"]

log = structlog.get_logger(__name__)

_NAMESPACE = UUID("5a1f7c1e-8a53-5b0c-9d0e-0c6a55a0be11")

ANSWERED = 0.5
"""Share of a request's rows that have to be labelled, or too old for it, before the same suspicion
asks again: what was asked for may decide it, however late labels are."""


_Signature = tuple[tuple[tuple[str, int | None], ...], int | None, int, int | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What one look did."""

    rows: int = 0
    """Asked for."""
    budget: Budget | None = None
    """Of the day, afterwards; ``None``: nobody had to look."""


class LabelRequester:
    """Asks for labels of the models that allow it. One a worker: what it remembers spares work.

    Parameters
    ----------
    state_key
        Opens stored states of accuracy; one that does not open suspects nothing.
    """

    def __init__(self, database: Database, *, state_key: bytes) -> None:
        self._database = database
        self._key = state_key
        self._seen: dict[str, _Signature] = {}

    def ask(self, config: WatchConfig, *, now: int) -> Asked:
        """Look at one model, and ask for what is suspected.

        Parameters
        ----------
        now
            Microseconds since 1970, by the database's clock.

        Raises
        ------
        StoreUnavailable
            Nothing was asked for; try again.
        """
        if config.requests_per_day <= 0:
            return Asked()
        model = config.model
        with self._database.read() as conn:
            state = _signature(conn, model)
            if self._seen.get(model) == state:
                return Asked()
            versions = [version for version, _ in state[0]]
            looks = [_Version(conn, config, version, now) for version in versions]
            if not any(look.wants(self._key) for look in looks):  # as nearly always
                self._seen[model] = state
                return Asked(budget=budget_of(conn, config, now))
        with self._database.begin() as conn:
            conn.execute(insert_ignore(model_locks).values(model=model))
            lock = sa.select(model_locks.c.model).where(model_locks.c.model == model)
            if conn.execute(lock.with_for_update(skip_locked=True)).first() is None:
                return Asked()  # somebody else looks
            rows = sum(_Version(conn, config, version, now).ask(self._key) for version in versions)
            budget = budget_of(conn, config, now)
        self._seen[model] = state
        if rows:
            log.info(
                "labels_requested", action="labels_requested", model=model, rows=rows,
                budget_left=budget.left,
            )  # fmt: skip
        return Asked(rows=rows, budget=budget)


def _signature(conn: sa.Connection, model: str) -> _Signature:
    """Changes whenever there may be something new to ask for; begins with the versions that have
    something to suspect, or whose requests go on."""
    a, f, s, b = accuracy_states.c, findings.c, label_request_states.c, feature_rows.c
    accuracy = sa.select(sa.func.sum(a.last_seq)).where(a.model == model)
    doubted = sa.and_(f.model == model, f.kind == CONFIDENCE, f.status != "resolved")
    found = sa.select(sa.func.count(), sa.func.sum(f.revision)).where(doubted)
    v = sa.union(
        sa.select(a.version).where(a.model == model),
        sa.select(f.version).where(doubted),
        sa.select(s.version).where(s.model == model),
    ).subquery()
    # the last block of one version is found at once; of a model all would be gone through
    last = sa.select(sa.func.max(b.block_id)).where(b.model == model, b.version == v.c.version)
    versions = sa.select(v.c.version, last.scalar_subquery()).order_by(v.c.version)
    n, revisions = conn.execute(found).one()
    blocks = tuple((row[0], row[1]) for row in conn.execute(versions))
    return blocks, conn.execute(accuracy).scalar(), n, revisions


class _Version:
    """One look at one version: ``wants`` at any time, ``ask`` under its model's lock."""

    def __init__(self, conn: sa.Connection, config: WatchConfig, version: str, now: int) -> None:
        self.conn, self.config, self.version, self.now = conn, config, version, now
        self.model = config.model
        c = model_locks.c
        row = conn.execute(sa.select(model_locks).where(c.model == self.model)).one_or_none()
        exponent = 0 if row is None else max(row.join_exponent, row.feature_exponent)
        self.share: float = 2.0**-exponent
        """Of the rows that are stored with their features: a uniform sample by their ids."""
        self.asked = 0

    def wants(self, key: bytes) -> bool:
        """Whether there is something to ask for, or to write: no feature is read for it."""
        state, _ = self._stored()
        accuracy = self._accuracy(key)
        decided = accuracy is not None and accuracy.finding is not None
        if state.following or (decided and state != opened(state)):
            return True
        return any(self._may(state, s) for s in suspicions(accuracy, self._inputs()))

    def ask(self, key: bytes) -> int:
        """Ask for what is suspected, and for what comes next of earlier requests."""
        state, before = self._stored()
        accuracy = self._accuracy(key)
        if state.following:
            new, last = since_block(self.conn, self.model, self.version, before)
            state = self._follow(state, new)
        else:
            last = last_block(self.conn, self.model, self.version)
        if accuracy is not None and accuracy.finding is not None:
            state = opened(state)
        for suspicion in suspicions(accuracy, self._inputs()):
            if self._may(state, suspicion):
                state = self._burst(state, suspicion)
        self.conn.execute(
            upsert(label_request_states, ["model", "version"]).values(
                model=self.model, version=self.version, state=state.to_json().decode(),
                block_id=last,
            )
        )  # fmt: skip
        return self.asked

    def _stored(self) -> tuple[RequestState, int]:
        """What is remembered, and the last block of rows that a burst under way has seen."""
        s = label_request_states.c
        mine = (s.model == self.model, s.version == self.version)
        row = self.conn.execute(sa.select(label_request_states).where(*mine)).one_or_none()
        if row is None:
            return RequestState(), 0
        return RequestState.from_json(row.state), int(row.block_id)

    def _may(self, state: RequestState, suspicion: Suspicion) -> bool:
        """Whether it may ask now: known without a look at the rows, of which there are many."""
        left = budget_of(self.conn, self.config, self.now).left
        _, burst = decide(state, suspicion.why, row=self._served(), since=None, left=left)
        return burst is not None and not self._awaits(suspicion.why)

    def _accuracy(self, key: bytes) -> AccuracyState | None:
        a = accuracy_states.c
        query = sa.select(a.state).where(a.model == self.model, a.version == self.version)
        if (data := self.conn.execute(query).scalar_one_or_none()) is None:
            return None
        try:
            return AccuracyState.from_bytes(
                bytes(data), key, model=self.model, version=self.version
            )
        except StateError:  # the join step says so, and starts anew
            return None

    def _inputs(self) -> list[DriftFound]:
        f = findings.c
        query = sa.select(f.body).where(
            f.model == self.model, f.version == self.version, f.kind == CONFIDENCE,
            f.status != "resolved",
        )  # fmt: skip
        bodies = self.conn.execute(query.order_by(f.opened_at)).scalars()
        return [msgspec.json.decode(body, type=DriftFound) for body in bodies]

    def _served(self) -> int:
        c = input_states.c
        query = sa.select(sa.func.coalesce(sa.func.sum(c.rows), 0)).where(
            c.model == self.model, c.version == self.version
        )
        return int(self.conn.execute(query).scalar_one())

    def _follow(self, state: RequestState, new: Requestable) -> RequestState:
        """Rows that were served since a burst began."""
        for why in list(state.following):
            name = slice_of(why)
            rows = new if name is None else new.of_slice(self.conn, self.model, name)
            state, n = take(state, why, len(rows), budget_of(self.conn, self.config, self.now).left)
            if n:
                drawn = rows.some(_first(n))
                self._request(why, drawn, drawn, self.share)
        return state

    def _burst(self, state: RequestState, suspicion: Suspicion) -> RequestState:
        """Rows that were served already."""
        served, name = self._served(), slice_of(suspicion.why)
        window = newest(self.conn, self.model, self.version, math.ceil(LONGEST_ROWS * self.share))
        since = int((window.served_at >= suspicion.since).sum() / self.share)
        of_slice = window if name is None else window.of_slice(self.conn, self.model, name)
        own = int((of_slice.served_at >= suspicion.since).sum() / self.share)
        state, burst = decide(
            state,
            suspicion.why,
            row=served,
            since=served - since,
            left=budget_of(self.conn, self.config, self.now).left,
            rows=None if name is None else own,
        )
        if burst is None:  # never, after ``_may``
            return state
        stored = math.ceil((burst.end - burst.first) * self.share)
        looked = window.some(_last(len(window), stored))
        candidates = looked if name is None else looked.of_slice(self.conn, self.model, name)
        if not len(candidates):
            return state
        start = self._random(f"{suspicion.why}|{served}")
        picks = spread(len(candidates), burst.back, start)
        p = len(picks) / len(candidates) * self.share
        self._request(suspicion.why, candidates, candidates.some(picks), p)
        return state

    def _awaits(self, why: str) -> bool:
        """Whether the answers of an earlier request for the same reason are still to come."""
        r, rows, o = label_requests.c, label_request_rows.c, outcomes.c
        query = (
            sa.select(r.request_id, r.rows)
            .where(
                r.model == self.model, r.version == self.version, r.why == why,
                r.asked_at > self.now - round(self.config.wait_days * DAY),
            )
            .order_by(r.asked_at.desc(), r.request_id)
            .limit(1)
        )  # fmt: skip
        if (last := self.conn.execute(query).one_or_none()) is None:
            return False
        answered = sa.select(sa.func.count()).where(
            rows.request_id == last.request_id, o.model == rows.model, o.id_hash == rows.id_hash
        )
        n = int(self.conn.execute(answered).scalar_one())
        return n < ANSWERED * int(last.rows)

    def _random(self, what: str) -> float:
        """A draw from [0, 1) that nobody outside can know, and that is the same when it is made
        again."""
        salt = bytes.fromhex(properties.get(self.conn, properties.SALT) or "")
        text = f"{self.model}|{self.version}|{what}".encode()
        digest = hashlib.blake2b(text, digest_size=8, key=salt).digest()
        return int.from_bytes(digest) / 2**64

    def _request(
        self, why: str, population: Requestable, drawn: Requestable, p_include: float
    ) -> None:
        """Write what was drawn, and announce it; rows with a label, or asked for, are left out."""
        wanted = unlabelled(self.conn, self.model, drawn)
        if not len(wanted):
            return
        times = population.served_at
        first, last = int(times.min()), int(times.max())
        named = "|".join((self.model, self.version, why, wanted.ids[0]))
        draw = Draw(
            request_id=str(uuid5(_NAMESPACE, named)), version=self.version, first_served_at=first,
            last_served_at=last, p_include=p_include, slice=slice_of(why),
        )  # fmt: skip
        store_request(self.conn, self.config, draw, why, wanted, now=self.now)
        self.asked += len(wanted)


def _first(rows: int) -> NDArray[np.int64]:
    return np.arange(rows)


def _last(of: int, rows: int) -> NDArray[np.int64]:
    return np.arange(max(0, of - rows), of)
