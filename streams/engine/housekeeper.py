"""Housekeeper: what a stream worker does after its flushes. Say that it lives, join labels,
announce, keep its leases, tidy up.

A thread of its own: none of this may hold up the flush, and any worker may do it for all of them.
"""

from __future__ import annotations

import gc
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa
import structlog

from redistill.streams.engine.health import Health
from redistill.streams.engine.metrics import StreamMetrics
from redistill.streams.errors import StoreUnavailable
from redistill.streams.store import lease, outbox
from redistill.streams.store.database import Database
from redistill.streams.store.join_step import join_labels
from redistill.streams.store.label_requests import LabelRequester
from redistill.streams.store.named_models import MOST, NamedModels, named_models
from redistill.streams.store.process_rows import BEAT_SECONDS, Presence
from redistill.streams.store.rates import MEASURE_SECONDS, RateRaiser
from redistill.streams.store.relay import Relay
from redistill.streams.store.specs import WatchedModel
from redistill.streams.store.tables import findings
from redistill.times import to_seconds, to_us

__all__ = ["LEASE_SECONDS", "REST_SECONDS", "ROUNDS", "HeldLease", "Housekeeper"]

log = structlog.get_logger(__name__)

LEASE_SECONDS = 10.0
ROUNDS = 5
"""Calls of one model before the next model has its turn."""
LAG_BELIEVED_SECONDS = 30.0
"""Lag that was measured earlier is not told: it is not known how far the worker is behind now."""
REST_SECONDS = 30.0
"""A model whose labels cannot be joined is left alone so long, instead of failing twice a second.
"""


@dataclass(slots=True)
class HeldLease:
    """A lease of this worker."""

    name: str
    token: int


class Housekeeper(threading.Thread):
    """Runs every ``every`` seconds, and at once when woken.

    Parameters
    ----------
    watched
        Gives the models that are watched.
    leases
        Held by this worker; losing one is fatal.
    presence
        Tells the others that this worker lives.
    most_models
        So many models are named in metrics.
    clock, monotonic
        Seconds since 1970 (``None``: the database's); seconds between which waits are measured.
    """

    def __init__(
        self,
        *,
        database: Database,
        watched: Callable[[], Mapping[str, WatchedModel]],
        relay: Relay,
        state_key: bytes,
        leases: list[HeldLease],
        presence: Presence,
        health: Health,
        metrics: StreamMetrics,
        most_models: int = MOST,
        every: float = 0.5,
        clock: Callable[[], float] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name="housekeeper", daemon=True)
        self._database = database
        self._watched = watched
        self._relay = relay
        self._key = state_key
        self._leases = leases
        self._presence = presence
        self._health = health
        self._metrics = metrics
        self._most_models = most_models
        self._named = NamedModels(frozenset())
        self._named_of: frozenset[str] = frozenset()
        self._every = every
        self._clock = clock or database.clock.seconds
        self._monotonic = monotonic
        self._requester = LabelRequester(database, state_key=state_key)
        self._raiser = RateRaiser(join_cap=5_000 if database.is_sqlite else float("inf"))
        self._due: dict[str, float] = {}
        self._resting: dict[str, float] = {}
        self._resting_requests: dict[str, float] = {}
        self._wake = threading.Event()
        self._ending = threading.Event()

    def wake(self) -> None:
        """Something was flushed."""
        self._wake.set()

    def stop(self, seconds: float) -> None:
        """End, and give the leases back."""
        self._ending.set()
        self._wake.set()
        if self.is_alive():
            self.join(seconds)
        self._relay.close()
        try:
            with self._database.begin() as conn:
                for owned in self._leases:
                    lease.release(conn, owned.name, owned.token)
        except StoreUnavailable as error:
            log.info("lease_kept", action="lease_kept", error=str(error))

    def run(self) -> None:
        """Until stopped."""
        while not self._ending.is_set():
            self._wake.wait(self._every)
            self._wake.clear()
            self.once()

    def once(self) -> None:
        """One round of everything that is due."""
        for chore in (
            self._renew,
            self._tell,
            self._name_models,
            self._join_labels,
            self._request_labels,
            self._relay_some,
            self._measure,
            self._tidy,
        ):
            if self._ending.is_set():
                return
            self._try(chore)

    def _try(self, chore: Callable[[], None]) -> None:
        try:
            chore()
        except StoreUnavailable:
            return  # it has been said; what is left is refused at once, or can be done
        except Exception:  # a defect in one chore stops no other
            log.exception("housekeeping_failed", action="housekeeping_failed", doing=chore.__name__)

    def _keep_alive(self) -> None:
        """Between the models of a long round: hundreds of them take longer than a lease lasts, and
        than others take for death."""
        self._try(self._renew)
        self._try(self._tell)

    def _is_due(self, name: str, every: float) -> bool:
        now = self._monotonic()
        if now < self._due.get(name, 0.0):
            return False
        self._due[name] = now + every
        return True

    def _now(self) -> int:
        return to_us(self._clock())

    def _renew(self) -> None:
        if not self._leases or not self._is_due("renew", LEASE_SECONDS / 4):
            return
        with self._database.begin() as conn:
            for owned in self._leases:
                if not lease.renew(
                    conn, owned.name, owned.token, now=self._now(), seconds=LEASE_SECONDS
                ):
                    self._health.fatal = f"the lease {owned.name!r} was taken by another worker"

    def _tell(self) -> None:
        if not self._is_due("presence", BEAT_SECONDS):
            return
        health, at = self._health, self._health.lag_measured_at
        known = at is not None and self._monotonic() - at <= LAG_BELIEVED_SECONDS
        self._presence.say(health.waits_for(), lag=health.topic_lag if known else None)

    def _name_models(self) -> None:
        """Which models metrics name: asked again when others are watched."""
        watched = frozenset(self._watched())
        if watched != self._named_of:
            with self._database.read() as conn:
                self._named = named_models(conn, self._most_models)
            self._named_of = watched

    def _join_labels(self) -> None:
        for model, watched in self._watched().items():
            self._keep_alive()
            if self._ending.is_set():
                return
            if self._monotonic() < self._resting.get(model, 0.0):
                continue
            try:
                for _ in range(ROUNDS):
                    step = join_labels(
                        self._database, watched.config, now=self._now(), state_key=self._key
                    )
                    if step is None:
                        break
                    label = self._named.label(model)
                    self._metrics.outcomes.labels(label).inc(step.outcomes)
                    self._metrics.labels_answered.labels(label).inc(step.answers)
                    if step.findings:
                        log.info("findings", action="findings", changes=step.findings)
                    if not step.more or self._ending.is_set():
                        break
                else:
                    # there is more: come back at once, after the others had their turn
                    self._wake.set()
            except StoreUnavailable:
                raise
            except Exception:  # a defect in one model stops no other
                log.exception("join_failed", action="join_failed", model=model)
                self._resting[model] = self._monotonic() + REST_SECONDS

    def _request_labels(self) -> None:
        """Ask for labels where outcomes, or inputs, raise a suspicion."""
        for model, watched in self._watched().items():
            if self._ending.is_set() or watched.config.requests_per_day <= 0:
                continue
            if self._monotonic() < self._resting_requests.get(model, 0.0):
                continue
            self._keep_alive()
            try:
                asked = self._requester.ask(watched.config, now=self._now())
            except StoreUnavailable:
                raise
            except Exception:  # nor does one that nobody can be asked about
                log.exception("request_failed", action="request_failed", model=model)
                self._resting_requests[model] = self._monotonic() + REST_SECONDS
                continue
            label = self._named.label(model)
            self._metrics.labels_requested.labels(label).inc(asked.rows)
            if asked.budget is not None and label == model:
                self._metrics.label_budget_left.labels(label).set(asked.budget.left)

    def _relay_some(self) -> None:
        sent = self._relay.run_once()
        self._metrics.relayed.inc(sent)

    def _measure(self) -> None:
        if self._is_due("rates", MEASURE_SECONDS):
            for watched in self._watched().values():
                self._keep_alive()
                with self._database.begin() as conn:
                    self._raiser.measure(conn, watched.config, now=self._now())
        if self._is_due("metrics", 5.0):
            with self._database.read() as conn:
                waiting = outbox.backlog(conn)
                by_model = (
                    sa.select(findings.c.model, sa.func.count().label("open"))
                    .where(findings.c.status != "resolved")
                    .group_by(findings.c.model)
                )
                still_open = {row.model: row.open for row in conn.execute(by_model)}
            self._metrics.outbox_rows.set(waiting.rows)
            age = 0.0 if waiting.oldest_at is None else to_seconds(self._now() - waiting.oldest_at)
            self._metrics.outbox_age.set(max(0.0, age))
            counts = Counter({self._named.label(model): 0 for model in self._watched()})
            for model in self._watched():
                counts[self._named.label(model)] += still_open.get(model, 0)
            for label, count in counts.items():
                self._metrics.findings_open.labels(label).set(count)

    def _tidy(self) -> None:
        if self._is_due("cycles", 60.0):
            gc.collect()  # by itself it looks seldom, see app: so cycles live a minute at most
        if self._database.is_sqlite and self._is_due("checkpoint", 60.0):
            self._database.checkpoint()
